"""Checkpoints of transformers as tables of tensors: elements, which of them a token reads, and bytes under a storage recipe.

A model is the configuration that its authors publish; configurations, recipes and published sizes are the recorded facts of
models.json, each with its link. Bytes are bytes here; GB (10**9) and GiB (2**30) are for display.
"""

import json
import re
from functools import cache as once
from pathlib import Path

import pandas as pd

from lib.errors import CollectionError
from lib.subjects import formats

GB, GIB, MIB = 10**9, 2**30, 2**20
FACTS = Path(__file__).with_name("models.json")


@once
def facts():
    """The recorded facts: models, recipes, published sizes and caches, measurements, the machine (dict; do not change it)."""
    return json.loads(FACTS.read_text())


def config(name):
    """The configuration of a model (dict).

    Raises
    ------
    CollectionError
        If it is not recorded.
    """
    if name not in facts()["models"]:
        raise CollectionError(f"no model {name!r} is recorded", f"name one of: {', '.join(facts()['models'])}")
    return facts()["models"][name]["config"]


def size(given):
    """The bytes of a recorded size: a dict with ``gb``, ``gib`` or ``mib``."""
    return next(given[unit] * factor for unit, factor in (("gb", GB), ("gib", GIB), ("mib", MIB)) if unit in given)


def layers(c):
    """The kind of each layer: ``A`` attention and MLP, ``*`` attention, ``L`` linear attention and MLP, ``M`` Mamba, ``E`` MLP."""
    return c.get("pattern") or "".join("L" if c.get("full_every") and (i + 1) % c["full_every"] else "A" for i in range(c["layers"]))


def attention(c):
    """Tensors of an attention layer (dict of name to elements)."""
    h, heads, kv, d = c["hidden"], c["heads"], c["kv_heads"], c["head_dim"]
    if "kv_lora" in c:  # multi-head latent attention
        return {"attn.q_a": h * c["q_lora"], "attn.q_b": c["q_lora"] * heads * (c["nope_dim"] + c["rope_dim"]),
                "attn.kv_a": h * (c["kv_lora"] + c["rope_dim"]), "attn.kv_b": c["kv_lora"] * heads * (c["nope_dim"] + c["v_dim"]),
                "attn.o": heads * c["v_dim"] * h, "norm.qkv": c["q_lora"] + c["kv_lora"]}
    biases = {None: 0, True: (heads + 2 * kv) * d, "all+sinks": (heads + 2 * kv) * d + h + heads}[c.get("attn_bias")]
    norms = {None: 0, "layer": (heads + kv) * d, "head": 2 * d}[c.get("qk_norm")]
    return {"attn.q": h * heads * d * (2 if c.get("q_gate") else 1), "attn.k": h * kv * d, "attn.v": h * kv * d,
            "attn.o": heads * d * h, "bias.attn": biases, "norm.qk": norms}


def gated_delta(c):
    """Tensors of a gated delta-net layer (dict of name to elements)."""
    h, qk, v, n = c["hidden"], c["lin_k_heads"] * c["lin_k_dim"], c["lin_v_heads"] * c["lin_v_dim"], c["lin_v_heads"]
    return {"linear.qkv": h * (2 * qk + v), "linear.z": h * v, "linear.ba": h * 2 * n, "linear.out": v * h,
            "small.linear": (2 * qk + v) * c["conv"] + 2 * n + c["lin_v_dim"]}


def mamba(c):
    """Tensors of a Mamba 2 layer (dict of name to elements)."""
    h, inner, state, n = c["hidden"], c["mamba_heads"] * c["mamba_dim"], c["groups"] * c["state"], c["mamba_heads"]
    return {"mamba.in": h * (2 * inner + 2 * state + n), "mamba.out": inner * h,
            "small.mamba": (inner + 2 * state) * (c["conv"] + 1) + 3 * n + inner}


def mlp(c, moe):
    """Tensors of an MLP, dense or of experts (dict of name to elements)."""
    h, parts = c["hidden"], ("gate", "up", "down") if c.get("mlp_mats", 3) == 3 else ("up", "down")
    if not moe:
        return {f"mlp.{part}": h * c["ffn"] for part in parts}
    width = c.get("latent", h)
    found = {f"expert.{part}": c["experts"] * width * c["moe_ffn"] for part in parts}
    found |= {f"shared.{part}": h * c.get("shared_ffn", 0) for part in parts}
    found |= {"latent.in": h * width, "latent.out": width * h} if "latent" in c else {}
    return found | {"router": h * c["experts"], "router.shared": h if c.get("shared_gate") else 0,
                    "bias.router": c["experts"] if c.get("router_bias") else 0,
                    "bias.expert": c["experts"] * (2 * c["moe_ffn"] + h) if c.get("expert_bias") else 0}


@once
def listed(name):
    c, rows = config(name), []

    def add(tensors, layer):
        for tensor, elements in tensors.items():
            expert = "expert" in tensor
            active = c["top_k"] / c["experts"] if expert else 1 / c["vocab"] if tensor == "embed" else 1.0
            if elements:
                rows.append((tensor, layer, elements, active, c["experts"] if expert else 1))

    def part(tensor):
        if tensor == ("embed" if c.get("tied") else "head"):
            return "head"
        return "experts" if "expert" in tensor else "attention" if tensor.startswith("attn") else "embed" if tensor == "embed" else "other"

    for layer, kind in enumerate(layers(c)):
        add({"L": gated_delta, "M": mamba, "E": lambda _: {}}.get(kind, attention)(c), layer)
        if kind in "ALE":
            add(mlp(c, "experts" in c and layer >= c.get("dense_layers", 0)), layer)
        add({"norm.layer": c["hidden"] * (2 if kind in "AL" else 1)}, layer)
    add({"embed": c["vocab"] * c["hidden"], "norm.final": c["hidden"], "head": 0 if c.get("tied") else c["vocab"] * c["hidden"]}, -1)
    table = pd.DataFrame(rows, columns=["tensor", "layer", "elements", "active", "copies"])
    return table.assign(part=table["tensor"].map({tensor: part(tensor) for tensor in table["tensor"].unique()}))


def tensors(name):
    """A model as a table of its tensors, without vision towers and without layers for multi-token prediction.

    Returns
    -------
    DataFrame
        A row for each tensor and layer (-1: outside the layers): elements, the share of them that one token reads (``active``), how
        many matrices it holds (``copies``: the experts), and its part (``experts``, ``attention``, ``head``, ``embed`` or ``other``).
    """
    return listed(name).copy()


def sized(name, recipe):
    """`tensors` with the format and the bytes of each under a recipe.

    Parameters
    ----------
    name : str
        A model.
    recipe : str
        A recipe of models.json (ordered rules of pattern and format, of which the first that matches wins; ``rest`` is what closes the
        published total), or a mix of llama.cpp's, as ``q4_k_m``.

    Raises
    ------
    CollectionError
        If the model or the recipe is not known, or the recipe says nothing of a tensor.
    """
    return stored(name, recipe).copy()


@once
def stored(name, recipe):
    table, known = tensors(name), facts()["recipes"].get(recipe)
    if known is None and recipe not in formats.MIXES:
        raise CollectionError(f"no recipe {recipe!r} is recorded", f"name one of: {', '.join([*facts()['recipes'], *formats.MIXES])}")
    if known is None:
        table["format"] = list(map(formats.mixed(recipe, config(name)), table["tensor"], table["layer"]))
    else:
        rules = known["rules"]
        forms = {tensor: next((form for pattern, form in rules if re.match(pattern, tensor)), None) for tensor in table["tensor"].unique()}
        if silent := [tensor for tensor, form in forms.items() if form is None]:
            raise CollectionError(f"{recipe} says nothing of {', '.join(silent)}", "add a rule for it to lib/subjects/models.json")
        table["format"] = table["tensor"].map(forms)
    rest = table["format"] == "rest"
    table["bytes"] = table["elements"] * table["format"].map({"rest": 0.0} | {form: formats.bits(form) / 8 for form in formats.BLOCKS})
    if rest.any():
        left = size(known["total"]) - table["bytes"].sum()
        table.loc[rest, "bytes"] = table["elements"][rest] * (left / table["elements"][rest].sum())
    table.loc[table["format"] == "nvfp4", "bytes"] += 8 * table["copies"]  # two float32 scales of a matrix: of its weights, of its input
    return table


def weight_bytes(name, recipe):
    """The bytes of a checkpoint (float)."""
    return float(sized(name, recipe)["bytes"].sum())


def cache_bytes(name, context, element=2.0):
    """Bytes that one sequence of `context` tokens keeps between steps.

    Sliding layers keep at most their window, latent attention keeps its compressed vector, recurrent layers a float32 state of fixed size.

    Parameters
    ----------
    context : int
        Tokens.
    element : float
        Bytes of a cached value (`formats.CACHED`).

    Raises
    ------
    CollectionError
        If a number is negative.
    """
    if context < 0 or element < 0:
        raise CollectionError(f"a cache of {context} tokens at {element} bytes a value cannot be", "give numbers of at least 0")
    c, kinds = config(name), layers(config(name))
    full = sum(kind in "A*" for kind in kinds)
    sliding = full // 2 if "window" in c else 0
    values = c["kv_lora"] + c["rope_dim"] if "kv_lora" in c else 2 * c["kv_heads"] * c["head_dim"]
    state = {"L": c.get("lin_v_heads", 0) * c.get("lin_k_dim", 0) * c.get("lin_v_dim", 0),
             "M": c.get("mamba_heads", 0) * c.get("mamba_dim", 0) * c.get("state", 0)}
    held = (full - sliding) * context + sliding * min(context, c.get("window", 0))
    return held * values * element + 4 * sum(state.get(kind, 0) for kind in kinds)


def working_bytes(name, tokens=2048):
    """The least that a step of some tokens needs beside weights and cache: its logits and one hidden state, in float32."""
    return 4 * tokens * (config(name)["vocab"] + config(name)["hidden"])


def prediction_bytes(name):
    """Bytes of one layer for multi-token prediction in bfloat16: the model's last full layer and a projection (2 hidden x hidden)."""
    table, h = tensors(name), config(name)["hidden"]
    last = table["layer"][table["tensor"].str.startswith("attn.")].max()
    return 2 * (int(table["elements"][table["layer"] == last].sum()) + 2 * h * h)


def validation():
    """The model beside every published size.

    Returns
    -------
    DataFrame
        model, recipe, published and modelled (bytes), error (a share), read_as, what, source.
    """
    rows = []
    for each in facts()["published"]:
        ours = weight_bytes(each["model"], each["recipe"]) + each.get("mtp", 0) * prediction_bytes(each["model"])
        rows.append({"model": each["model"], "recipe": each["recipe"], "published": size(each), "modelled": ours,
                     "error": ours / size(each) - 1, "read_as": each.get("read_as", "as given"),
                     "what": each["what"], "source": each["source"]})
    return pd.DataFrame(rows)
