"""Source files of others as text: read within bounds and without failing, without comments."""

import ast
import fnmatch
import os
import re
import stat
import textwrap
import tomllib
import warnings
from collections import namedtuple
from functools import cache, cached_property
from pathlib import Path

# The largest source that is read has 0.3 MB, 7,300 lines, and 311 characters in one of them
# (FlashInfer 0.7.2.post1). What is far beyond that is no such source, and is not searched.
LARGEST, MOST_LINES, LONGEST = 2 << 20, 40_000, 600
MOST_ENTRIES, DEEPEST = 100_000, 40  # of the files and folders that are looked at for a name
MOST_ALIKE = 8  # functions or files of one name
PYTHON = re.compile(r"""("{3}|'{3}).*?(?:\1|\Z)|\#[^\n]*"""
                    r"""|(?P<kept>"(?:\\.|[^"\\\n])*+"?|'(?:\\.|[^'\\\n])*+'?)""", re.DOTALL)
CPP = re.compile(r"""/\*.*?(?:\*/|\Z)|//[^\n]*|(?P<kept>"(?:\\.|[^"\\\n])*+"?|'\\?.')""", re.DOTALL)
NAMES = tomllib.loads(Path(__file__).with_name("rules.toml").read_text())["names"]
Line = namedtuple("Line", "file number text")


def words(node, texts=False):
    """The names in an expression, the outermost first, also its texts (list of str, not empty)."""
    fields = ("attr", "id", "arg", *(["value"] if texts else []))
    found = [getattr(each, field, "") for each in ast.walk(node) for field in fields]
    return [each for each in found if each and isinstance(each, str)] or [""]


class Source:
    """One file: its `path`, its `raw` text and `lines`, and the `problem` if it was not read."""

    def __init__(self, path):
        self.path, self.problem, self.raw, self.partial = str(path), "", "", False
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                self.problem = "it is no ordinary file"
            elif found.st_size > LARGEST:
                self.problem = f"it has {found.st_size:,} bytes, more than such a file can have"
            else:
                text = Path(path).read_bytes().decode("utf-8-sig", errors="replace")
                self.raw = text.replace("\r\n", "\n").replace("\r", "\n")
        except OSError as error:
            self.problem = f"it cannot be read: {error.strerror or error}"
        if (count := self.raw.count("\n")) > MOST_LINES:
            self.raw, self.problem = "", f"it has {count:,} lines, more than such a file can have"
        self.lines = self.raw.split("\n")
        self.is_python = self.path.endswith(".py")

    def without_comments(self, keep):
        """The lines without comments and docstrings, cut at `LONGEST`, and what is in quotes."""
        def kept(found):
            inner = found["kept"] if keep else found["kept"] and found["kept"][0] * 2
            return inner or "\n" * found[0].count("\n")

        text = (PYTHON if self.is_python else CPP).sub(kept, self.raw)
        return [line[:LONGEST] for line in text.split("\n")]

    code = cached_property(lambda self: self.without_comments(keep=False))
    quoted = cached_property(lambda self: self.without_comments(keep=True))

    @cached_property
    def tree(self):
        """The file as Python (ast.Module): of an excerpt, which is `partial`, as far as it goes."""
        lines = textwrap.dedent(self.raw).split("\n")
        for _ in range(MOST_ALIKE):
            try:
                with warnings.catch_warnings(action="ignore"):
                    return ast.parse("\n".join(lines))
            except SyntaxError as error:
                lines, self.partial = lines[:max((error.lineno or 1) - 1, 0)], True
            except (ValueError, RecursionError, MemoryError):
                break
        self.problem = self.problem or "it cannot be parsed as Python"
        return ast.parse("")

    @cached_property
    def defined(self):
        """The Python functions by name (dict of str to list of ast nodes)."""
        found, kinds = {}, ast.FunctionDef | ast.AsyncFunctionDef
        for node in (each for each in ast.walk(self.tree) if isinstance(each, kinds)):
            found.setdefault(node.name, []).append(node)
        return found

    @cached_property
    def assigned(self):
        """What each name is given, with None for what is not known (dict of str to list)."""
        found = {}
        for node in ast.walk(self.tree):
            match node:
                case (ast.Assign(targets=[name], value=given)
                      | ast.AnnAssign(target=name, value=ast.expr() as given)):
                    found.setdefault(words(name)[0], []).append(given)
                case (ast.AugAssign(target=name) | ast.Call(func=ast.Attribute(value=name))
                      | (ast.arg() as name)):
                    found.setdefault(words(name)[0], []).append(None)
        return found

    def at(self, number):
        """A line by its number from 1 (`Line`)."""
        return Line(self.path, number, self.lines[number - 1].strip().rstrip("\\").strip())

    def find(self, pattern, spans=((1, None),)):
        """The `Line` that a pattern is first found in, in the code between lines, or None.

        What stands in quotes is left out, unless the pattern has a quote of its own.
        """
        code = self.quoted if re.search("[\"']", pattern) else self.code
        for start, end in spans:
            text = "\n".join(code[start - 1:end])
            if found := re.search(pattern, text, re.MULTILINE):
                return self.at(start + text.count("\n", 0, found.start()))
        return None

    def functions(self, name):
        """The Python functions whose name fits a pattern (list of ast nodes)."""
        return [node for own, nodes in self.defined.items() if re.fullmatch(name, own)
                for node in nodes]


class Tree:
    """A folder whose files are asked for by the names that they have in one layout or another."""

    def __init__(self, root):
        self.root, self.read, self.indexes = Path(root), cache(Source), {}

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
                source = self.read(self.root / path) if os.path.lexists(self.root / path) else None
                if source and source.find(holds):
                    return source
                first = first or source
        return first
