"""How a finding is stated: its parts and their tiers, the claims, figures and tables."""

from lib.evidence.findings import (
    BEATS,
    MIME,
    SCHEMA,
    TIERS,
    VERDICTS,
    Finding,
    Investigation,
    Part,
    compiled,
    executed,
    inspected,
    modelled,
    open,
    plain,
    ran,
    read,
    upgraded,
    validate,
)

__all__ = ["BEATS", "MIME", "SCHEMA", "TIERS", "VERDICTS", "Finding", "Investigation", "Part",
           "compiled", "executed", "inspected", "modelled", "open", "plain", "ran", "read",
           "upgraded", "validate"]
