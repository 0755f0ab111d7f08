"""Findings: what a notebook states, with the parts that decided it, held against the schema.

A notebook opens its bug, states findings, and each one shows itself as a card where it was found.
"""

import json
import math
import re
import string
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2
import jsonschema
from IPython.display import display

from lib import cache
from lib.errors import CollectionError
from lib.evidence import session
from lib.evidence.parts import SCHEMA, Part, tier_of, verdict_of
from lib.instruments import devices

MIME = "application/vnd.sm12x.finding+json"
FINDING = SCHEMA["$defs"]["finding"] | {"$defs": SCHEMA["$defs"]}
BEATS = tuple(FINDING["properties"]["beat"]["enum"])
VERDICTS = tuple(filter(None, FINDING["properties"]["verdict"]["enum"]))
MOST_NUMBERS = 3  # in a sentence
# A number by itself in a sentence: not of a name (SM121, 128x64), a version (0.6.6), an id (#1).
LOOSE = re.compile(r"(?<![\w.,#/-])(?!\d+\.\d+\.\d)\d[\d.,]*(?![\w.-])")
MARKS = {True: "✓", False: "✗", None: "?"}
AS_FOUND = "as found"  # the value that holds a GPU's clocks, memory and temperature at the time
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent),
                               autoescape=True)


def sentence(says, values, name):
    """Fill a finding's template with its values: each number of the sentence is in evidence.json.

    An error if a field is not in the values, the template has a number of its own, or more than
    three fields are numbers.
    """
    numbers = []
    for text, field, _, _ in string.Formatter().parse(says):
        if loose := LOOSE.search(text):
            raise CollectionError(f"the sentence of {name} has the number {loose[0]} of its own",
                                  "put it into the finding's values, and name it in braces")
        if field is None:
            continue
        try:
            value, _ = string.Formatter().get_field(field, (), values)
        except (KeyError, AttributeError, IndexError, TypeError) as error:
            raise CollectionError(f"the sentence of {name} names {field}, which its values lack",
                                  f"its values are: {', '.join(values)}") from error
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers.append(field)
    if len(numbers) > MOST_NUMBERS:
        named = ", ".join(numbers)
        raise CollectionError(f"the sentence of {name} has {len(numbers)} numbers: {named}",
                              f"keep the {MOST_NUMBERS} that matter; the rest is in its values")
    return says.format_map(values)


@dataclass(frozen=True, repr=False)
class Finding:
    """A finding as evidence.json holds it; shows itself in a notebook as a card."""

    id: str
    bug: int
    beat: str
    claim: str | None
    verdict: str | None
    tier: str | None
    parts: list
    summary: str
    values: dict
    unit: str
    sources: list
    notebook: str
    varies: list
    recorded: bool = False

    def __repr__(self):
        about = f", claim {self.claim}" if self.claim else ""
        head = f"{self.verdict or 'measured'} ({self.tier or 'nothing decided'})"
        return "\n".join([f"{head}{about}: {self.summary}"] + [
            f"  {MARKS[part['holds']]} {part['says']} ({part['tier']})" for part in self.parts])

    def _repr_mimebundle_(self, **_):
        return {MIME: asdict(self), "text/plain": repr(self), "text/html": self.card()}

    def card(self):
        """The card of the finding as HTML with its own style, for JupyterLab (str)."""
        return TEMPLATES.get_template("card.html.j2").render(finding=self, marks=MARKS)


def brief(link):
    """A link as a reader wants to see it: no scheme, no GitHub, a commit by eight digits (str)."""
    link = re.sub(r"^https://(github\.com/)?", "", link)
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{32}\b", r"\1", link)


TEMPLATES.filters["brief"] = brief


def plain(value):
    """Turn tables, arrays, sets, paths and numbers that are not JSON's into what JSON holds.

    A number that is none becomes None, and a set a list in an order of its own.
    """
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return plain(value.to_dict(orient="records"))
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=json.dumps)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def steady(value, varies=()):
    """A value of JSON without what is only of its run, at any depth: the names that `varies` lists,
    what a GPU was like, and rows that it answered."""
    if isinstance(value, dict):
        return {name: steady(item, varies) for name, item in value.items()
                if name not in varies and name != AS_FOUND}
    if isinstance(value, list):
        return [steady(item, varies) for item in value
                if not (isinstance(item, dict) and item.get("source") == "device")]
    return value


def digest(finding):
    """What runs agree in that found the same (40 hexadecimal digits): claim, verdict, parts and
    `steady` values of a finding (dict as in evidence.json)."""
    parts = [[part["says"], part["holds"], part["tier"]] for part in finding["parts"]]
    values = steady(finding["values"], finding.get("varies", ()))
    return cache.digest([finding["claim"], finding["verdict"], finding["tier"], parts, values])


def validate(value, schema, name):
    """Hold a value against a part of the schema of evidence.json; raise the first difference."""
    try:
        jsonschema.validate(value, schema)
    except jsonschema.ValidationError as error:
        place = ".".join(map(str, error.absolute_path)) or "the whole"
        what = f"{name} is not as the schema says: {place[:80]}: {error.message[:200]}"
        raise CollectionError(what, "see lib/evidence/schema.json") from error


class Investigation:
    """The findings of one notebook (its name, without its ending) about one bug (0: the whole)."""

    def __init__(self, bug, notebook):
        self.bug, self.notebook, self.findings = bug, notebook, {}

    def finding(self, id, *, claim, parts, **stated):
        """State what was found about a claim of the ledger, and show it; the same id replaces it.

        Parameters
        ----------
        id : str
            Its lasting name, as in ``fp4-gemm.dense-tiles``.
        parts : dict of str to Part
            A short phrase for each part of what the claim comes to, with what decided it: the
            verdict and the tier are computed from them.
        **stated
            The ``beat`` (one of `BEATS`); what it ``says``, one sentence, a template over the
            ``values`` (dict: its numbers, in the ``unit``, and the full tables behind them; what
            ran on a GPU gets ``as found``, its driver and clocks); more ``sources`` than those of
            the parts, links or ``name==version``; and what of the values, at any depth, ``varies``
            from run to run, as times do: these names are no part of the finding's `digest`.

        Raises
        ------
        CollectionError
            If there is no part, a field has the wrong form, or the sentence has a number that is
            not in the values.

        Examples
        --------
        >>> from lib import evidence
        >>> bug = evidence.open(1, "01-shared-memory")
        >>> fits = evidence.compiled(False, "nvidia-cuda-nvcc==13.2.86")
        >>> bug.finding("fp4-gemm.dense-tiles", beat="reproduce", claim="1b",
        ...             parts={"the tiles do not fit": fits},
        ...             says="{over} of {n} kernels exceed {budget:,} B.",
        ...             values={"over": 0, "n": 6, "budget": 101376})
        refuted (compiled), claim 1b: 0 of 6 kernels exceed 101,376 B.
          ✗ the tiles do not fit (compiled)
        """
        if not claim or not parts:
            raise CollectionError(f"the finding {id} has no {'parts' if claim else 'claim'}",
                                  "state the parts of a claim; use measured() for an observation")
        verdict, tier = verdict_of(list(parts.values())), tier_of(parts.values())
        self.state(id, claim, verdict, tier, parts, **stated)

    def measured(self, id, *, by, sources=(), parts=None, **stated):
        """State an observation that is about no claim: it has a tier and no verdict.

        `by` is the kind of evidence: `ran`, `executed`, `compiled`, `inspected`, `modelled` or
        `read`; `parts` are checks that belong to it. The rest, and the errors, are `finding`'s.
        """
        basis, parts = by(None, *sources), parts or {}
        tier = tier_of([*parts.values(), Part(True, basis.tier, sources)])
        self.state(id, None, None, tier, parts, sources=basis.sources, **stated)

    def state(self, id, claim, verdict, tier, parts, *, beat, says, values=None, unit="",
              sources=(), varies=()):
        """Put a finding together, hold it against the schema, keep it and show it."""
        tiers = {tier, *(part.tier for part in parts.values())}
        measured_on = {AS_FOUND: devices.state()} if tiers & {"sm12x", "gpu"} else {}
        kept = plain((values or {}) | measured_on)
        listed = [{"says": phrase} | asdict(part) | {"sources": list(part.sources)}
                  for phrase, part in parts.items()]
        named = dict.fromkeys([*(each for part in listed for each in part["sources"]),
                               *map(str, sources)])
        found = Finding(id=id, bug=self.bug, beat=beat, claim=claim, verdict=verdict, tier=tier,
                        parts=listed, summary=sentence(says, kept, id), values=kept, unit=unit,
                        sources=list(named), notebook=self.notebook, varies=sorted(varies))
        validate(asdict(found), FINDING, f"finding {id}")
        self.findings[id] = found
        display(found)


def open(bug, notebook):
    """Open the investigation of a bug in a notebook, whose `session` is installed."""
    session.install()
    return Investigation(bug, notebook)
