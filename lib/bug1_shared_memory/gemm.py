"""Shared memory of CUTLASS's block-scaled GEMM kernels, as CUTLASS computes it.

Sizes are compile-time constants, so nvcc's front end alone gives them: one translation unit holds many kernels, each leaves
one device constant, and the constants are read out of the PTX.
"""

import json
import os
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError

UNITS = Path(__file__).with_name("units")
UNIT = UNITS / "gemm.cuh"
# Operand types: the pair of element and scale in C++, the block-scaled type of SM120's builder, elements in 16 bytes.
OPERANDS = {
    "nvfp4": ("float_e2m1_t, float_ue4m3_t", "nv_float4_t<float_e2m1_t>", 32),
    "mxfp8": ("float_e4m3_t, float_ue8m0_t", "mx_float8_t<float_e4m3_t>", 16),
    "mxfp4": ("float_e2m1_t, float_ue8m0_t", "mx_float4_t<float_e2m1_t>", 128),
}
OUTPUTS = {"bf16": ("bfloat16_t", 16), "fp16": ("half_t", 16), "fp32": ("float", 32), "fp4": ("float_e2m1_t", 4), "void": ("void", 16)}
FUSIONS = {"linear": "Linear<{d}>", "default": "Default", "scatter": "Scatter<{d}>", "scatter-swap": "ScatterSwap<{d}>",
           "quantize": "Quantize<{c}>"}
SCHEDULES = {
    "auto": "KernelScheduleAuto",
    "cooperative": "cutlass::gemm::KernelTmaWarpSpecializedCooperative",
    "1sm": "cutlass::gemm::KernelTmaWarpSpecialized1SmNvf4Sm100",
    "2sm": "cutlass::gemm::KernelTmaWarpSpecialized2SmNvf4Sm100",
    "array-1sm": "cutlass::gemm::KernelPtrArrayTmaWarpSpecialized1SmNvf4Sm100",
    "array-2sm": "cutlass::gemm::KernelPtrArrayTmaWarpSpecialized2SmNvf4Sm100",
}
EPILOGUES = {
    "auto": "epi::collective::EpilogueScheduleAuto",
    "tma": "epi::TmaWarpSpecialized",
    "1sm": "epi::TmaWarpSpecialized1Sm",
    "2sm": "epi::TmaWarpSpecialized2Sm",
    "array-1sm": "epi::PtrArrayTmaWarpSpecialized1Sm",
    "array-2sm": "epi::PtrArrayTmaWarpSpecialized2Sm",
}
SCHEDULERS = {"static": "cutlass::gemm::StaticPersistentScheduler", "stream-k": "cutlass::gemm::StreamKScheduler",
              "persistent": "cutlass::gemm::PersistentScheduler", "void": "void"}
ARCHITECTURES = ("sm100", "sm120")
# unit::Answer of units/gemm.cuh: these, then offset and bytes of each part.
FIELDS = ["stages", "threads", "mainloop", "epilogue", "kernel", "budget"]
PARTS = ["pipeline barriers", "scheduler", "scheduler response", "CLC response", "tensor memory pointer", "tensor maps", "epilogue tensors",
         "A", "B", "scales of A", "scales of B"]


@dataclass(frozen=True)
class Gemm:
    """A kernel: what a runner passes to CUTLASS's collective builders.

    Attributes
    ----------
    tile : tuple of int
        m, n and k of one block's tile, in elements.
    d, c : str
        Output and source type, of `OUTPUTS`.
    a, b : str
        Operand types, of `OPERANDS`; `b` is `a` if empty.
    fusion : str
        Of `FUSIONS`: ``linear`` is alpha times the accumulator, ``default`` the builder's own, ``scatter`` the fused finalize.
    fixed_stages : int
        0 for StageCountAutoCarveout of the epilogue's SharedStorage.
    name, used_by : str
        The tile's upstream name, and who asks for it.

    Raises
    ------
    CollectionError
        For an unknown type, schedule, scheduler or architecture, and for a tile that no builder can take.
    """

    tile: tuple
    d: str = "bf16"
    a: str = "nvfp4"
    b: str = ""
    c: str = "void"
    grouped: bool = False
    fusion: str = "linear"
    schedule: str = "cooperative"
    epilogue_schedule: str = "tma"
    epilogue_blockscaled: bool = False
    subtile: tuple = ()
    swap_ab: bool = False
    fixed_stages: int = 0
    scheduler: str = "static"
    arch: str = "sm120"
    name: str = ""
    used_by: str = ""

    def __post_init__(self):
        known = {"d": OUTPUTS, "c": OUTPUTS, "a": OPERANDS, "b": ["", *OPERANDS], "fusion": FUSIONS, "schedule": SCHEDULES,
                 "epilogue_schedule": EPILOGUES, "scheduler": SCHEDULERS, "arch": ARCHITECTURES}
        for field, values in known.items():
            if getattr(self, field) not in values:
                raise CollectionError(f"{field}={getattr(self, field)!r} is unknown", f"use one of: {', '.join(filter(None, values))}")
        if len(self.tile) != 3 or any(not isinstance(size, int) or size < 16 or size % 16 for size in self.tile):
            raise CollectionError(f"tile={self.tile} is no tile", "write (m, n, k) in elements, multiples of 16, as in (128, 128, 256)")
        if self.fixed_stages < 0:
            raise CollectionError(f"fixed_stages={self.fixed_stages} is no number of stages",
                                  "write a positive one, or 0 to let CUTLASS choose")

    def cpp(self):
        """The arguments of PROBE in units/gemm.cuh (str); kernels that differ only in their names have the same."""
        a, b = OPERANDS[self.a], OPERANDS[self.b or self.a]
        sm100, scatter, pair = self.arch == "sm100", self.fusion.startswith("scatter"), self.schedule.endswith("2sm")
        types = [f"Pair<{each[0]}>" if sm100 else each[1] for each in (a, b)]
        (d, bits), (c, c_bits) = OUTPUTS[self.d], OUTPUTS[self.c if self.c != "void" else self.d]
        m, n, k = self.tile
        cluster = "AnyCluster" if sm100 and not scatter else f"Extent<{1 + pair}, 1, 1>"
        order = "Col" if self.swap_ab else "Row"
        return ", ".join(map(str, [
            f"arch::{self.arch.capitalize()}", str(self.grouped).lower(), types[0], a[2], types[1], b[2],
            f"Extent<{m * (1 + pair)}, {n}, {k}>", cluster,  # with a pair of blocks the builder wants the tile of both
            "arch::OpClassBlockScaledTensorOp" if self.epilogue_blockscaled else "arch::OpClassTensorOp",
            f"cute::Shape<cute::_{self.subtile[0]}, cute::_{self.subtile[1]}>" if self.subtile else "epi::collective::EpilogueTileAuto",
            "void" if self.c == "void" else c, order, a[2] if self.grouped and self.fusion != "quantize" else 128 // c_bits,
            "void" if scatter else d, order, 128 // bits, EPILOGUES[self.epilogue_schedule], FUSIONS[self.fusion].format(d=d, c=c),
            SCHEDULES[self.schedule], self.fixed_stages, SCHEDULERS[self.scheduler]]))


def refusals(messages):
    """What nvcc said, by the line of the unit that it is about (dict of int to str): CUTLASS's own assertion if there is one."""
    found = {}
    for block in re.split(r"\n(?=\S+\(\d+\): (?:catastrophic )?error)", messages):
        said = re.search(r"error: (.*)", block)
        places = re.findall(r"(?:line |unit\.cu\()(\d+)(?: of \S*unit\.cu|\): error)", block)
        if said and places:
            line = int(places[-1])
            if line not in found or ("static assertion" in said[1] and "static assertion" not in found[line]):
                found[line] = said[1]
    return found


def ask(probes, front_end):
    """Compile one unit of probes; the ones that CUTLASS refuses are taken out, and the rest compiled again.

    Parameters
    ----------
    probes : list of str
        What `Gemm.cpp` gives.

    Returns
    -------
    dict of str to (list of int, or str)
        The numbers of unit::Answer, or the reason why it does not compile.

    Raises
    ------
    CollectionError
        If nvcc fails, and not for the sake of one kernel.
    """
    answers, todo = {}, list(probes)
    head = ['#include "gemm.cuh"', "using namespace unit;"]
    while todo:
        unit = "\n".join(head + [f"PROBE(probe_{index}, {probe})" for index, probe in enumerate(todo)])
        status, ptx, messages = front_end.compile(unit, "ptx", more=[UNITS])
        if status == 0:
            for index, data in re.findall(r"\.b8 probe_(\d+)\[\d+\] = \{([^}]*)\}", ptx.decode()):
                raw = bytes(map(int, data.split(","))).ljust(4 * (len(FIELDS) + 2 * len(PARTS)), b"\0")  # PTX leaves trailing zeros out
                answers[todo[int(index)]] = struct.unpack(f"<{len(raw) // 4}i", raw)
            return answers
        refused = {todo[line - len(head) - 1]: said for line, said in refusals(messages).items() if 0 < line - len(head) <= len(todo)}
        if not refused:
            raise CollectionError(f"nvcc failed, and not for the sake of one kernel: {messages.strip()[:600]}",
                                  f"is CUTLASS {front_end.version} older than 4.0, or {front_end.target} no target of these kernels?")
        answers.update(refused)
        todo = [probe for probe in todo if probe not in refused]
    return answers


def measure(gemms, front_end, at_once=min(2, os.cpu_count() or 1)):
    """Ask CUTLASS for the stages and bytes of kernels; once for each compiler, CUTLASS and list of kernels.

    Parameters
    ----------
    gemms : sequence of Gemm
        Those that differ only in their names are compiled once.
    front_end : FrontEnd
    at_once : int
        Units to compile at the same time.

    Returns
    -------
    DataFrame
        A row a kernel: the fields of `Gemm`, `FIELDS` (bytes; budget is the capacity that CUTLASS divides), ``headroom`` (bytes,
        negative where the kernel does not fit), ``parts`` (part to (offset, bytes)), ``cutlass`` (version), and ``error``: CUTLASS's
        own message where it refuses.

    Raises
    ------
    CollectionError
        If there is nothing to measure, or the compiler fails for a reason that is not one kernel's.
    """
    gemms = list(gemms)
    if not gemms:
        raise CollectionError("there is no kernel to measure", "name at least one tile")
    probes = list(dict.fromkeys(gemm.cpp() for gemm in gemms))

    def build(folder):
        with ThreadPoolExecutor(at_once) as pool:
            parts = [probes[start::at_once] for start in range(min(at_once, len(probes)))]
            answers = [pair for answer in pool.map(lambda part: ask(part, front_end), parts) for pair in answer.items()]
        (folder / "answers.json").write_text(json.dumps(dict(answers)))

    key = {**front_end.key, "unit": UNIT.read_text(), "module": Path(__file__).read_text(), "probes": probes}
    answers = json.loads((cache.entry("gemm", key, build) / "answers.json").read_text())
    rows = []
    for gemm in gemms:
        answer = answers[gemm.cpp()]
        refused = isinstance(answer, str)
        values = [] if refused else answer
        places = zip(values[len(FIELDS)::2], values[len(FIELDS) + 1::2])
        rows.append(asdict(gemm) | dict(zip(FIELDS, values)) | {"parts": dict(zip(PARTS, places)), "cutlass": front_end.version,
                                                                "error": answer if refused else ""})
    table = pd.DataFrame(rows, columns=[*asdict(gemms[0]), *FIELDS, "parts", "cutlass", "error"])
    table[FIELDS] = table[FIELDS].astype("Int64")
    table.insert(table.columns.get_loc("budget") + 1, "headroom", table["budget"] - table["kernel"])
    return table


def account(row):
    """Every byte of one kernel's SharedStorage in its order (Series of bytes by part); alignment gaps are named after what follows."""
    found, at = {}, 0
    parts = sorted((offset, size, name) for name, (offset, size) in row["parts"].items() if size)
    for offset, size, name in [*parts, (row["kernel"], 0, "the end")]:
        if offset > at:
            found[f"padding before {name}"] = offset - at
        if size:
            found[name] = size
        at = max(at, offset + size)
    return pd.Series(found, name=row["name"], dtype=int)
