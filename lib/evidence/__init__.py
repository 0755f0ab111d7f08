"""How a finding is stated: its parts and their tiers, the claims, figures and tables."""

from lib.evidence.findings import open
from lib.evidence.parts import compiled, executed, inspected, modelled, ran, read

__all__ = ["compiled", "executed", "inspected", "modelled", "open", "ran", "read"]
