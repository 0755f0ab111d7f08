"""Kernels of the atlas compiled whole, to see whether *fits* means that a kernel compiles."""

from ast import literal_eval

import pandas as pd

from lib import cache
from lib.atlas import grid, measured
from lib.bug1_shared_memory import gemm
from lib.instruments import nvcc

SEED, COUNT = 12141, 10
UNIT = """#include "gemm.cuh"
#include "cutlass/device_kernel.h"
using namespace unit;
using TheKernel = unit::Gemm<{probe}>::Kernel;
auto* the_kernel = &cutlass::device_kernel<TheKernel>;
"""


def compiled(of, target, probe):
    """Compile a kernel (its `Gemm.cpp`) to machine code, once: about 40 s and 5 GB.

    Returns what nvcc said first (str), nothing if it compiles.
    """
    front = grid.front_end(of, target)

    def ask(_):
        status, _, said = front.compile(UNIT.format(probe=probe), "cubin", more=[gemm.UNITS])
        return nvcc.first_error(said) if status else ""

    return cache.remember("atlas", gemm.inputs(probe, front) | {"source": UNIT}, ask).value


def sample():
    """Draw kernels that were not drawn before, compile them whole, and add them to whole.csv.

    Returns what is there then (DataFrame): `measured.KEY`, status as the atlas had it, its message,
    and what nvcc said.
    """
    before, atlas = kept().drop(columns="compiles"), measured.kept()
    keys, drawn = (list(map(tuple, table[measured.KEY].to_numpy())) for table in (atlas, before))
    rows = atlas[[key not in drawn for key in keys]].sample(COUNT, random_state=SEED)
    said = [compiled(row["of"], row["target"], measured.kernel(row).cpp())
            for _, row in rows.iterrows()]
    table = pd.concat([before, rows[[*measured.KEY, "status", "message"]].assign(said=said)])
    table.to_csv(measured.WHOLE, index=False)
    return table


def kept():
    """The sample as it was kept (DataFrame), and whether each kernel compiles whole (bool)."""
    table = pd.read_csv(measured.WHOLE, keep_default_na=False, converters={"tile": literal_eval})
    return table.assign(compiles=table["said"] == "")
