"""The diffs of patches/: what each is to a tree, and applied by git to scratch copies of one."""

import os
import re
import subprocess
import tempfile
from contextlib import contextmanager
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
    unified diff, or its header is incomplete.
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
        except unidiff.UnidiffParseError as error:
            raise CollectionError(f"{path.name} is no unified diff: {error}",
                                  "make it anew with diff -U1") from error
        if not self.parsed:
            raise CollectionError(f"{path.name} changes nothing", "make it anew with diff -U1")

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

        Raises
        ------
        CollectionError
            If it does not: a file is missing, it is applied already, or which hunk fails and why.
        """
        self.turn(tree, READY)

    def revert(self, tree):
        """Take back from a tree, wholly or not at all; raises as `apply` does."""
        self.turn(tree, APPLIED, "--reverse")

    def turn(self, tree, wanted, *direction):
        """Have git apply it in a direction, if it is `wanted` to the tree."""
        missing = [name for name in self.files if not Path(tree, name).is_file()]
        if missing:
            raise CollectionError(
                f"{self.path.name} changes {', '.join(missing)}, which {tree} does not have",
                f"its base is {self.header['Base']}: is this tree of that version?")
        verb, state = "revert" if direction else "apply", self.state(tree)
        if state not in (wanted, FAILS):
            raise CollectionError(f"{self.path.name} does not {verb}; the tree is as it was",
                                  "nothing: it was not applied here" if direction else
                                  "nothing: it is applied already")
        if said := self.git(tree, *direction):
            reason = self.reason(tree, said)
            raise CollectionError(
                f"{self.path.name} does not {verb} ({reason}); the tree is as it was",
                f"compare the tree with the base of the patch: {self.header['Base']}")

    def reason(self, tree, said):
        """What git's words come to: the first hunk that fails, and the line that the file lacks."""
        found = re.search(r"patch failed: (.+):(\d+)", said)
        if not found:
            return said.strip().splitlines()[0].removeprefix("error: ")
        file = next(file for file in self.parsed if file.path == found[1])
        lines = Path(tree, file.path).read_text().splitlines()
        for number, hunk in enumerate(file, 1):
            if str(hunk.source_start) == found[2] or str(hunk.target_start) == found[2]:
                old = [line.value.rstrip("\n") for line in hunk if line.line_type in " -"]
                lacks = next((line for line in old if line not in lines), None)
                why = "its lines are all there, but not together" if lacks is None else \
                    f"this line is not in the file: {lacks.strip()!r}"
                return f"{file.path}, hunk {number}: {why}"
        return f"{file.path}, line {found[2]}"

    def git(self, tree, *options):
        """What git says when it applies the diff to a tree; empty if it does (str)."""
        # With --unidiff-zero a hunk without context behind it need not stand at a file's end.
        command = ["git", "apply", "--unidiff-zero", "--whitespace=nowarn", *options,
                   self.path.absolute()]
        # A tree in some other checkout is none of that checkout's.
        apart = {"GIT_CEILING_DIRECTORIES": str(Path(tree).resolve().parent), "LC_ALL": "C"}
        done = subprocess.run(command, cwd=tree, env=os.environ | apart,
                              capture_output=True, text=True)
        return (done.stderr or "git gave no reason") if done.returncode else ""


@contextmanager
def patched(tree, *names, files=()):
    """A scratch copy (Path) of the files of a tree that patches change, with them applied.

    The tree stays as it is. `names` are files of patches/, applied in this order; `files` are more
    files to copy. An error if a patch does not apply.
    """
    chosen = [Patch(name) for name in names]
    wanted = dict.fromkeys([*files, *(name for patch in chosen for name in patch.files)])
    if not wanted:
        with tempfile.TemporaryDirectory(prefix="sm12x-") as nothing:
            yield Path(nothing)
        return
    if missing := [name for name in wanted if not Path(tree, name).is_file()]:
        raise CollectionError(f"{tree} does not have {', '.join(missing)}",
                              "name a tree of the version that the patches are for")
    with wheels.scratch(tree, *wanted) as copy:
        for patch in chosen:
            patch.apply(copy)
        yield copy
