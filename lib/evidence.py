"""Findings: a verdict with its evidence. A notebook opens its bug, states findings, and each one shows itself where it was found."""

import json
import math
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import jsonschema
from IPython.display import display

from . import machine, tables
from .errors import CollectionError

MIME = "application/vnd.sm12x.finding+json"
SCHEMA = json.loads(Path(__file__).with_name("evidence.schema.json").read_text())
FINDING = SCHEMA["$defs"]["finding"]
BEATS = tuple(FINDING["properties"]["beat"]["enum"])
TIERS = tuple(FINDING["properties"]["tier"]["enum"])
VERDICTS = tuple(FINDING["properties"]["verdict"]["enum"])


@dataclass(frozen=True)
class Finding:
    """A verdict with its evidence, as evidence.json holds it; shows itself in a notebook."""

    id: str
    bug: int
    beat: str
    claim: str | None
    verdict: str
    tier: str
    summary: str
    values: dict
    unit: str
    sources: list
    notebook: str
    recorded: bool = False

    def _repr_mimebundle_(self, **_):
        about = f" · claim {self.claim}" if self.claim else ""
        text = f"{self.verdict} ({self.tier}{about}): {self.summary}"
        badge = f"<strong>{escape(self.verdict)}</strong> · {escape(self.tier)}{escape(about)} · <code>{escape(self.id)}</code>"
        return {MIME: asdict(self), "text/plain": text, "text/html": f"<p>{badge}<br>{escape(self.summary)}</p>"}


def plain(value):
    """Turn tables, arrays, paths and numbers that are not JSON's into what JSON holds; a number that is none becomes None."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return plain(value.to_dict(orient="records"))
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def validate(value, schema, name):
    """Hold a value against a part of the schema of evidence.json.

    Raises
    ------
    CollectionError
        With the place and the reason of the first difference.
    """
    try:
        jsonschema.validate(value, schema)
    except jsonschema.ValidationError as error:
        place = ".".join(map(str, error.absolute_path)) or "the whole"
        raise CollectionError(f"{name} is not as the schema says: {place[:80]}: {error.message[:200]}", "see lib/evidence.schema.json") from error


def earned(tier, sources):
    """Refuse a tier that this machine cannot reach, or a report without a link.

    Raises
    ------
    CollectionError
        If `tier` needs a GPU that is not here, or is ``reported`` and no source is a link.
    """
    capabilities = [gpu.capability for gpu in machine.gpus()] if tier in ("sm12x", "gpu") else []
    if tier == "sm12x" and not any(major == 12 for major, _ in capabilities):
        raise CollectionError("tier sm12x was claimed, and no GPU of compute capability 12.x is here", "state the tier that was reached")
    if tier == "gpu" and not capabilities:
        raise CollectionError("tier gpu was claimed, and no CUDA GPU is here", "state the tier that was reached")
    if tier == "reported" and not any(source.startswith("https://") for source in sources):
        raise CollectionError("tier reported was claimed without a link", "add the link to the report to sources")


class Investigation:
    """The findings of one notebook about one bug.

    Parameters
    ----------
    bug : int
        1 to 5, or 0 for a notebook about the whole.
    notebook : str
        The name of the notebook, without its ending.
    """

    def __init__(self, bug, notebook):
        self.bug, self.notebook, self.findings = bug, notebook, {}

    def finding(self, id, *, beat, verdict, tier, summary, claim=None, values=None, unit="", sources=()):
        """State a finding, and show it where it was found. Stating the same id again replaces it.

        Parameters
        ----------
        id : str
            Its lasting name, as in ``fp4-gemm.dense-tiles``.
        beat, verdict, tier : str
            One each of `BEATS`, `VERDICTS` and `TIERS`.
        summary : str
            One sentence with the number in it.
        claim : str, optional
            The claim of the ledger that it speaks to.
        values : dict, optional
            The full table behind the summary; tables and arrays are turned into JSON. What was measured on a GPU gets ``as found``:
            the device with its driver and clocks, by `machine.state`.
        unit : str
            The unit of the numbers, as in ``B``.
        sources : sequence of str
            Links, or requirements of packages (``name==version``).

        Raises
        ------
        CollectionError
            If a word is none of the known ones, a field has the wrong form, or the tier is higher than what was reached.
        """
        earned(tier, sources)
        measured_on = {"as found": machine.state()} if tier in ("sm12x", "gpu") else {}
        values = plain((values or {}) | measured_on)
        found = Finding(id, self.bug, beat, claim, verdict, tier, summary, values, unit, list(sources), self.notebook)
        validate(asdict(found), FINDING, f"finding {id}")
        self.findings[id] = found
        display(found)


def open(bug, notebook):
    """Open the investigation of a bug in a notebook (`Investigation`), and have its tables shown as `tables.html` does."""
    tables.install()
    return Investigation(bug, notebook)
