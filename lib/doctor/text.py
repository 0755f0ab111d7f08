"""Source files of others as text: read within bounds and without failing, without comments."""

import fnmatch
import os
import re
from collections import namedtuple
from functools import cached_property
from pathlib import Path

# The largest source that is read has 0.3 MB, 7,300 lines, and 311 characters in one of them
# (FlashInfer 0.7.2.post1). What is far beyond that is no such source, and is not searched.
LARGEST, MOST_LINES, LONGEST = 2 << 20, 40_000, 600
MOST_ENTRIES, DEEPEST = 100_000, 40  # of the files and folders that are looked at for a name
MOST_ALIKE, LONGEST_SIGNATURE = 8, 80  # functions or files of one name; lines
PYTHON = re.compile(r"""("{3}|'{3}).*?(?:\1|\Z)|\#[^\n]*"""
                    r"""|(?P<kept>"(?:\\.|[^"\\\n])*+"?|'(?:\\.|[^'\\\n])*+'?)""", re.DOTALL)
CPP = re.compile(r"""/\*.*?(?:\*/|\Z)|//[^\n]*|(?P<kept>"(?:\\.|[^"\\\n])*+"?|'\\?.')""", re.DOTALL)
Line = namedtuple("Line", "file number text")


class Source:
    """One file: its `path`, its `raw` text and `lines`, and the `problem` if it was not read."""

    def __init__(self, path):
        self.path, self.problem, self.raw, self.assigned = str(path), "", "", {}
        try:
            if (size := os.stat(path).st_size) > LARGEST:
                self.problem = f"it has {size:,} bytes, more than such a file can have"
            else:
                self.raw = Path(path).read_bytes().decode(errors="replace")
        except OSError as error:
            self.problem = f"it cannot be read: {error.strerror or error}"
        if (count := self.raw.count("\n")) > MOST_LINES:
            self.raw, self.problem = "", f"it has {count:,} lines, more than such a file can have"
        self.lines = self.raw.split("\n")

    @cached_property
    def code(self):
        """The lines without comments and docstrings, cut at `LONGEST`; none is left out."""
        def kept(found):
            return found["kept"] or "\n" * found[0].count("\n")

        text = (PYTHON if self.path.endswith(".py") else CPP).sub(kept, self.raw)
        return [line[:LONGEST] for line in text.split("\n")]

    def at(self, number):
        """A line by its number from 1 (`Line`)."""
        return Line(self.path, number, self.lines[number - 1].strip().rstrip("\\").strip())

    def find(self, pattern, spans=((1, None),)):
        """The `Line` that a pattern is first found in, in the code between lines, or None."""
        for start, end in spans:
            text = "\n".join(self.code[start - 1:end])
            if found := re.search(pattern, text, re.MULTILINE):
                return self.at(start + text.count("\n", 0, found.start()))
        return None

    def functions(self, name):
        """The Python functions of a name (a pattern): pairs of first and last line of the body."""
        spans, head = [], re.compile(rf"\s*(?:async )?def {name}\(")
        heads = [number for number, line in enumerate(self.code, 1) if head.match(line)]
        for number in heads[:MOST_ALIKE]:
            lines = enumerate(self.code[number - 1:][:LONGEST_SIGNATURE], number)
            begin = next((at for at, line in lines if re.search(r"\)[^()]*:\s*$", line)), number)
            spans.append((begin + 1, self.block(begin, len(self.code), self.indent(number))))
        return spans

    def indent(self, number):
        """The indentation of a line; None where it is empty."""
        line = self.code[number - 1]
        return len(line) - len(line.lstrip()) if line.strip() else None

    def block(self, head, end, indent=None):
        """The last line, at most `end`, of the block that is indented more, after a line."""
        indent = self.indent(head) if indent is None else indent
        ends = (at - 1 for at in range(head + 1, end + 1)
                if (found := self.indent(at)) is not None and found <= indent)
        return next(ends, end)


class Tree:
    """A folder whose files are asked for by the names that they have in one layout or another."""

    def __init__(self, root):
        self.root, self.read, self.indexes = Path(root), {}, {}

    def named(self, top, pattern):
        """The files below a folder whose name fits a pattern, shallow ones first (list of str)."""
        if top not in self.indexes:
            index, seen = self.indexes.setdefault(top, {}), 0
            for folder, folders, names in os.walk(self.root / top):
                inner = os.path.relpath(folder, self.root)
                for name in names:
                    index.setdefault(name, []).append(os.path.join(inner, name))
                seen += len(names) + len(folders)
                if seen > MOST_ENTRIES or inner.count(os.sep) > DEEPEST:
                    folders.clear()
        names = fnmatch.filter(self.indexes[top], pattern)
        found = [path for name in names for path in self.indexes[top][name]]
        return sorted(found, key=lambda path: (path.count(os.sep), path))[:MOST_ALIKE]

    def source(self, *names, holds=""):
        """The first of some files that is there (`Source`), or None.

        A name is a relative path, or ``top//name`` for a file of that name anywhere below `top`.
        Of several files it is the first that `holds`, a pattern, is found in.
        """
        first = None
        for name in names:
            top, apart, last = name.partition("//")
            for path in self.named(top, last) if apart else [name]:
                if path not in self.read and os.path.isfile(self.root / path):
                    self.read[path] = Source(self.root / path)
                source = self.read.get(path)
                if source and source.find(holds):
                    return source
                first = first or source
        return first
