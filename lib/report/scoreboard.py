"""The scoreboard: what the findings of a run come to, in a line a bug and in tables with links."""

import tomllib
from pathlib import Path

import jinja2
import pandas as pd
from IPython.display import HTML

from lib import evidence
from lib.evidence import claims, tables
from lib.report import record

BUGS = {1: "shared memory", 2: "KV cache", 3: "MoE gate", 4: "autotuner", 5: "attention kernels",
        0: "the whole"}
FOLDER = Path(__file__).with_name("templates")
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True,
                               trim_blocks=True)
TEMPLATES.policies["json.dumps_kwargs"] = {}  # names in their own order
SAID, TERMS = (tomllib.loads(Path(__file__).with_name(name).read_text())
               for name in ("bugs.toml", "glossary.toml"))


def line(bug, finding):
    """What a bug of bugs.toml comes to (str), by the finding (dict) that decides it."""
    said = bug["line"].get(finding["verdict"], finding["summary"])
    try:
        return said.format_map(finding["values"])
    except (KeyError, ValueError, TypeError):  # of a run with other values
        return finding["summary"]


TEMPLATES.filters |= {"brief": evidence.findings.brief, "figure": tables.figure}


def template(name):
    """One of our templates (jinja2.Template), by its name without the endings."""
    return TEMPLATES.get_template(f"{name}.html.j2")


def load(path=""):
    """The evidence of a run (dict), from its evidence.json; by default that of the last report."""
    return record.read(path or record.REPOSITORY / "outputs" / "evidence.json")


def head(finding):
    """The verdict and the tier of a finding (dict) in words (str)."""
    return f"{finding['verdict'] or 'measured'} ({finding['tier'] or 'nothing decided'})"


def decided(findings):
    """Each claim, in the account's order, with what decides it (list of (Claim, dict or None))."""
    return [(claims.ledger()[id], finding) for id, finding in claims.decide(findings).items()]


def tally(findings):
    """How many claims have each verdict (dict of str to int)."""
    verdicts = [finding["verdict"] for _, finding in decided(findings) if finding]
    return {each: verdicts.count(each) for each in evidence.findings.VERDICTS if each in verdicts}


def html(part, findings):
    """The ``tally``, the ``answers`` (a line a bug), the ``board`` (bugs down, beats across) or the
    ``claims`` of a run (HTML)."""
    deciding, ledger = claims.decide(findings), claims.ledger()
    given = {"tally": [tally(findings), len(ledger)], "answers": [SAID["bug"], deciding],
             "board": [findings, evidence.findings.BEATS, BUGS], "claims": [deciding, ledger]}
    return HTML(getattr(template("scoreboard").module, part)(*given[part]))


def on_a_spark(findings):
    """The claims that no SM12x part has decided, those left out that are only read (DataFrame)."""
    tiers = {claim.id: {part["tier"] for part in finding["parts"]} | {finding["tier"]}
             for claim, finding in decided(findings) if finding}
    return pd.DataFrame([
        {"claim": claim.id, "now": head(finding), "notebook to run there": finding["notebook"],
         "finding": finding["id"]}
        for claim, finding in decided(findings) if finding and finding["tier"] != "sm12x"
        and tiers[claim.id] - {"sm12x", "reported", None}])


TEMPLATES.globals |= {"line": line, "tally": tally}
