"""This machine's run beside those of others: compared once, claim by claim, value by value."""

import os
from dataclasses import dataclass

from IPython.display import HTML

from lib import evidence
from lib.evidence import claims
from lib.report import machines, scoreboard

STEADY = ("compiled", "inspected")  # what a compiler or a package says is the same everywhere
UNLIKE = ("verdict", "tier", "missing")
ABSENT = "nothing"


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

    here: machines.Machine
    others: list  # of machines.Machine
    compared: list  # of Comparison: here, beside each of the others
    refused: list  # of (path, reason), as machines.gather gives them

    @property
    def pairs(self):
        """The others with their comparison (list of (Machine, Comparison))."""
        return list(zip(self.others, self.compared))


def runs(kept, others=None):
    """This machine's evidence (dict) beside that of others (`Runs`): files or their folders (Paths,
    or a str with ``os.pathsep`` between them), or the recorded runs."""
    if isinstance(others, str):
        others = [each for each in others.split(os.pathsep) if each]
    shown, refused = machines.gather(machines.recorded() if others is None else others)
    here = machines.here(kept)
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


def settings(run):
    """What a run was made with (dict): ``commit``, ``toolchain``, ``subjects``."""
    subjects = sorted(f"{each['name']}=={each['version']}" for each in run["subjects"])
    toolchain = machines.legible(run.get("toolchain", {}).get("version", "unknown"), 20)
    return {"commit": run["commit"][:12], "toolchain": toolchain, "subjects": " ".join(subjects)}


def compare(one, other):
    """What two runs (`Machine`) say differently (`Comparison`); of an `older` one, only the values
    under names that both have are compared."""
    shared = one.older or other.older
    mine, theirs = settings(one.run), settings(other.run)
    ids = sorted(one.by_id.keys() & other.by_id.keys())
    both, different = [(id, one.by_id[id], other.by_id[id]) for id in ids], []
    for id, *pair in both:
        varies = {name for each in pair for name in each.get("varies", ())}
        here, there = (evidence.findings.steady(each["values"], varies) for each in pair)
        comparable = not shared or here.keys() & there.keys()
        if comparable and {each["tier"] for each in pair} <= {*STEADY}:
            different.append((id, places(here, there, shared)))
    apart = {claim: unlike(held, other.decided[claim]) for claim, held in one.decided.items()}
    return Comparison(
        settings=[(name, mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]],
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
