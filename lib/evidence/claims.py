"""The claims of the account, and which finding decides each."""

import tomllib
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from lib.evidence import TIERS


@dataclass(frozen=True)
class Claim:
    """A claim of the ledger: its id, the bug it belongs to (0: none), and its text."""

    id: str
    bug: int
    text: str


@once
def ledger():
    """The claims by id (dict of str to `Claim`), in the order of the account."""
    rows = tomllib.loads(Path(__file__).with_name("claims.toml").read_text())["claim"]
    return {row["id"]: Claim(**row) for row in rows}


def strength(finding):
    """How strong a finding's tier is (int): 0 the strongest, one that decided nothing last."""
    return TIERS.index(finding["tier"]) if finding["tier"] else len(TIERS)


def decide(findings):
    """Which finding speaks for each claim: that of the strongest tier, and of equals the last.

    Parameters
    ----------
    findings : list of dict
        As evidence.json holds them; those about no claim decide none.

    Returns
    -------
    dict of str to (dict or None)
        For every claim of the ledger, in its order, the finding that decides it, or None.
    """
    decided = dict.fromkeys(ledger())
    for finding in findings:
        if (claim := finding["claim"]) in decided:
            held = decided[claim]
            if held is None or strength(finding) <= strength(held):
                decided[claim] = finding
    return decided
