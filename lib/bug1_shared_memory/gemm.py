"""Shared memory of CUTLASS's GEMM kernels: constants that nvcc's front end prints, or why not.

>>> from lib.bug1_shared_memory import gemm
>>> tiles = [gemm.Gemm((128, 128, 256)), gemm.Gemm((128, 64, 128))]
>>> gemm.measure(tiles)[["tile", "stages", "kernel", "headroom", "status"]]  # doctest: +SKIP
              tile  stages  kernel  headroom            status
0  (128, 128, 256)     2.0 93184.0    8192.0              fits
1   (128, 64, 128)     NaN     NaN       NaN  does not compile
"""

import os
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import psutil

from lib import cache, workers
from lib.bug1_shared_memory import diagnostics
from lib.errors import CollectionError
from lib.instruments import nvcc
from lib.subjects import wheels

__all__ = ["Gemm", "measure", "account"]
UNITS = Path(__file__).with_name("units")
CPP = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
OUTPUTS = CPP["d"]
# unit::Answer of units/gemm.cuh: these, then offset and bytes of each of the parts.
FIELDS = ["stages", "threads", "mainloop", "epilogue", "kernel", "budget"]
PARTS, TARGETS = CPP.pop("parts"), CPP.pop("target")
UNIT, UNIT_BYTES = 72, 5e9  # kernels of one unit, and what a compiler takes for it
AT_ONCE = max(1, min(os.cpu_count() or 1, int(psutil.virtual_memory().total / UNIT_BYTES)))
HEAD = ['#include "gemm.cuh"', "using namespace unit;"]
FITS, LARGE, REFUSED = "fits", "too large", "does not compile"


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
    stages: int = 0  # 0: StageCountAutoCarveout of the epilogue's SharedStorage
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
        for operand in filter(None, (self.a, self.b)):
            if self.arch not in CPP["a"][operand]:
                having = [name for name, each in CPP["a"].items() if self.arch in each]
                raise CollectionError(f"{self.arch} has no kernels for {operand} here",
                                      f"use one of: {', '.join(having)}")

    @property
    def fused(self):
        """Whether the epilogue finalizes and scatters (bool)."""
        return self.fusion.startswith("scatter")

    @property
    def pair(self):
        """Whether a pair of SM100's blocks works on it (bool)."""
        return self.schedule.startswith("2sm")

    @property
    def row(self):
        """What a table says of it (dict): its fields, ``runner``, ``fused``; shown: ``used_by``.

        The stages that were asked for are ``fixed_stages`` there, 0 for what CUTLASS chooses.
        """
        runner = "grouped" if self.grouped else "dense"
        kinds = {"MXFP8": self.a == "mxfp8", "x MXFP4": self.b, "SM100": self.arch == "sm100",
                 "pair": self.pair, "fused finalize": self.fused}
        words = (self.product, self.version, runner, *(word for word, so in kinds.items() if so))
        fields = {{"stages": "fixed_stages"}.get(name, name): value
                  for name, value in asdict(self).items()}
        return fields | {"runner": runner, "fused": self.fused,
                         "used_by": " ".join(filter(None, words))}

    def cpp(self):
        """The arguments of PROBE in units/gemm.cuh (str); names make no difference to it."""
        a, b = CPP["a"][self.a], CPP["a"][self.b or self.a]
        (d, bits), (c, c_bits) = OUTPUTS[self.d], OUTPUTS[self.c if self.c != "void" else self.d]
        m, n, k = self.tile
        order, words = "Col" if self.swap_ab else "Row", {
            "array": "PtrArray" * self.grouped, "vector": a["vector"],
            "kind": a["kind"] if a == b else "Mxf8f6f4"}
        return ", ".join(map(str, [
            CPP["arch"][self.arch], str(self.grouped).lower(),
            a[self.arch], a["align"], b[self.arch], b["align"],
            # With a pair of blocks the builder wants the tile of both.
            f"Extent<{m * (1 + self.pair)}, {n}, {k}>",
            "AnyCluster" if self.arch in ("sm100", "sm103") and not self.fused
            else f"Extent<{1 + self.pair}, 1, 1>",
            f"arch::OpClass{'BlockScaled' * self.epilogue_blockscaled}TensorOp",
            "cute::Shape<cute::_{}, cute::_{}>".format(*self.subtile) if self.subtile
            else "epi::collective::EpilogueTileAuto",
            "void" if self.c == "void" else c, order,
            a["align"] if self.grouped and self.fusion != "quantize" else 128 // c_bits,
            "void" if self.fused else d, order, 128 // bits,
            CPP["epilogue_schedule"][self.epilogue_schedule].format(**words),
            CPP["fusion"][self.fusion].format(d=d, c=c),
            CPP["schedule"][self.schedule].format(**words),
            self.stages, CPP["scheduler"][self.scheduler]]))


def inputs(probe, front_end):
    """What an answer about a probe (`Gemm.cpp`) depends on (dict; see `cache.remember`)."""
    return {**front_end.key, "unit": UNITS / "gemm.cuh", "probe": probe}


def opened(front_end, target):
    """What compiles for a target: `nvcc.FrontEnd`, or the one of a pinned wheel's CUTLASS.

    The wheel is a FlashInfer by its version, by default the first that is pinned.
    """
    if not isinstance(front_end, str | None):
        return front_end
    pinned = [wheel.version for wheel in wheels.pins() if wheel.name == "flashinfer-python"]
    return nvcc.of_flashinfer(front_end or pinned[0], target)


def kept(probe, front_end):
    """The answer about a probe that is there (`cache.Answer`), or None."""
    return cache.kept("gemm", inputs(probe, front_end), __name__)


def compiled(probes, front_end):
    """What one unit tells (dict): numbers of unit::Answer by probe or, if nvcc refuses any of
    them, CUTLASS's words about probes at fault."""
    lines = dict(enumerate(probes, len(HEAD) + 1))
    asked = [f"PROBE({line}, {probe})" for line, probe in lines.items()]
    _, _, said = front_end.compile("\n".join(HEAD + asked), "ptx", *diagnostics.ALL, more=[UNITS])
    answers = diagnostics.refusals(said) or diagnostics.numbers(said)
    if not answers or min(answers) <= len(HEAD):
        raise CollectionError(
            f"CUTLASS {front_end.version} does not build these kernels for "
            f"{front_end.target}: {nvcc.first_error(said)}",
            "use a FlashInfer with CUTLASS 4.0 or later, and a target that these kernels have")
    return {lines[line]: answer for line, answer in answers.items()}


def settle(probes, front_end, target):
    """Answer every probe of a unit, and keep each answer on its own; for `workers.ask`."""
    front, found, todo = opened(front_end, target), {}, list(probes)

    def one(probe):
        while probe not in found:
            found.update(compiled([each for each in todo if each not in found], front))
        return found[probe]

    for probe in probes:
        cache.remember("gemm", inputs(probe, front), lambda _: one(probe))


def asked(gemms):
    """The probes of kernels (list of `Gemm`) by the target of their architecture (dict of set)."""
    found = {}
    for gemm in gemms:
        found.setdefault(TARGETS[gemm.arch], set()).add(gemm.cpp())
    return found


def units(probes):
    """Probes in lists of at most `UNIT`, each compiler's share, those of a mainloop together."""
    count = min(len(probes), AT_ONCE * -(-len(probes) // (AT_ONCE * UNIT)))
    ordered, edges = sorted(probes), [len(probes) * each // count for each in range(count + 1)]
    return [ordered[start:end] for start, end in zip(edges, edges[1:])]


def measure(gemms, front_end=None):
    """Ask CUTLASS for the stages and bytes of kernels (list of Gemm), each once.

    `front_end` is a `nvcc.FrontEnd`, or the version of a pinned FlashInfer whose CUTLASS is asked,
    the first that is pinned if None; each architecture has its own target then.
    Returns a DataFrame, a row a kernel: `Gemm.row`, `FIELDS` (bytes; budget is the capacity that
    CUTLASS divides), parts (part to (offset, bytes)), cutlass (version), headroom (bytes, negative
    where the kernel does not fit), status (``fits``, ``too large`` or ``does not compile``) and
    message (CUTLASS's own words where it does not; the numbers are missing then). Kernels that
    were asked before cost nothing; a new one 6 s, and 0.5 s for each beside it. Raises
    CollectionError if nothing compiles with this CUTLASS and target.
    """
    rows, fronts = [], {}
    for target, probes in asked(gemms).items():
        fronts[target] = front = opened(front_end, target)
        new = {probe for probe in probes if not kept(probe, front)}
        shares = units(new) if new else []
        questions = [{"probes": unit, "front_end": front_end, "target": target}
                     for unit in shares]
        title = f"{len(new)} kernels, CUTLASS {front.version}"
        for outcome in workers.ask(settle, questions, title, at_once=AT_ONCE):
            if outcome.error:
                raise outcome.error
    for gemm in gemms:
        front = fronts[TARGETS[gemm.arch]]
        answer = kept(gemm.cpp(), front).value
        refused = isinstance(answer, str)
        numbers = [None] * len(FIELDS) if refused else answer[:len(FIELDS)]
        places = () if refused else answer[len(FIELDS):]
        rows.append(gemm.row | dict(zip(FIELDS, numbers)) | {
            "parts": dict(zip(PARTS, zip(places[::2], places[1::2]))), "cutlass": front.version,
            "message": answer if refused else ""})
    table = pd.DataFrame(rows)
    left = table["budget"] - table["kernel"]
    status = left.map(lambda bytes: REFUSED if pd.isna(bytes) else FITS if bytes >= 0 else LARGE)
    return table.assign(headroom=left, status=status)


def account(row):
    """Every byte of a kernel's SharedStorage in order (Series by part, gaps by what follows)."""
    found, at = {}, 0
    parts = sorted((offset, size, name) for name, (offset, size) in row["parts"].items() if size)
    for offset, size, name in [*parts, (row["kernel"], 0, "the end")]:
        found |= {f"padding before {name}": offset - at, name: size}
        at = max(at, offset + size)
    sizes = pd.Series(found, name=row["name"], dtype=int)
    return sizes[sizes > 0]
