"""What nvcc's front end says of a unit of kernels (units/gemm.cuh): their numbers, or why not."""

import re
from pathlib import Path
from typing import NamedTuple

ALL = ("-Xcicc", "--error_limit=1000000")  # cicc, nvcc's front end, stops at the 100th
# Parts that kernels may share, in the order in which nvcc comes to them: by class or tensor map,
# and which of the types of unit::Found each stands or falls with.
SHARED = {"epilogue::collective::Collective": 0, "gemm::collective::Collective": 1, "TMA_A": 2,
          "TMA_B": 3, "TMA_SFA": 2, "TMA_SFB": 3, "gemm::kernel::GemmUniversal": 4}
TYPES = 5


class Error(NamedTuple):
    """An error: the line of the unit that led to it, 0 if none did, its part, of `SHARED` or empty,
    and its words, CUTLASS's if it is an assertion."""

    line: int
    part: str
    words: str
    asserted: bool


def numbers(said):
    """The numbers of unit::Answer by the line of the unit (dict of tuple)."""
    return {line: told[TYPES:] for line, told in found(said).items()}


def found(said):
    """What unit::Found has of a kernel (dict by line): `TYPES` types, then its numbers."""
    told = re.findall(r"unit::Found<(\d+), ([-\d, ]+)>", said)
    return {int(line): tuple(map(int, numbers.split(","))) for line, numbers in told}


def errors(said):
    """What nvcc reports, but for the errors that have a kernel's numbers (list of `Error`)."""
    reported = []
    for block in re.split(r"^(?=\S.*\): (?:catastrophic )?error)", said, flags=re.M)[1:]:
        places = re.findall(r"unit\.cu\((\d+)\): |at line (\d+) of \S*unit\.cu$", block, re.M)
        line = int("".join(places[-1])) if places else 0
        words, condition = re.match(r".*?error[^:]*: (.*)\n?(.*)", block).groups()
        if stated := re.match(r'static assertion failed(?: with "(.*)")?', words):
            words = stated[1] or condition.strip()
        if "unit::Told<" not in words:
            reported.append(Error(line, part(block), words, bool(stated)))
    return reported


def part(block):
    """Which of `SHARED` an error (str) is in, or empty: the tensor map that CUTLASS defines at the
    line, `unit::Whole` where it is erroneous in our own, else the innermost class."""
    if 'incomplete type "unit::whole<' in block:
        return "TMA"
    names = []
    if where := re.search(r"::make_tma_copy\(.* at line (\d+) of (\S+)$", block, re.M):
        above = Path(where[2]).read_text().splitlines()[:int(where[1])]
        names = re.findall(r"using (TMA_\w+)", "\n".join(above))[-1:]
    inside = names + re.findall("|".join(SHARED), block)
    return next((name for name in inside if name in SHARED), "")


def refusals(said):
    """What CUTLASS says about lines of a unit that nvcc refuses (dict of int to str).

    It is the first assertion that is reported for the line; where there is none at all, nvcc's
    words. Nvcc reports once what fails in a part: lines that share it have its words, and so have
    those with an erroneous tensor map, where all maps fail alike. Line 0 has what is no line's
    fault. Lines may be missing while others are there: ask them again without those.
    """
    kernels, reported = found(said), errors(said)[::-1]  # so that in a dict the first one stays
    asserted = [error for error in reported if error.asserted]
    own = {error.line: error.words for error in asserted}
    broken = {(error.part, kernels[error.line][SHARED[error.part]]): own[error.line]
              for error in asserted if error.part and error.line in kernels}
    shared = {line: broken[name, types[index]] for line, types in kernels.items()
              for name, index in reversed(SHARED.items()) if (name, types[index]) in broken}
    maps = {error.line: error.words for error in asserted if error.part.startswith("TMA")}
    words = own | shared
    if len(alike := set(maps.values())) == 1:
        erroneous = [error.line for error in reported if error.part.startswith("TMA")]
        words = dict.fromkeys(erroneous, *alike) | words
    others = {error.line: error.words for error in reported}
    return others if 0 in others or not words else words
