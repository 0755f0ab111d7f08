"""Storage formats of weights: bytes of a block, and the mixes that llama.cpp makes of them."""

# Format to (weights in a block, bytes of a block). GGUF's are the structs of ggml-common.h; NVFP4
# is 16 E2M1 values and an E4M3 scale; MXFP4 is 32 E2M1 values and an E8M0 scale (OCP
# Microscaling 1.0); fp8 is E4M3 with a float32 scale for each 128 x 128 tile.
BLOCKS = {
    "f32": (1, 4), "bf16": (1, 2), "f16": (1, 2), "fp8": (128 * 128, 128 * 128 + 4),
    "nvfp4": (16, 9), "mxfp4": (32, 17), "q8_0": (32, 34), "q4_0": (32, 18), "q2_k": (256, 84),
    "q3_k": (256, 110), "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210),
    "iq2_xxs": (256, 66), "iq2_xs": (256, 74), "iq2_s": (256, 82), "iq3_xxs": (256, 98),
    "iq3_s": (256, 110), "iq4_xs": (256, 136), "iq4_nl": (32, 18), "iq1_s": (256, 50),
    "iq1_m": (256, 56),
}
CACHED = {"bf16": 2.0, "q8_0": 34 / 32, "fp8": 1.0, "q4_0": 18 / 32}  # bytes of a cached value
MIXES = {"q3_k_s": "q3_k", "q3_k_m": "q3_k", "q4_k_s": "q4_k", "q4_k_m": "q4_k", "q6_k": "q6_k",
         "q8_0": "q8_0"}
KEPT = ("norm", "bias", "router", "small")  # what llama.cpp leaves in float32


def bits(form):
    """Bits of a weight in a format, its scales included."""
    weights, block = BLOCKS[form]
    return 8 * block / weights


def mixed(mix, c):
    """The format of each tensor of a model under one of llama.cpp's mixes, as llama-quant.cpp says.

    Parameters
    ----------
    mix : str
        One of `MIXES`.
    c : dict
        The configuration of the model; not one of 8 experts, which is treated in a way of its own.

    Returns
    -------
    callable
        Tensor (str) and layer (int) to format (str).
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
