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


def decide(findings):
    """Which finding speaks for each claim: the one of the strongest tier, and of equals the last.

    Parameters
    ----------
    findings : list of dict
        As evidence.json holds them.

    Returns
    -------
    dict of str to (dict or None)
        For every claim of the ledger, in its order, the finding that decides it; None where there is none.
    """
    decided = dict.fromkeys(ledger())
    for finding in findings:
        held = decided.get(finding["claim"])
        if finding["claim"] in decided and (held is None or TIERS.index(finding["tier"]) <= TIERS.index(held["tier"])):
            decided[finding["claim"]] = finding
    return decided
