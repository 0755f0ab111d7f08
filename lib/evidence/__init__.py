"""How a finding is stated: its parts and their tiers, the claims, figures and tables."""

from lib.evidence.findings import (
    BEATS,
    MIME,
    VERDICTS,
    Finding,
    Investigation,
    brief,
    open,
    plain,
    upgraded,
    validate,
)
from lib.evidence.parts import (
    SCHEMA,
    TIERS,
    Part,
    compiled,
    executed,
    inspected,
    modelled,
    ran,
    read,
)

__all__ = ["BEATS", "MIME", "SCHEMA", "TIERS", "VERDICTS", "Finding", "Investigation", "Part",
           "brief", "compiled", "executed", "inspected", "modelled", "open", "plain", "ran", "read",
           "upgraded", "validate"]
