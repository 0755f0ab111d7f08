"""This machine's run beside those of others: read with care, told apart, and compared once."""

import itertools
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from IPython.display import HTML

from lib.errors import CollectionError
from lib.evidence import claims, findings
from lib.report import record, scoreboard

HERE, ABSENT = "this machine", "nothing"
STEADY = {"compiled", "inspected"}  # what a compiler or a package says is the same everywhere
UNLIKE = ("verdict", "tier", "missing")
# At most, of a file that is shown: bytes, findings, levels of lists and objects.
LARGEST, MOST, DEEPEST = 5_000_000, 1000, 40


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

    @property
    def settings(self):
        """What its run was made with (dict): ``commit``, ``toolchain``, ``subjects``."""
        subjects = sorted(f"{each['name']}=={each['version']}" for each in self.run["subjects"])
        toolchain = legible(self.run.get("toolchain", {}).get("version", "unknown"), 20)
        return {"commit": self.run["commit"][:12], "toolchain": toolchain,
                "subjects": " ".join(subjects)}

    @cached_property
    def decided(self):
        """The finding that decides each claim there (dict of str to dict or None)."""
        return claims.decide(self.findings)

    @cached_property
    def by_id(self):
        """Its findings by id (dict of dict)."""
        return {finding["id"]: finding for finding in self.findings}


@dataclass(frozen=True)
class Comparison:
    """What two runs say differently; all but `steady` is empty for equal runs."""

    settings: list  # of (commit, toolchain or subjects, one's, the other's), where not the same
    claims: dict  # those decided otherwise, and what differs: one of UNLIKE
    verdicts: list  # of (id, one's finding, the other's), with another verdict
    steady: int  # how many findings that are STEADY in both can be compared
    values: list  # of (id, places), those of them that differ
    only: tuple  # the ids that only the one, and that only the other has (two lists of str)


@dataclass(frozen=True)
class Runs:
    """All that is shown: this machine's run, the others, each compared, and what is refused."""

    here: Machine
    others: list  # of Machine
    compared: list  # of Comparison: here, beside each of the others
    refused: list  # of (path, reason), as gather gives them

    @property
    def pairs(self):
        """The others with their comparison (list of (Machine, Comparison))."""
        return list(zip(self.others, self.compared))


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


def runs(kept, others=None):
    """This machine's evidence (dict) beside that of others (`Runs`): files or their folders (Paths,
    or a str with ``os.pathsep`` between them), or the recorded runs."""
    if isinstance(others, str):
        others = [each for each in others.split(os.pathsep) if each]
    shown, refused = gather(recorded() if others is None else others)
    here = Machine(HERE, "here", kept["run"], kept["findings"])
    return Runs(here, shown, [compare(here, each) for each in shown], refused)


def places(one, other, shared=False, place=""):
    """Where two values differ: list of (place as in ``kernels[3].bytes``, one's, the other's);
    what only one has is `ABSENT` in the other, or with `shared` no difference."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() & other.keys() if shared else one.keys() | other.keys()
        return [found for name in sorted(names)
                for found in places(one.get(name, ABSENT), other.get(name, ABSENT), shared,
                                    f"{place}.{name}" if place else name)]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [found for i, (mine, theirs) in enumerate(zip(one, other))
                for found in places(mine, theirs, shared, f"{place}[{i}]")]
    same = one == other and isinstance(one, bool) == isinstance(other, bool)
    return [] if same else [(place, one, other)]


def unlike(one, other):
    """What differs between two findings (dict or None) about a claim: of `UNLIKE`, or ""."""
    if one and other:
        return next((what for what in ("verdict", "tier") if one[what] != other[what]), "")
    return "missing" if one or other else ""


def compare(one, other):
    """What two runs (`Machine`) say differently (`Comparison`); of an `older` one, only the values
    under names that both have are compared."""
    shared = one.older or other.older
    ids = sorted(one.by_id.keys() & other.by_id.keys())
    both, different = [(id, one.by_id[id], other.by_id[id]) for id in ids], []
    for id, *pair in both:
        varies = {name for each in pair for name in each.get("varies", ())}
        here, there = (findings.steady(each["values"], varies) for each in pair)
        comparable = not shared or here.keys() & there.keys()
        if comparable and {each["tier"] for each in pair} <= STEADY:
            different.append((id, places(here, there, shared)))
    apart = {claim: unlike(held, other.decided[claim]) for claim, held in one.decided.items()}
    return Comparison(
        settings=places(one.settings, other.settings),
        claims={claim: what for claim, what in apart.items() if what},
        verdicts=[each for each in both if each[1]["verdict"] != each[2]["verdict"]],
        steady=len(different), values=[(id, found) for id, found in different if found],
        only=(sorted(one.by_id.keys() - set(ids)), sorted(other.by_id.keys() - set(ids))))


def html(part, shown):
    """The ``claims`` of all `Runs`, where they are ``apart``, what is only ``elsewhere`` (HTML)."""
    apart, ledger = {what: [] for what in UNLIKE}, claims.ledger()
    for claim in ledger:
        if said := {each.claims[claim] for each in shown.compared if claim in each.claims}:
            apart[min(said, key=UNLIKE.index)].append(claim)
    ids = sorted({id for found in shown.compared for id in found.only[1]})
    given = {"claims": [shown, [shown.here, *shown.others], ledger],
             "apart": [shown, apart, ledger], "elsewhere": [ids, shown.others, scoreboard.BUGS]}
    return HTML(getattr(scoreboard.template("machines").module, part)(*given[part]))
