"""The scoreboard: what the findings of a run come to, as tables with links and paragraphs to forward."""

import os
from pathlib import Path

import jinja2
from IPython.display import HTML, Markdown

from lib import evidence
from lib.errors import CollectionError
from lib.evidence import claims
from lib.report import record

BUGS = {1: "shared memory", 2: "KV cache", 3: "MoE gate", 4: "autotuner", 5: "attention kernels", 0: "the whole"}
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True, trim_blocks=True)


def load(path=""):
    """The evidence of a run.

    Parameters
    ----------
    path : str
        An evidence.json; empty for that of the run under way, or else the last one, ``outputs/evidence.json``.

    Raises
    ------
    CollectionError
        If it is missing, damaged or of another form.
    """
    return record.read(path or os.environ.get("SM12X_EVIDENCE") or record.REPOSITORY / "outputs" / "evidence.json")


def decided(findings):
    """Each claim with the finding that decides it (list of (`claims.Claim`, dict or None)), in the order of the account."""
    return [(claims.ledger()[claim], finding) for claim, finding in claims.decide(findings).items()]


def tally(findings):
    """How many claims have each verdict (dict of str to int)."""
    verdicts = [finding["verdict"] for _, finding in decided(findings) if finding]
    return {verdict: verdicts.count(verdict) for verdict in evidence.VERDICTS if verdict in verdicts}


def html(part, findings):
    """A part of the scoreboard as HTML (`IPython.display.HTML`).

    Parameters
    ----------
    part : str
        ``tally``, ``board`` (bugs down, beats across) or ``claims`` (one row each).
    """
    rows = {f"{bug} · {BUGS[bug]}" if bug else BUGS[bug]: {beat: [] for beat in evidence.BEATS}
            for bug in BUGS if any(finding["bug"] == bug for finding in findings)}
    for finding in findings:
        rows[f"{finding['bug']} · {BUGS[finding['bug']]}" if finding["bug"] else BUGS[0]][finding["beat"]].append(finding)
    beats = [beat for beat in evidence.BEATS if any(cells[beat] for cells in rows.values())]
    module = TEMPLATES.get_template("scoreboard.html.j2").module
    return HTML({"tally": lambda: module.tally(tally(findings), len(claims.ledger())), "board": lambda: module.board(rows, beats),
                 "claims": lambda: module.claims(decided(findings))}[part]())


def complete(findings):
    """Nothing, if every claim of the ledger has a finding.

    Raises
    ------
    CollectionError
        With the claims that have none.
    """
    if missing := [claim.id for claim, finding in decided(findings) if finding is None]:
        raise CollectionError(f"no finding speaks to the claims {', '.join(missing)}", "see which notebook failed, or state the finding there")


def on_a_spark(findings):
    """The claims that a run on SM120 or SM121 could still strengthen: those not decided there (list of dict for a table)."""
    return [{"claim": claim.id, "now": f"{finding['verdict']} ({finding['tier']})", "notebook to run there": finding["notebook"], "finding": finding["id"]}
            for claim, finding in decided(findings) if finding and finding["tier"] not in ("sm12x", "reported")]


def forward(findings, bug):
    """A paragraph about one bug that can be sent to an engineer (`IPython.display.Markdown`): each claim, its verdict, its number."""
    lines = [f"**{finding['verdict'].capitalize()}** ({claim.id}, {finding['tier']}): {finding['summary']}"
             for claim, finding in decided(findings) if claim.bug == bug and finding]
    return Markdown(f"### {f'Bug {bug}: ' if bug else ''}{BUGS[bug]}\n\n" + "\n".join(f"- {line}" for line in lines))
