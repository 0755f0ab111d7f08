"""Unified diffs with little context: check, apply and revert them on a scratch copy of a tree."""

from dataclasses import dataclass
from pathlib import Path

import unidiff

from .errors import CollectionError

FOLDER = Path(__file__).parent.parent / "patches"
HEADER = ("What", "Why", "Base", "Licence")
READY, APPLIED, TWICE, FAILS = "ready", "applied", "applied twice", "fails"


@dataclass(frozen=True)
class Place:
    """What a hunk is to a text: `state`, the line where it stands (from 1; 0: nowhere), and why it fails."""

    file: str
    hunk: int
    state: str
    line: int
    why: str = ""


def find(lines, block, near):
    """Where a block of lines stands: the index nearest to `near`, or -1. Two equally near places are none."""
    places = [at for at in range(len(lines) - len(block) + 1) if lines[at:at + len(block)] == block]
    places.sort(key=lambda at: abs(at - near))
    if len(places) > 1 and abs(places[0] - near) == abs(places[1] - near):
        return -1
    return places[0] if places else -1


@dataclass(frozen=True)
class Change:
    """One hunk: the lines before and after, context included, and the lines (from 0) where the diff expects each side."""

    file: str
    number: int
    old: tuple
    new: tuple
    starts: tuple

    def turn(self, lines, forward=True):
        """Apply to a list of lines, or take back: the new list and the place, or None and -1 if the lines are not there."""
        before, after = (self.old, self.new) if forward else (self.new, self.old)
        at = find(lines, list(before), self.starts[not forward])
        return (None, -1) if at < 0 else (lines[:at] + list(after) + lines[at + len(before):], at)

    def place(self, lines):
        """What this hunk is to a text. Of the two sides the longer decides, since the shorter can be part of it."""
        sides = (True, False) if len(self.old) >= len(self.new) else (False, True)
        for forward in sides:
            turned, at = self.turn(lines, forward)
            if turned is None:
                continue
            if forward:
                return Place(self.file, self.number, READY, at + 1)
            again = self.turn(turned, forward=False)[0] is not None and len(self.new) > len(self.old)
            return Place(self.file, self.number, TWICE if again else APPLIED, at + 1)
        return Place(self.file, self.number, FAILS, 0, self.difference(lines))

    def difference(self, lines):
        """Why neither side is there: the first line of the old side that the text lacks, or that the lines stand apart."""
        for line in self.old:
            if line not in lines:
                return f"this line is not in the file: {line.strip()!r}"
        return "its lines are all there, but not together, or in two places equally near"


class Patch:
    """A unified diff with a header of ``What:``, ``Why:``, ``Base:`` and ``Licence:`` lines.

    Parameters
    ----------
    path : Path or str
        The file; a bare name is looked up in patches/.

    Raises
    ------
    CollectionError
        If there is no such file, it is no unified diff, or its header is incomplete.
    """

    def __init__(self, path):
        self.path = path = FOLDER / path
        if not path.is_file():
            names = ", ".join(sorted(each.name for each in FOLDER.glob("*.diff"))) or "none"
            raise CollectionError(f"there is no patch {path.name}", f"choose one of patches/: {names}")
        self.text = path.read_text()
        head = self.text.partition("\n--- ")[0].splitlines()
        self.header = {key: line.partition(":")[2].strip() for line in head for key in HEADER if line.startswith(f"{key}:")}
        if missing := [key for key in HEADER if not self.header.get(key)]:
            raise CollectionError(f"{path.name} has no {', '.join(missing)} in its header", "write it above the first file of the diff")
        try:
            files = unidiff.PatchSet(self.text)
        except unidiff.UnidiffParseError as error:
            raise CollectionError(f"{path.name} is no unified diff: {error}", "make it anew with diff -U1") from error
        self.changes = [Change(file.path, number, tuple(line.value.rstrip("\n") for line in hunk if line.line_type in " -"),
                               tuple(line.value.rstrip("\n") for line in hunk if line.line_type in " +"),
                               (hunk.source_start - 1, hunk.target_start - 1))
                        for file in files for number, hunk in enumerate(file, 1)]
        if not self.changes:
            raise CollectionError(f"{path.name} changes nothing", "make it anew with diff -U1")

    @property
    def files(self):
        """The paths that it changes (list of str)."""
        return list(dict.fromkeys(change.file for change in self.changes))

    def _lines(self, tree):
        missing = [name for name in self.files if not Path(tree, name).is_file()]
        if missing:
            raise CollectionError(f"{self.path.name} changes {', '.join(missing)}, which {tree} does not have",
                                  f"its base is {self.header['Base']}: is this tree of that version?")
        return {name: Path(tree, name).read_text().split("\n") for name in self.files}

    def check(self, tree):
        """What each hunk is to a tree (list of `Place`): ready, applied, applied twice, or failing and why."""
        lines = self._lines(tree)
        return [change.place(lines[change.file]) for change in self.changes]

    def state(self, tree):
        """One word for the whole patch: what all hunks are, or ``fails`` if they differ."""
        states = {place.state for place in self.check(tree)}
        return states.pop() if len(states) == 1 else FAILS

    def apply(self, tree):
        """Apply to a tree, wholly or not at all.

        Raises
        ------
        CollectionError
            If it is applied already, was applied twice, or a hunk fails: which, and why.
        """
        self._turn(tree, forward=True)

    def revert(self, tree):
        """Take back from a tree, wholly or not at all; raises as `apply` does."""
        self._turn(tree, forward=False)

    def _turn(self, tree, forward):
        wanted, places = (READY if forward else APPLIED), self.check(tree)
        if wrong := [place for place in places if place.state != wanted]:
            verb = "apply" if forward else "revert"
            each = "; ".join(f"{place.file}, hunk {place.hunk}: {place.why or place.state}" for place in wrong)
            raise CollectionError(f"{self.path.name} does not {verb} ({each}); the tree is as it was", self._advice(wrong, forward))
        before = self._lines(tree)
        lines = dict(before)
        for change in reversed(self.changes):
            lines[change.file] = change.turn(lines[change.file], forward)[0]
        written = []
        try:
            for name in self.files:
                written.append(name)
                Path(tree, name).write_text("\n".join(lines[name]))
        except OSError:
            for name in written:
                Path(tree, name).write_text("\n".join(before[name]))
            raise

    def _advice(self, wrong, forward):
        states = {place.state for place in wrong}
        if states == {APPLIED}:
            return "nothing: it is applied already"
        if states == {READY}:
            return "nothing: it was not applied"
        if TWICE in states:
            return "it was applied twice: take a fresh scratch copy"
        return f"compare the tree with the base of the patch: {self.header['Base']}"
