"""Bytes of a KV cache and of a decode step, from a model's configuration."""

import tomllib
from pathlib import Path

from lib.errors import CollectionError

MODELS = Path(__file__).with_name("kv_models.toml")
BITS = {"bf16": 16, "fp16": 16, "fp8": 8, "nvfp4": 4 + 8 / 16}  # NVFP4: one E4M3 scale for 16 elements


def models():
    """The recorded configurations (dict of name to dict with the fields of config.json, and ``source``)."""
    return {row["name"]: row for row in tomllib.loads(MODELS.read_text())["model"]}


def model(name):
    """One recorded configuration; raises CollectionError if there is none of that name."""
    known = models()
    if name not in known:
        raise CollectionError(f"no configuration of a model {name!r} is recorded",
                              f"use one of {', '.join(known)}, or add it to {MODELS.name}")
    return known[name]


def field(config, *names):
    """The first of `names` that a configuration has; raises CollectionError if it has none."""
    for name in names:
        if config.get(name) is not None:
            return config[name]
    raise CollectionError(f"the model configuration lacks {' and '.join(names)}", "take the whole config.json of the model")


def bits(dtype):
    """Bits of one element, scales included; raises CollectionError for an unknown type."""
    if dtype not in BITS:
        raise CollectionError(f"unknown type {dtype!r} of a KV cache or of weights", f"use one of {', '.join(BITS)}")
    return BITS[dtype]


def head_width(config):
    """Elements of one attention head."""
    return config.get("head_dim") or field(config, "hidden_size") // field(config, "num_attention_heads")


def per_token(config, dtype="bf16"):
    """Bytes of KV cache that one token takes over all layers.

    Parameters
    ----------
    config : dict
        Fields of a Hugging Face config.json: grouped or multi-head attention (``num_key_value_heads``, ``head_dim``), or multi-head latent
        attention (``kv_lora_rank``); ``layer_types``, where present, says which layers keep keys and values (sliding ones count as full).
    dtype : str
        One of `BITS`.

    Raises
    ------
    CollectionError
        If a field is missing (it is named), or the type is unknown.
    """
    config, size = config.get("text_config", config), bits(dtype)
    kinds = config.get("layer_types")
    layers = sum("full" in kind or "sliding" in kind for kind in kinds) if kinds else field(config, "num_hidden_layers")
    if config.get("kv_lora_rank"):
        elements = config["kv_lora_rank"] + field(config, "qk_rope_head_dim")
    else:
        elements = 2 * field(config, "num_key_value_heads", "num_attention_heads") * head_width(config)
    return int(layers * elements * size / 8)


def weights_per_step(config, dtype="nvfp4"):
    """Bytes of weights that one decode step reads at batch 1: attention, the experts of one token (or the dense MLP), and the output head.

    Norms, router and embedding row are left out (below 1 %). Grouped-query attention only.
    """
    hidden, width = field(config, "hidden_size"), head_width(config)
    attention = 2 * hidden * width * (field(config, "num_attention_heads") + field(config, "num_key_value_heads"))
    mlp = 3 * hidden * field(config, "moe_intermediate_size", "intermediate_size") * config.get("num_experts_per_tok", 1)
    return int((field(config, "num_hidden_layers") * (attention + mlp) + hidden * field(config, "vocab_size")) * bits(dtype) / 8)


def blocks(pool_bytes, block_bytes):
    """Whole blocks in a pool; raises CollectionError if not even one fits."""
    if pool_bytes < block_bytes:
        raise CollectionError(f"a block of {block_bytes:,} bytes is larger than the pool of {pool_bytes:,.0f} bytes",
                              "give the pool more memory, or make blocks of fewer tokens")
    return int(pool_bytes // block_bytes)
