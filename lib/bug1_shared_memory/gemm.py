"""Shared memory of CUTLASS's block-scaled GEMM kernels: constants that nvcc's front end prints."""

import os
import re
import struct
import tomllib
from collections import ChainMap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import nvcc

UNITS = Path(__file__).with_name("units")
CPP = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
OUTPUTS = CPP["d"]
AT_ONCE = max(1, (os.cpu_count() or 1) // 2)  # 1.4 GB each; a report runs another notebook beside
# unit::Answer of units/gemm.cuh: these, then offset and bytes of each of the parts.
FIELDS = ["stages", "threads", "mainloop", "epilogue", "kernel", "budget"]
PARTS = CPP.pop("parts")


@dataclass(frozen=True)
class Gemm:
    """A kernel: what a runner passes to CUTLASS's collective builders, and whose it is.

    The words are those of gemm.toml; an error for another one.
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
        return asdict(self) | {"runner": runner, "fused": self.fused,
                               "used_by": " ".join(filter(None, words))}

    def cpp(self):
        """The arguments of PROBE in units/gemm.cuh (str); names make no difference to it."""
        a, b = CPP["a"][self.a], CPP["a"][self.b or self.a]
        (d, bits), (c, c_bits) = OUTPUTS[self.d], OUTPUTS[self.c if self.c != "void" else self.d]
        m, n, k = self.tile
        array, order = "PtrArray" * self.grouped, "Col" if self.swap_ab else "Row"
        return ", ".join(map(str, [
            CPP["arch"][self.arch], str(self.grouped).lower(),
            a[self.arch], a["align"], b[self.arch], b["align"],
            # With a pair of blocks the builder wants the tile of both.
            f"Extent<{m * (1 + self.pair)}, {n}, {k}>",
            "AnyCluster" if self.arch == "sm100" and not self.fused
            else f"Extent<{1 + self.pair}, 1, 1>",
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


def ask(probes, front_end):
    """The numbers of unit::Answer by probe (`Gemm.cpp`; dict), from one unit, as `measure` does."""
    asked = [f"PROBE(probe_{index}, {probe})" for index, probe in enumerate(probes)]
    unit = "\n".join(['#include "gemm.cuh"', "using namespace unit;", *asked])
    status, ptx, said = front_end.compile(unit, "ptx", more=[UNITS])
    if status:
        raise CollectionError(
            f"CUTLASS {front_end.version} does not build one of these kernels for "
            f"{front_end.target}: {nvcc.first_error(said)}",
            "use a FlashInfer with CUTLASS 4.0 or later, and a target that these kernels have")
    size, answers = 4 * (len(FIELDS) + 2 * len(PARTS)), {}
    for index, data in re.findall(r"\.b8 probe_(\d+)\[\d+\] = \{([^}]*)\}", ptx.decode()):
        raw = bytes(map(int, data.split(","))).ljust(size, b"\0")  # PTX leaves trailing zeros out
        answers[probes[int(index)]] = struct.unpack(f"<{size // 4}i", raw)
    return answers


def measure(gemms, front_end):
    """Ask CUTLASS for the stages and bytes of kernels (list of Gemm), once, `AT_ONCE` units.

    Returns a DataFrame, a row a kernel: `Gemm.row`, `FIELDS` (bytes; budget is the capacity that
    CUTLASS divides), parts (part to (offset, bytes)), cutlass (version), and headroom (bytes,
    negative where the kernel does not fit). Raises CollectionError if nvcc refuses a kernel, with
    CUTLASS's own message.
    """
    probes = list(dict.fromkeys(gemm.cpp() for gemm in gemms))

    def compile_all(_):
        shares = [probes[start::AT_ONCE] for start in range(min(AT_ONCE, len(probes)))]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(ChainMap(*pool.map(lambda share: ask(share, front_end), shares)))

    asked = {**front_end.key, "unit": UNITS / "gemm.cuh", "probes": probes}
    answers, rows = cache.remember("gemm", asked, compile_all).value, []
    for gemm in gemms:
        numbers = answers[gemm.cpp()]
        places = numbers[len(FIELDS):]
        parts = dict(zip(PARTS, zip(places[::2], places[1::2])))
        rows.append(gemm.row | dict(zip(FIELDS, numbers))
                    | {"parts": parts, "cutlass": front_end.version})
    table = pd.DataFrame(rows)
    return table.assign(headroom=table["budget"] - table["kernel"])


def account(row):
    """Every byte of a kernel's SharedStorage in order (Series by part, gaps by what follows)."""
    found, at = {}, 0
    parts = sorted((offset, size, name) for name, (offset, size) in row["parts"].items() if size)
    for offset, size, name in [*parts, (row["kernel"], 0, "the end")]:
        found |= {f"padding before {name}": offset - at, name: size}
        at = max(at, offset + size)
    sizes = pd.Series(found, name=row["name"], dtype=int)
    return sizes[sizes > 0]
