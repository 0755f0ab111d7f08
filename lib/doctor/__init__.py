"""The doctor: which of the five bugs the TensorRT-LLM, FlashInfer or CUTLASS on a machine has.

By reading files, with the standard library only: `places` finds what is installed, `text` and
`conditions` read it, `rules` judge it by the patterns of rules.toml, `releases` knows since when a
fix is in, `examine` puts it together. Nothing here imports what it examines.
"""

from dataclasses import dataclass

# The worst first: what several checks say together is the first of these that one of them says.
VERDICTS = ("affected", "cannot tell from these files", "fixed here", "not affected")
AFFECTED, CANNOT_TELL, FIXED, NOT_AFFECTED = VERDICTS
BUGS = {1: "shared memory", 2: "KV cache", 3: "MoE gate", 4: "autotuner", 5: "attention"}


@dataclass(frozen=True)
class Check:
    """One place that was read: what it is about, its verdict, the line that decided, and why."""

    what: str
    verdict: str
    file: str = ""
    line: int = 0
    text: str = ""
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """What one product is to one bug: the checks and their worst verdict, and what to do."""

    bug: int
    product: str
    version: str
    where: str
    verdict: str
    checks: tuple
    todo: str
    release: str
