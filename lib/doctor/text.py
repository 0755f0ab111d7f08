"""Source files of others as text: read without failing, without comments, with the line that decides."""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

LARGEST = 4 << 20  # bytes; the largest file that is read for is a fifth of that
PYTHON = re.compile(r"""("{3}|'{3}).*?\1|(?P<kept>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|\#[^\n]*""", re.DOTALL)
CPP = re.compile(r'/\*.*?\*/|(?P<kept>"(?:\\.|[^"\\\n])*")|//[^\n]*', re.DOTALL)


@dataclass(frozen=True)
class Line:
    """A line of a source: where it is, and its text (``""`` and 0 for a file as a whole)."""

    file: str
    number: int
    text: str


class Source:
    """One file.

    Attributes
    ----------
    path : str
    lines : list of str
        As they are; undecodable bytes are replaced.
    code : list of str
        The same number of lines without comments and docstrings.
    problem : str
        Why it could not be read, or empty.
    """

    def __init__(self, path):
        self.path, self.problem, self.raw = str(path), "", ""
        try:
            if (size := os.stat(path).st_size) > LARGEST:
                self.problem = f"it has {size:,} bytes, more than such a file can have"
            else:
                self.raw = Path(path).read_bytes().decode(errors="replace")
        except OSError as error:
            self.problem = f"it cannot be read: {error.strerror or error}"
        self.lines = self.raw.split("\n")

    @cached_property
    def bare(self):
        """The text without comments and docstrings; line numbers stay."""
        pattern = PYTHON if self.path.endswith(".py") else CPP
        return pattern.sub(lambda found: found["kept"] or "\n" * found[0].count("\n"), self.raw)

    @cached_property
    def code(self):
        return self.bare.split("\n")

    def at(self, number):
        """A line by its number from 1 (`Line`)."""
        return Line(self.path, number, self.lines[number - 1].strip().rstrip("\\").strip())

    def first(self, pattern, start=1, end=None):
        """The first line of code that a pattern is found in (`Line` or None), between two line numbers."""
        for number in range(start, (end or len(self.code)) + 1):
            if re.search(pattern, self.code[number - 1]):
                return self.at(number)
        return None

    def find(self, pattern):
        """Where a pattern that may span lines is found in the code: the match and its `Line`, or two None."""
        found = re.search(pattern, self.bare)
        return (found, self.at(self.bare.count("\n", 0, found.start()) + 1)) if found else (None, None)

    def functions(self, name):
        """The functions of a Python source whose name matches a pattern: pairs of first and last line number, signature left out."""
        spans = []
        for number, line in enumerate(self.code, 1):
            if not (head := re.match(rf"(\s*)(?:async )?def {name}\(", line)):
                continue
            begin = next((at for at in range(number, len(self.code) + 1) if re.search(r"\)[^()]*:\s*$", self.code[at - 1])), number)
            spans.append((begin + 1, self.block(begin, len(self.code), len(head[1]))))
        return spans

    def block(self, head, end, indent=None):
        """The last line of the indented block that begins after a line, at most `end`."""
        indent = len(self.code[head - 1]) - len(self.code[head - 1].lstrip()) if indent is None else indent
        filled = (at for at in range(head + 1, end + 1) if self.code[at - 1].strip())
        return next((at for at in filled if len(self.code[at - 1]) - len(self.code[at - 1].lstrip()) <= indent), end + 1) - 1


class Tree:
    """A folder whose files are asked for by the relative paths that they have in one layout or another."""

    def __init__(self, root):
        self.root, self.read = Path(root), {}

    def has(self, *names):
        """The first of some relative paths that is a file (str or None)."""
        return next((name for name in names if os.path.isfile(self.root / name)), None)

    def source(self, *names):
        """The first of some relative paths that is a file (`Source`), or None."""
        name = self.has(*names)
        if name and name not in self.read:
            self.read[name] = Source(self.root / name)
        return self.read[name] if name else None
