"""Shared memory of CUTLASS's block-scaled GEMM kernels: constants that nvcc's front end prints."""

import os
import re
import struct
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError

UNITS = Path(__file__).with_name("units")
CPP = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
OUTPUTS = CPP["d"]
AT_ONCE = max(1, (os.cpu_count() or 1) // 2)  # 1.4 GB each; a report runs another notebook beside
# unit::Answer of units/gemm.cuh: these, then offset and bytes of each part.
FIELDS = ["stages", "threads", "mainloop", "epilogue", "kernel", "budget"]
PARTS = ["pipeline barriers", "scheduler", "scheduler response", "CLC response",
         "tensor memory pointer", "tensor maps", "epilogue tensors", "A", "B", "scales of A",
         "scales of B"]


@dataclass(frozen=True)
class Gemm:
    """A kernel: what a runner passes to CUTLASS's collective builders, and whose it is.

    The words are those of gemm.toml; an error for another one, and for a tile that nobody can take.
    """

    tile: tuple  # m, n and k of one block's tile, in elements
    d: str = "bf16"  # output type
    a: str = "nvfp4"  # operand types; b is a's if empty
    b: str = ""
    c: str = "void"  # source type
    grouped: bool = False
    fusion: str = "linear"  # alpha times the accumulator; scatter: the fused finalize
    schedule: str = "cooperative"
    epilogue_schedule: str = "tma"
    epilogue_blockscaled: bool = False
    subtile: tuple = ()  # of the epilogue; the builder chooses if empty
    swap_ab: bool = False
    fixed_stages: int = 0  # 0: StageCountAutoCarveout of the epilogue's SharedStorage
    scheduler: str = "static"
    arch: str = "sm120"
    name: str = ""  # the tile's upstream name, and who builds it
    product: str = ""
    version: str = ""

    def __post_init__(self):
        for field, known in (CPP | {"b": ["", *CPP["a"]], "c": OUTPUTS}).items():
            if getattr(self, field) not in known:
                raise CollectionError(f"{field}={getattr(self, field)!r} is unknown",
                                      f"use one of: {', '.join(filter(None, known))}")
        fine = [isinstance(size, int) and size >= 16 and size % 16 == 0 for size in self.tile]
        if fine != [True] * 3:
            raise CollectionError(f"tile={self.tile} is no tile", "write (m, n, k) in elements, "
                                  "multiples of 16, as in (128, 128, 256)")
        if self.fixed_stages < 0:
            raise CollectionError(f"fixed_stages={self.fixed_stages} is no number of stages",
                                  "write a positive one, or 0 to let CUTLASS choose")

    @property
    def fused(self):
        """Whether the epilogue finalizes and scatters (bool)."""
        return self.fusion.startswith("scatter")

    @property
    def pair(self):
        """Whether a pair of SM100's blocks works on it (bool)."""
        return self.schedule.endswith("2sm")

    @property
    def row(self):
        """What a table says of it (dict): its fields, ``runner``, ``fused``; shown: ``used_by``."""
        runner = "grouped" if self.grouped else "dense"
        kinds = {"MXFP8": self.a == "mxfp8", "x MXFP4": self.b, "SM100": self.arch == "sm100",
                 "pair": self.pair, "fused finalize": self.fused}
        words = (self.product, self.version, runner, *(word for word, so in kinds.items() if so))
        label = " ".join(filter(None, words))
        return asdict(self) | {"runner": runner, "fused": self.fused, "used_by": label}

    def cpp(self):
        """The arguments of PROBE in units/gemm.cuh (str); names make no difference to it."""
        a, b = CPP["a"][self.a], CPP["a"][self.b or self.a]
        (d, bits), (c, c_bits) = OUTPUTS[self.d], OUTPUTS[self.c if self.c != "void" else self.d]
        m, n, k = self.tile
        array, order = "PtrArray" * self.grouped, "Col" if self.swap_ab else "Row"
        any_cluster = self.arch == "sm100" and not self.fused
        return ", ".join(map(str, [
            CPP["arch"][self.arch], str(self.grouped).lower(),
            a[self.arch], a["align"], b[self.arch], b["align"],
            # With a pair of blocks the builder wants the tile of both.
            f"Extent<{m * (1 + self.pair)}, {n}, {k}>",
            "AnyCluster" if any_cluster else f"Extent<{1 + self.pair}, 1, 1>",
            f"arch::OpClass{'BlockScaled' * self.epilogue_blockscaled}TensorOp",
            "cute::Shape<cute::_{}, cute::_{}>".format(*self.subtile) if self.subtile
            else "epi::collective::EpilogueTileAuto",
            "void" if self.c == "void" else c, order,
            a["align"] if self.grouped and self.fusion != "quantize" else 128 // c_bits,
            "void" if self.fused else d, order, 128 // bits,
            CPP["epilogue_schedule"][self.epilogue_schedule].format(array=array),
            CPP["fusion"][self.fusion].format(d=d, c=c),
            CPP["schedule"][self.schedule].format(array=array),
            self.fixed_stages, CPP["scheduler"][self.scheduler]]))


def refusals(messages):
    """What nvcc said, by the unit's lines (dict of int to str): CUTLASS's own assertion first."""
    found = {}
    for block in re.split(r"\n(?=\S+\(\d+\): (?:catastrophic )?error)", messages):
        said = re.search(r"error: (.*)", block)
        places = re.findall(r"(?:line |unit\.cu\()(\d+)(?: of \S*unit\.cu|\): error)", block)
        if said and places:
            line, asserted = int(places[-1]), "static assertion" in said[1]
            if line not in found or (asserted and "static assertion" not in found[line]):
                found[line] = said[1]
    return found


def ask(probes, front_end):
    """The numbers of unit::Answer, or why CUTLASS refuses, by probe (`Gemm.cpp`; dict).

    One unit asks for all; what is refused is taken out, and the rest compiled again. Raises
    CollectionError if nvcc fails, and not for the sake of one kernel.
    """
    answers, todo = {}, list(probes)
    head = ['#include "gemm.cuh"', "using namespace unit;"]
    size = 4 * (len(FIELDS) + 2 * len(PARTS))
    while todo:
        asked = [f"PROBE(probe_{index}, {probe})" for index, probe in enumerate(todo)]
        status, ptx, said = front_end.compile("\n".join(head + asked), "ptx", more=[UNITS])
        if status == 0:
            told = re.findall(r"\.b8 probe_(\d+)\[\d+\] = \{([^}]*)\}", ptx.decode())
            for index, data in told:  # PTX leaves trailing zeros out
                raw = bytes(map(int, data.split(","))).ljust(size, b"\0")
                answers[todo[int(index)]] = struct.unpack(f"<{len(raw) // 4}i", raw)
            return answers
        refused = {todo[line - len(head) - 1]: why for line, why in refusals(said).items()
                   if 0 < line - len(head) <= len(todo)}
        if not refused:
            raise CollectionError(
                f"nvcc failed, and not for the sake of one kernel: {said.strip()[:600]}",
                f"is CUTLASS {front_end.version} older than 4.0, or {front_end.target} no target "
                "of these kernels?")
        answers.update(refused)
        todo = [probe for probe in todo if probe not in refused]
    return answers


def measure(gemms, front_end, at_once=AT_ONCE):
    """Ask CUTLASS for the stages and bytes of kernels (list of Gemm), once, some units `at_once`.

    Returns a DataFrame, a row a kernel: `Gemm.row`, `FIELDS` (bytes; budget is the capacity that
    CUTLASS divides), headroom (bytes, negative where the kernel does not fit), parts (part to
    (offset, bytes)), cutlass (version), and error (CUTLASS's own message where it refuses). Raises
    CollectionError if there is no kernel, and as `ask` does.
    """
    gemms = list(gemms)
    if not gemms:
        raise CollectionError("there is no kernel to measure", "name at least one tile")
    probes = list(dict.fromkeys(gemm.cpp() for gemm in gemms))

    def compile_all(_):
        parts = [probes[start::at_once] for start in range(min(at_once, len(probes)))]
        with ThreadPoolExecutor(at_once) as pool:
            answers = pool.map(lambda part: ask(part, front_end), parts)
            return {probe: said for answer in answers for probe, said in answer.items()}

    asked = {**front_end.key, "unit": UNITS / "gemm.cuh", "probes": probes}
    answers, rows = cache.remember("gemm", asked, compile_all).value, []
    for gemm in gemms:
        answer = answers[gemm.cpp()]
        error, values = (answer, []) if isinstance(answer, str) else ("", answer)
        places = zip(values[len(FIELDS)::2], values[len(FIELDS) + 1::2])
        rows.append(gemm.row | dict(zip(FIELDS, values)) | {
            "parts": dict(zip(PARTS, places)), "cutlass": front_end.version, "error": error})
    table = pd.DataFrame(rows, columns=[*gemms[0].row, *FIELDS, "parts", "cutlass", "error"])
    table[FIELDS] = table[FIELDS].astype("Int64")
    return table.assign(headroom=table["budget"] - table["kernel"])


def account(row):
    """Every byte of a kernel's SharedStorage in order (Series by part, gaps by what follows)."""
    found, at = {}, 0
    parts = sorted((offset, size, name) for name, (offset, size) in row["parts"].items() if size)
    for offset, size, name in [*parts, (row["kernel"], 0, "the end")]:
        if offset > at:
            found[f"padding before {name}"] = offset - at
        if size:
            found[name] = size
        at = max(at, offset + size)
    return pd.Series(found, name=row["name"], dtype=int)
