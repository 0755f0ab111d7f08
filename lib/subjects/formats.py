"""Storage formats of weights: bytes of a block, and the mixes that llama.cpp makes of them."""

import tomllib
from pathlib import Path

DATA = tomllib.loads(Path(__file__).with_name("formats.toml").read_text())
BLOCKS, CACHED, MIXES = DATA["blocks"], DATA["cached"], DATA["mixes"]
KEPT = ("norm", "bias", "router", "small")  # what llama.cpp leaves in float32


def bits(form):
    """Bits of a weight in a format, its scales included."""
    weights, block = BLOCKS[form]
    return 8 * block / weights


def mixed(mix, c):
    """The format of each tensor of a model under one of `MIXES`, as llama-quant.cpp says.

    `c` is the configuration of the model; not one of 8 experts, which is treated in a way of its
    own. Gives a function of a tensor (str) and its layer (int) to the format (str).
    """
    base, n = MIXES[mix], c["layers"]
    large = n == 80 and c["hidden"] == 8192

    def favoured(layer):
        return layer < n // 8 or layer >= 7 * n // 8 or (layer - n // 8) % 3 == 2

    def pick(tensor, layer):
        more = "q6_k" if favoured(layer) else base
        if tensor.startswith(KEPT):
            return "f32"
        if tensor == "head" and mix != "q8_0":
            return "q6_k"
        if tensor in ("attn.v", "attn.kv_b"):
            form = {"q3_k_m": "q5_k" if layer < 2 else "q4_k", "q4_k_m": more,
                    "q4_k_s": "q5_k" if layer < 4 else base}.get(mix, base)
            return "q5_k" if large and form in ("q3_k", "q4_k") else form
        if tensor == "attn.o":
            return "q4_k" if mix == "q3_k_m" else base
        if tensor.endswith(".down"):
            return {"q3_k_m": "q5_k" if layer < n // 16 else "q4_k", "q4_k_m": more,
                    "q4_k_s": "q5_k" if layer < n // 8 else base}.get(mix, base)
        return base
    return pick
