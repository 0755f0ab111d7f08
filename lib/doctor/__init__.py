"""The doctor: which of the five bugs the TensorRT-LLM, FlashInfer or CUTLASS on a machine has, by reading files. Standard library only.

`places` finds what is installed, `text` reads it, `kernels` and `runtime` judge it, `examine` puts it together; nothing here imports what it examines.
"""

from dataclasses import dataclass

PRESENT, FIXED, NOT_APPLICABLE, CANNOT_TELL = VERDICTS = ("present", "fixed", "not applicable", "cannot tell")
BUGS = {1: "shared memory", 2: "KV cache", 3: "MoE gate", 4: "autotuner", 5: "attention"}
DEFAULT_SM = 121


@dataclass(frozen=True)
class Check:
    """One place that was read: what it is about, its verdict, the line that decided, and what that line means."""

    what: str
    verdict: str
    file: str = ""
    line: int = 0
    text: str = ""
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """What one product is to one bug: the verdict of all its checks together, the checks, and one sentence of what to do."""

    bug: int
    product: str
    version: str
    where: str
    checks: tuple
    todo: str

    @property
    def verdict(self):
        """The worst of the checks: present, then cannot tell, fixed, not applicable."""
        said = {check.verdict for check in self.checks}
        return next(verdict for verdict in (PRESENT, CANNOT_TELL, FIXED, NOT_APPLICABLE) if verdict in said)
