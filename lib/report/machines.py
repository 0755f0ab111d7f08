"""Runs of several machines side by side: read with care, told apart, and compared claim by claim and finding by finding."""

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from IPython.display import HTML

from lib.errors import CollectionError
from lib.evidence import claims
from lib.report import record, scoreboard

HERE = "this machine"
LARGEST = 5_000_000  # bytes of a file that is shown
MOST = 1000  # findings of one
DEEPEST = 40  # levels of lists and objects
STEADY = ("compiled", "inspected")  # what a compiler or a package says is the same on every machine
UNLIKE = ("verdict", "tier", "missing")
ABSENT = "nothing"
UNSTEADY = re.compile(r"^as found$|^peak\b|\bseconds?\b|\(m?s\)$")  # names of values that are the machine's, wherever they were taken


@dataclass(frozen=True)
class Machine:
    """A machine with its run: what it is called, the name of its page, and what its evidence.json holds."""

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
    """What two runs say differently; all lists are empty for equal runs.

    Attributes
    ----------
    settings : list of (str, str, str)
        What they did not share, with both: ``commit``, ``toolchain``, ``subjects``.
    claims : list of (str, dict or None, dict or None, str)
        A claim, the finding that decides it in either run, and what differs: one of `UNLIKE`.
    verdicts : list of (str, dict, dict)
        Findings that both have, with another verdict.
    steady : int
        How many findings both have that are `STEADY` in both.
    values : list of (str, list of (str, object, object))
        Those of them whose values differ: the id, and each place with both values.
    only : (list of str, list of str)
        The ids that only the one and only the other has.
    """

    settings: list
    claims: list
    verdicts: list
    steady: int
    values: list
    only: tuple


def legible(text, most):
    """A name as it may be shown: printable, in one line, at most `most` characters."""
    text = " ".join("".join(each if each.isprintable() else " " for each in str(text)).split())
    return text if len(text) <= most else text[:most - 1] + "…"


def depth(value):
    """How deep lists and objects lie in each other (int); counts no further than `DEEPEST` + 1."""
    level, count = [value], 0
    while level and count <= DEEPEST:
        level = [item for each in level if isinstance(each, dict | list) for item in (each.values() if isinstance(each, dict) else each)]
        count += 1
    return count


def read(path):
    """The evidence of another machine (dict), from its file or the folder of it; nothing in it is trusted.

    Raises
    ------
    CollectionError
        If it is missing, too large, unreadable, damaged, of another form, or holds too much to be shown.
    """
    path = Path(path, "evidence.json") if os.path.isdir(path) else Path(path)
    kept = record.read(path, LARGEST)
    if len(kept["findings"]) > MOST or depth(kept) > DEEPEST:
        raise CollectionError(f"{path} holds {len(kept['findings']):,} findings, in {depth(kept)} levels; at most {MOST:,} in {DEEPEST} are shown",
                              "make it anew with make record")
    return kept


def recorded(folder=record.REPOSITORY / "outputs" / "recorded"):
    """The folders of recorded runs (list of Path), in the order of their names."""
    return sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")) if folder.is_dir() else []


def paths():
    """Where the other machines' evidence of the run under way lies: ``SM12X_OTHERS``, or else the recorded runs (list of Path)."""
    given = os.environ.get("SM12X_OTHERS")
    return recorded() if given is None else [Path(each) for each in given.split(os.pathsep) if each]


def gather(paths):
    """Read what can be shown of other machines, and say why not of the rest.

    Parameters
    ----------
    paths : iterable of Path
        Files, or folders that hold an evidence.json.

    Returns
    -------
    machines : list of Machine
        In the order of `paths`, no two of one label or page. A run that was given twice is there once.
    refused : list of (str, str)
        The end of a path, and the reason.
    """
    machines, refused, labels, slugs = [], [], {HERE}, set()
    for path in paths:
        try:
            kept = read(path)
        except CollectionError as error:
            name = "/".join(Path(path).parts[-2:])
            refused.append((legible(name, 100), legible(error.what.replace(str(path), name), 300)))
            continue
        if any((each.run, each.findings) == (kept["run"], kept["findings"]) for each in machines):
            continue
        name = legible(kept["run"].get("name") or kept["run"]["machine"]["name"], 40) or "a machine"
        label = unused(name, labels, "{} ({})")
        slug = unused(re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "machine", slugs, "{}-{}")
        machines.append(Machine(label, slug, kept["run"], kept["findings"]))
    return machines, refused


def unused(name, taken, form):
    """A name that is not in `taken` (set of str, which gets it) in any case: as it is, or with the first number that makes it so."""
    number, chosen = 1, name
    while chosen.casefold() in taken:
        number += 1
        chosen = form.format(name, number)
    taken.add(chosen.casefold())
    return chosen


def here(kept):
    """The run of this machine (`Machine`), from what its evidence.json holds."""
    return Machine(HERE, "here", kept["run"], kept["findings"])


def steady(value):
    """Values without what each machine measures anew: `UNSTEADY` names, and rows that a device answered."""
    if isinstance(value, dict):
        return {name: steady(item) for name, item in value.items() if not UNSTEADY.search(name)}
    if isinstance(value, list):
        return [steady(item) for item in value if not (isinstance(item, dict) and item.get("source") == "device")]
    return value


def places(one, other, place=""):
    """Where two values differ (list of (str, object, object)): the place as in ``kernels[3].bytes``, and both, or `ABSENT`."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [found for name in sorted(one.keys() | other.keys())
                for found in places(one.get(name, ABSENT), other.get(name, ABSENT), f"{place}.{name}" if place else name)]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [found for i, (mine, theirs) in enumerate(zip(one, other)) for found in places(mine, theirs, f"{place}[{i}]")]
    return [] if one == other and isinstance(one, bool) == isinstance(other, bool) else [(place, one, other)]


def unlike(one, other):
    """What differs between the findings that decide a claim on two machines (dict or None each): one of `UNLIKE`, or nothing (str)."""
    if (one is None) != (other is None):
        return "missing"
    return next((what for what in ("verdict", "tier") if (one or {}).get(what) != (other or {}).get(what)), "")


def compare(one, other):
    """What two runs say differently (`Comparison`), of `one` first; the other way round it is the same with the sides exchanged.

    Parameters
    ----------
    one, other : Machine
    """
    def settings(run):
        tools = run.get("toolchain", {}).get("version", "unknown")
        packages = " ".join(sorted(f"{each['name']}=={each['version']}" for each in run["subjects"]))
        return {"commit": run["commit"][:12], "toolchain": legible(tools, 20), "subjects": packages}

    mine, theirs = settings(one.run), settings(other.run)
    shared = [(name, mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]]
    pairs = [(claim, mine, other.decided[claim]) for claim, mine in one.decided.items()]
    both = [(mine, other.by_id[id]) for id, mine in one.by_id.items() if id in other.by_id]
    both.sort(key=lambda pair: pair[0]["id"])
    compared = [(mine, theirs) for mine, theirs in both if mine["tier"] in STEADY and theirs["tier"] in STEADY]
    values = [(mine["id"], places(steady(mine["values"]), steady(theirs["values"]))) for mine, theirs in compared]
    return Comparison(
        settings=shared, claims=[(*pair, unlike(*pair[1:])) for pair in pairs if unlike(*pair[1:])],
        verdicts=[(mine["id"], mine, theirs) for mine, theirs in both if mine["verdict"] != theirs["verdict"]],
        steady=len(compared), values=[(id, found) for id, found in values if found],
        only=(sorted(one.by_id.keys() - other.by_id.keys()), sorted(other.by_id.keys() - one.by_id.keys())))


def html(part, mine, others, refused=()):
    """A part of the section about machines as HTML (`IPython.display.HTML`).

    Parameters
    ----------
    part : str
        ``claims`` (a table, claims down, one column a machine), ``apart`` (where they differ, in words) or ``elsewhere`` (what only
        other machines found).
    mine : Machine
        This one.
    others : list of Machine
    refused : list of (str, str)
        As `gather` gives them.
    """
    module = scoreboard.TEMPLATES.get_template("machines.html.j2").module
    pairs = [(machine, compare(mine, machine)) for machine in others]
    if part == "claims":
        return HTML(module.claims([mine, *others], claims.ledger(), refused, {each: scoreboard.tally(each.findings) for each in (mine, *others)}, pairs))
    if part == "apart":
        apart = {what: [] for what in UNLIKE}
        for claim in claims.ledger():
            said = {each[3] for _, found in pairs for each in found.claims if each[0] == claim}
            if said:
                apart[min(said, key=UNLIKE.index)].append(claim)
        return HTML(module.apart(mine, pairs, apart, claims.ledger()))
    ids = sorted({id for _, found in pairs for id in found.only[1]})
    return HTML(module.elsewhere(ids, others, scoreboard.BUGS))
