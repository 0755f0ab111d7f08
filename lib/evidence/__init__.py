"""How a finding is stated: its parts and their tiers, the claims, figures and tables."""

from lib.evidence.findings import (
    BEATS,
    FINDING,
    MIME,
    VERDICTS,
    Finding,
    Investigation,
    brief,
    digest,
    open,
    steady,
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

__all__ = ["BEATS", "FINDING", "MIME", "SCHEMA", "TIERS", "VERDICTS", "Finding", "Investigation",
           "Part", "brief", "compiled", "digest", "executed", "inspected", "modelled", "open",
           "ran", "read", "steady", "validate"]
