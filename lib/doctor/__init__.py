"""The doctor: which of the five bugs the TensorRT-LLM, FlashInfer or CUTLASS on a machine has.

By reading files, with the standard library only: `places` finds what is installed, `text` and
`conditions` read it, `rules` judge it by the patterns of rules.toml, `releases` knows since when a
fix is in, `examine` puts it together. `libraries` has the packages that hold CUDA code, and how
each gets onto the GPU. Nothing here imports what it examines.
"""

from collections import namedtuple

# The worst first: what several checks say together is the first of these that one of them says.
VERDICTS = ("affected", "cannot tell from these files", "fixed here", "not affected")
AFFECTED, CANNOT_TELL, FIXED, NOT_AFFECTED = VERDICTS
BUGS = {1: "shared memory", 2: "KV cache", 3: "MoE gate", 4: "autotuner", 5: "attention"}

# One place that was read: what it is about, its verdict, the line that decided, what that means.
Check = namedtuple("Check", "what verdict file line text note", defaults=("", 0, "", ""))
# What one product is to one bug: its checks, the worst of their verdicts, what to do about it, and
# since when a release has the merged fix (a sentence, or empty).
Answer = namedtuple("Answer", "bug product version where verdict checks todo release")
