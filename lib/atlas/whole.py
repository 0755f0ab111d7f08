"""Kernels of the atlas compiled whole, to see whether *fits* means that a kernel compiles."""

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
    """Draw kernels of the atlas, compile them whole, and keep what came of it in whole.csv.

    Returns it (DataFrame): `measured.KEY`, status as the atlas has it, and what nvcc said.
    """
    rows = measured.kept().sample(COUNT, random_state=SEED)
    said = [compiled(row["of"], row["target"], measured.kernel(row).cpp())
            for _, row in rows.iterrows()]
    table = rows[[*measured.KEY, "status", "message"]].assign(said=said)
    table.to_csv(measured.WHOLE, index=False)
    return table


def kept():
    """The sample as it was kept (DataFrame), and whether each kernel compiles whole (bool)."""
    table = pd.read_csv(measured.WHOLE, keep_default_na=False)
    return table.assign(compiles=table["said"] == "")
