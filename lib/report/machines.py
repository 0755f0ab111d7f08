"""Machines whose runs are shown: recorded or given ones, read with care, and told apart."""

import itertools
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lib.errors import CollectionError
from lib.evidence import claims
from lib.report import record

HERE = "this machine"
LARGEST = 5_000_000  # bytes of a file that is shown
MOST = 1000  # findings of one
DEEPEST = 40  # levels of lists and objects


@dataclass(frozen=True)
class Machine:
    """A machine with its run: its label, the name of its page, and what its evidence.json holds."""

    label: str
    slug: str
    run: dict = field(hash=False)
    findings: list = field(hash=False)

    @property
    def page(self):
        """The name of its page, without the ending."""
        return f"machine-{self.slug}"

    @property
    def device(self):
        """What it calls itself: its GPU, or its processor."""
        return legible(self.run["machine"]["name"], 80)

    @property
    def older(self):
        """Whether its file was of schema 1: verdicts without parts, values under fewer names."""
        return "upgraded from" in self.run

    @cached_property
    def decided(self):
        """The finding that decides each claim there (dict of str to dict or None)."""
        return claims.decide(self.findings)

    @cached_property
    def by_id(self):
        """Its findings by id (dict of dict)."""
        return {finding["id"]: finding for finding in self.findings}


def legible(text, most):
    """A name as it may be shown: printable, in one line, at most `most` characters."""
    text = " ".join("".join(each if each.isprintable() else " " for each in str(text)).split())
    return text if len(text) <= most else text[:most - 1] + "…"


def depth(value):
    """How deep lists and objects lie in each other (int); counts no further than `DEEPEST` + 1."""
    level, count = [value], 0
    while level and count <= DEEPEST:
        level = [item for each in level if isinstance(each, dict | list)
                 for item in (each.values() if isinstance(each, dict) else each)]
        count += 1
    return count


def read(path):
    """The evidence of another machine (dict), from its file or folder; it is not trusted."""
    path = Path(path, "evidence.json") if os.path.isdir(path) else Path(path)
    kept = record.read(path, LARGEST)
    if len(kept["findings"]) > MOST or depth(kept) > DEEPEST:
        raise CollectionError(f"{path} holds {len(kept['findings']):,} findings, in {depth(kept)} "
                              f"levels; at most {MOST:,} in {DEEPEST} are shown",
                              "make it anew with make record")
    return kept


def recorded(folder=record.REPOSITORY / "outputs" / "recorded"):
    """The folders of recorded runs (list of Path), in the order of their names."""
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())


def here(kept):
    """This machine with its run (`Machine`), from what its evidence.json holds."""
    return Machine(HERE, "here", kept["run"], kept["findings"])


def gather(paths):
    """Read what can be shown (list of Machine, no two of one label or page, and no run twice), and
    say why not of the rest (list of the path's end and the reason)."""
    machines, refused, labels, slugs = [], [], {HERE}, set()
    for path in paths:
        try:
            kept = read(path)
        except CollectionError as error:
            name = "/".join(Path(path).parts[-2:])
            reason = legible(error.what.replace(str(path), name), 300)
            refused.append((legible(name, 100), reason))
            continue
        if any((each.run, each.findings) == (kept["run"], kept["findings"]) for each in machines):
            continue
        stated = kept["run"].get("name") or kept["run"]["machine"]["name"]
        name = legible(stated, 40) or "a machine"
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "machine"
        machines.append(Machine(unused(name, labels, "{} ({})"), unused(slug, slugs, "{}-{}"),
                                kept["run"], kept["findings"]))
    return machines, refused


def unused(name, taken, form):
    """The name, or with the first number that makes it new to `taken` (set of str) in any case."""
    names = itertools.chain([name], (form.format(name, number) for number in itertools.count(2)))
    chosen = next(each for each in names if each.casefold() not in taken)
    taken.add(chosen.casefold())
    return chosen
