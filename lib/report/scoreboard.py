"""The scoreboard: what the findings of a run come to, in tables with links and lines to forward."""

from pathlib import Path

import jinja2
import pandas as pd
from IPython.display import HTML, Markdown

from lib import evidence
from lib.errors import CollectionError
from lib.evidence import claims
from lib.report import record

BUGS = {1: "shared memory", 2: "KV cache", 3: "MoE gate", 4: "autotuner", 5: "attention kernels",
        0: "the whole"}
FOLDER = Path(__file__).with_name("templates")
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True,
                               trim_blocks=True)
TEMPLATES.filters["brief"] = evidence.brief
TEMPLATES.policies["json.dumps_kwargs"] = {}  # names in their own order


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
    ledger = claims.ledger()
    return [(ledger[claim], finding) for claim, finding in claims.decide(findings).items()]


def tally(findings):
    """How many claims have each verdict (dict of str to int)."""
    verdicts = [finding["verdict"] for _, finding in decided(findings) if finding]
    return {each: verdicts.count(each) for each in evidence.VERDICTS if each in verdicts}


def html(part, findings):
    """The ``tally``, the ``board`` (bugs down, beats across) or the ``claims`` of a run (HTML)."""
    module = template("scoreboard").module
    if part == "tally":
        return HTML(module.tally(tally(findings), len(claims.ledger())))
    if part == "claims":
        return HTML(module.claims(decided(findings)))
    beats = [beat for beat in evidence.BEATS if any(each["beat"] == beat for each in findings)]
    rows = {f"{bug} · {name}" if bug else name:
            {beat: [each for each in findings if (each["bug"], each["beat"]) == (bug, beat)]
             for beat in beats} for bug, name in BUGS.items()}
    return HTML(module.board({name: row for name, row in rows.items() if any(row.values())}, beats))


def complete(findings):
    """Nothing if every claim of the ledger has a finding, else a CollectionError with the rest."""
    if missing := [claim.id for claim, finding in decided(findings) if finding is None]:
        raise CollectionError(f"no finding speaks to the claims {', '.join(missing)}",
                              "see which notebook failed, or state the finding there")


def on_a_spark(findings):
    """The claims that no SM12x part has decided, those left out that are only read (DataFrame)."""
    def open(finding):
        tiers = {part["tier"] for part in finding["parts"]} | {finding["tier"]}
        return finding["tier"] != "sm12x" and tiers - {"sm12x", "reported", None}

    return pd.DataFrame([
        {"claim": claim.id, "now": head(finding), "notebook to run there": finding["notebook"],
         "finding": finding["id"]}
        for claim, finding in decided(findings) if finding and open(finding)])


def short(findings, words):
    """The account in a line a claim that has a finding (Markdown): what its verdict comes to in
    `words` (claim to verdict to str) or else the claim, what failed of a refined one, the sentence
    of the finding."""
    held, lines = claims.decide(findings), []
    for claim in words:
        if finding := held[claim]:
            verdict = finding["verdict"]
            failing = "; ".join(each["says"] for each in finding["parts"] if each["holds"] is False)
            topic = f"{verdict.capitalize()}: {claims.ledger()[claim].text}."
            wrong = f" Not so: {failing}." if verdict == "refined" and failing else ""
            said = words[claim].get(verdict, topic)
            lines.append(f"- **{said}**{wrong} {finding['summary']}")
    return Markdown("\n".join(lines))


def forward(findings, bug):
    """A list about one bug that can be sent to an engineer (Markdown)."""
    lines = [f"- **{head(finding).capitalize()}**, claim {claim.id}: {finding['summary']}"
             for claim, finding in decided(findings) if claim.bug == bug and finding]
    return Markdown(f"### Bug {bug}: {BUGS[bug]}\n\n" + "\n".join(lines))
