"""The claims of the account, and which finding decides each."""

import tomllib
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from lib.evidence.parts import TIERS


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
    """Which finding (dict) speaks for each claim of the ledger, in its order: that of the strongest
    tier, and of equals the last; None where there is none (dict of str to dict or None)."""
    strength = [*TIERS, None].index  # what decided nothing is the weakest
    decided = dict.fromkeys(ledger())
    for finding in findings:
        if (claim := finding["claim"]) in decided:
            held = decided[claim]
            if held is None or strength(finding["tier"]) <= strength(held["tier"]):
                decided[claim] = finding
    return decided
