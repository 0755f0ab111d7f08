"""Parts: what a claim comes to, each with what decided it, and the verdict and tier of them all."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.errors import CollectionError
from lib.instruments import devices

SCHEMA = json.loads(Path(__file__).with_name("schema.json").read_text())
TIERS = tuple(SCHEMA["$defs"]["tier"]["enum"])  # strongest first


@dataclass(frozen=True)
class Part:
    """One part of what a claim says: whether it `holds` (None: could not be decided), and why.

    Made by the function of its tier: `ran`, `executed`, `compiled`, `inspected`, `modelled` or
    `read`.
    """

    holds: bool | None
    tier: str
    sources: tuple

    def __post_init__(self):
        holds = bool(self.holds) if isinstance(self.holds, np.bool_) else self.holds
        if not isinstance(holds, bool | None):
            raise CollectionError(f"a part holds or does not, and {holds!r} says neither",
                                  "give True, False, or None where it could not be decided")
        object.__setattr__(self, "holds", holds)
        object.__setattr__(self, "sources", tuple(map(str, self.sources)))
        linked = any(each.startswith("https://") for each in self.sources)
        if self.tier == "reported" and not linked:
            raise CollectionError("a part that was only read needs a link",
                                  "add the page that was read: read(True, \"https://...\")")


def ran(holds, *sources):
    """A part that the first GPU here decided: tier ``sm12x`` or ``gpu``; an error without one."""
    if not (tier := devices.tier()):
        raise CollectionError(f"a GPU is said to have decided; none is here: {devices.why_none()}",
                              "state what was decided without one")
    return Part(holds, tier, sources)


def executed(holds, *sources):
    """A part that the real code decided, run on the CPU."""
    return Part(holds, "executed", sources)


def compiled(holds, *sources):
    """A part that the real compiler or assembler for the target decided."""
    return Part(holds, "compiled", sources)


def inspected(holds, *sources):
    """A part read by code out of a shipped binary, package or source revision that is here."""
    return Part(holds, "inspected", sources)


def modelled(holds, *sources):
    """A part computed from stated inputs, or said by a model of ours."""
    return Part(holds, "modelled", sources)


def read(holds, *links):
    """A part that was only read somewhere: someone else measured or stated it; never more."""
    return Part(holds, "reported", links)


def verdict_of(parts):
    """What parts (list of `Part`) come to: all hold, none, some, or none could be decided (str)."""
    decided = [part.holds for part in parts if part.holds is not None]
    if not decided:
        return "untested"
    if not any(decided):
        return "refuted"
    return "confirmed" if len(decided) == len(parts) and all(decided) else "refined"


def tier_of(parts):
    """The tier of the weakest part that was decided (str); None if none was."""
    decided = [part.tier for part in parts if part.holds is not None]
    return max(decided, key=TIERS.index, default=None)
