"""The diffs of patches/: what each is to a tree, and applied by git to scratch copies of one."""

import difflib
import os
import re
import subprocess
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import unidiff

from lib.errors import CollectionError
from lib.subjects import wheels

FOLDER = Path(__file__).parents[2] / "patches"
HEADER = ("What", "Why", "Base", "Licence")
READY, APPLIED, FAILS = "ready", "applied", "does not fit"


class Patch:
    """A unified diff with a header of ``What:``, ``Why:``, ``Base:`` and ``Licence:`` lines.

    `path` is a file, or a name that is looked up in patches/; an error if there is none, it is no
    unified diff of text, its hunks overlap, its header is incomplete, or it names a file outside
    the tree.
    """

    def __init__(self, path):
        self.path = path = FOLDER / path
        if not path.is_file():
            names = ", ".join(sorted(each.name for each in FOLDER.glob("*.diff"))) or "none"
            raise CollectionError(f"there is no patch {path.name}",
                                  f"choose one of patches/: {names}")
        self.text = path.read_text()
        head = self.text.partition("\n--- ")[0]
        stated = re.findall(rf"^({'|'.join(HEADER)}):\s*(\S.*)$", head, re.MULTILINE)
        self.header = dict(reversed(stated))
        if missing := [key for key in HEADER if key not in self.header]:
            raise CollectionError(f"{path.name} has no {', '.join(missing)} in its header",
                                  "write it above the first file of the diff")
        try:
            self.parsed = unidiff.PatchSet(self.text)
            wrong = next(self.faults(), "")
        except unidiff.UnidiffParseError as error:
            wrong = f"is no unified diff: {error}"
        if wrong:
            raise CollectionError(f"{path.name} {wrong}",
                                  "make it anew with diff -U1, from the top folder of its base")

    def faults(self):
        """Why it is not to be applied to any tree (str, one by one)."""
        if not self.parsed:
            yield "changes nothing"
        for file in self.parsed:
            for name in (file.path, file.source_file, file.target_file):
                if name != "/dev/null" and (name.startswith("/") or ".." in Path(name).parts):
                    yield f"names {name}, which is outside the tree"
            if file.is_binary_file:
                yield f"changes {file.path} as a binary file, and only text is patched"
            if any(next.source_start < hunk.source_start + hunk.source_length
                   for hunk, next in pairwise(file)):
                yield f"has hunks of {file.path} that overlap"

    @property
    def files(self):
        """The paths that it changes (list of str)."""
        return [file.path for file in self.parsed]

    def state(self, tree):
        """What it is to a tree: `READY`, `APPLIED` or `FAILS` (also where a file is missing).

        Where git could do both, the side with more lines decides: the other can be a part of it.
        A copy is asked, since git refuses a package that is a link.
        """
        if not all(Path(tree, name).is_file() for name in self.files):
            return FAILS
        with wheels.scratch(tree, *self.files) as copy:
            fits = not self.git(copy, "--check")
            applied = not self.git(copy, "--check", "--reverse")
        if fits and applied:
            return APPLIED if self.parsed.added > self.parsed.removed else READY
        return READY if fits else APPLIED if applied else FAILS

    def apply(self, tree):
        """Apply to a tree, wholly or not at all.

        An error if it does not: a file is missing, or a link that leads out of the tree, it is
        applied already, or which hunk fails and why.
        """
        top, base, name = Path(tree).resolve(), self.header["Base"], self.path.name
        if missing := [each for each in self.files if not (top / each).is_file()
                       or not (top / each).resolve().is_relative_to(top)]:
            raise CollectionError(
                f"{name} changes {', '.join(missing)}, which {tree} does not have, or only as a "
                "link that leads out of it", f"its base is {base}: is this tree of that version?")
        if self.state(tree) == APPLIED:
            raise CollectionError(f"{name} does not apply; the tree is as it was",
                                  "nothing: it is applied already")
        if said := self.git(tree):
            raise CollectionError(
                f"{name} does not apply ({self.reason(tree, said)}); the tree is as it was",
                f"compare the tree with the base of the patch: {base}")

    def reason(self, tree, said):
        """What git's words come to: the first hunk that fails, the line that the file lacks, and
        the line that is most like it."""
        found = re.search(r"patch failed: (.+):(\d+)", said)
        if not found:
            return said.strip().splitlines()[0].removeprefix("error: ")
        file = next(file for file in self.parsed if file.path == found[1])
        number, hunk = next((number, hunk) for number, hunk in enumerate(file, 1)
                            if int(found[2]) in (hunk.source_start, hunk.target_start))
        lines = Path(tree, file.path).read_text().splitlines()
        lacks = (line.value.rstrip("\n") for line in hunk if line.line_type in " -")
        line = next((line for line in lacks if line not in lines), None)
        if line is None:
            return f"{file.path}, hunk {number}: its lines are all there, but not together"
        why = f"this line is not in the file: {line.strip()!r}"
        for like in difflib.get_close_matches(line, lines, n=1):
            at = min((at for at, each in enumerate(lines, 1) if each == like),
                     key=lambda at: abs(at - hunk.source_start))
            why += f"; instead line {at} has {like.strip()!r}"
        return f"{file.path}, hunk {number}: {why}"

    def git(self, tree, *options):
        """What git says when it applies the diff to a tree; empty if it does (str).

        A file keeps its line ends: to one that has CRLF the lines of the diff are given with CRLF.
        """
        diff = ""
        for file in self.parsed:
            target = Path(tree, file.path)
            ends = "\r\n" if target.is_file() and b"\r\n" in target.read_bytes() else "\n"
            diff += f"--- {file.source_file}\n+++ {file.target_file}\n"
            diff += "".join(str(hunk).replace("\n", ends) for hunk in file)
        # With --unidiff-zero a hunk without context behind it need not stand at a file's end.
        command = ["git", "apply", "--unidiff-zero", "--whitespace=nowarn", *options, "-"]
        # A tree in some other checkout is none of that checkout's.
        apart = {"GIT_CEILING_DIRECTORIES": str(Path(tree).resolve().parent), "LC_ALL": "C"}
        done = subprocess.run(command, cwd=tree, env=os.environ | apart, input=diff.encode(),
                              capture_output=True)
        return (done.stderr.decode() or "git gave no reason") if done.returncode else ""


def fitting(tree, pattern):
    """The files of patches/ that a tree is ready for: kind, as ``published``, to name (dict).

    `pattern` is what their names are like, as in ``04-autotuner.*.flashinfer-*``.
    """
    known = map(Patch, sorted(FOLDER.glob(f"{pattern}.diff")))
    return {patch.path.name.split(".")[1]: patch.path.name for patch in known
            if patch.state(tree) == READY}


@contextmanager
def patched(tree, *names, files=()):
    """A scratch copy (Path) of the files of a tree that patches change, with them applied.

    The tree stays as it is. `names` are files of patches/, applied in this order; `files` are more
    files to copy. An error if the tree lacks one, or a patch does not apply.
    """
    chosen = [Patch(name) for name in names]
    wanted = dict.fromkeys([*files, *(name for patch in chosen for name in patch.files)])
    with wheels.scratch(tree, *wanted) as copy:
        for patch in chosen:
            patch.apply(copy)
        yield copy
