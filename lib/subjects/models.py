"""Checkpoints of transformers as tables of tensors: elements, what a token reads, and bytes.

A model is the configuration that its authors publish; configurations, recipes and published sizes
are the recorded facts of models.json, each with its link. Bytes are bytes; GB and GiB are shown.
"""

import json
import re
import tomllib
from collections import defaultdict
from functools import cache as once
from pathlib import Path

import pandas as pd

from lib.errors import CollectionError
from lib.subjects import formats

GB, GIB, MIB = 10**9, 2**30, 2**20
FACTS = Path(__file__).with_name("models.json")
TENSORS = tomllib.loads(Path(__file__).with_name("tensors.toml").read_text())


@once
def facts():
    """The recorded facts: models, recipes, sizes, measurements, the machine (dict; shared)."""
    return json.loads(FACTS.read_text())


def config(name):
    """The configuration of a model (dict); an error if it is not recorded."""
    if name in (known := facts()["models"]):
        return known[name]["config"]
    raise CollectionError(f"no model {name!r} is recorded", f"name one of: {', '.join(known)}")


def size(given):
    """The bytes of a recorded size: a dict with ``gb``, ``gib`` or ``mib``."""
    return next(given[unit] * {"gb": GB, "gib": GIB, "mib": MIB}[unit] for unit in given
                if unit in ("gb", "gib", "mib"))


def about(value, stated, within=0.05):
    """Whether a value is what an account calls it: within five percent of the stated figure."""
    return bool(abs(value / stated - 1) < within)


def layers(c):
    """A letter a layer (str): what it is made of stands in tensors.toml."""
    every = c.get("full_every")
    return c.get("pattern") or "".join(
        "L" if every and (i + 1) % every else "A" for i in range(c["layers"]))


def shape(part, c):
    """The tensors of a part of tensors.toml, as ``attention`` (dict of name to elements)."""
    stated = defaultdict(int, c)
    return {tensor: eval(elements, {}, stated) for tensor, elements in TENSORS[part].items()}


@once
def tensors(name):
    """A model as a table of its tensors, without vision towers and multi-token prediction.

    A row for each tensor and layer (-1: outside the layers): elements, the share of them that a
    token reads (``active``), how many matrices it holds (``copies``: the experts), and its part
    (``experts``, ``attention``, ``head``, ``embed`` or ``other``). Shared: not to be changed.
    """
    c, rows = config(name), []
    parts = {"attn": "attention", "head": "head", "embed": "head" if c.get("tied") else "embed"}

    def add(tensors, layer):
        for tensor, elements in tensors.items():
            row = (1 / c["vocab"] if tensor == "embed" else 1.0, 1,
                   parts.get(tensor.partition(".")[0], "other"))
            if "expert" in tensor:
                row = c["top_k"] / c["experts"], c["experts"], "experts"
            if elements:
                rows.append((tensor, layer, elements, *row))

    for layer, letter in enumerate(layers(c)):
        mlp = "experts" if "experts" in c and layer >= c.get("dense_layers", 0) else "mlp"
        for part in TENSORS["layers"][letter]:
            add(shape(mlp if part == "mlp" else part, c), layer)
        add({"norm.layer": c["hidden"] * len(TENSORS["layers"][letter])}, layer)
    width = c["vocab"] * c["hidden"]
    add({"embed": width, "norm.final": c["hidden"], "head": 0 if c.get("tied") else width}, -1)
    columns = ["tensor", "layer", "elements", "active", "copies", "part"]
    return pd.DataFrame(rows, columns=columns)


@once
def stored(name, recipe):
    """`tensors` with the format and the bytes of each under a recipe; shared, not to be changed.

    A recipe is one of models.json (ordered rules of pattern and format, of which the first that
    matches wins; ``rest`` is what closes the published total), or a mix of llama.cpp's. An error if
    the model or the recipe is not known, or the recipe says nothing of a tensor.
    """
    table, recipes = tensors(name).copy(), facts()["recipes"]
    if recipe in recipes:
        rules = recipes[recipe]["rules"]
        forms = {tensor: next((form for rule, form in rules if re.match(rule, tensor)), None)
                 for tensor in table["tensor"].unique()}
        if silent := [tensor for tensor, form in forms.items() if form is None]:
            raise CollectionError(f"{recipe} says nothing of {', '.join(silent)}",
                                  f"add a rule for it to {FACTS.name}")
        table["format"] = table["tensor"].map(forms)
    elif recipe in formats.MIXES:
        pick = formats.mixed(recipe, config(name))
        table["format"] = list(map(pick, table["tensor"], table["layer"]))
    else:
        raise CollectionError(f"no recipe {recipe!r} is recorded",
                              f"name one of: {', '.join([*recipes, *formats.MIXES])}")
    rest = table["format"] == "rest"
    widths = {"rest": 0.0} | {form: formats.bits(form) / 8 for form in formats.BLOCKS}
    table["bytes"] = table["elements"] * table["format"].map(widths)
    if rest.any():
        left = size(recipes[recipe]["total"]) - table["bytes"].sum()
        table.loc[rest, "bytes"] = table["elements"][rest] * (left / table["elements"][rest].sum())
    # A matrix has two more float32 scales: of its weights, and of its input.
    table.loc[table["format"] == "nvfp4", "bytes"] += 8 * table["copies"]
    return table


def weight_bytes(name, recipe):
    """The bytes of a checkpoint (float)."""
    return float(stored(name, recipe)["bytes"].sum())


def cache_bytes(name, context, element=2.0):
    """Bytes that one sequence of `context` tokens keeps between steps.

    Sliding layers keep at most their window, latent attention keeps its compressed vector,
    recurrent layers a float32 state of fixed size. `element` is the bytes of a cached value
    (`formats.CACHED`). An error if a number is negative.
    """
    if context < 0 or element < 0:
        raise CollectionError(f"a cache of {context} tokens at {element} bytes a value cannot be",
                              "give numbers of at least 0")
    c, kinds = config(name), layers(config(name))
    full = sum(kind in "A*" for kind in kinds)
    sliding = full // 2 if "window" in c else 0
    latent = "kv_lora" in c
    values = c["kv_lora"] + c["rope_dim"] if latent else 2 * c["kv_heads"] * c["head_dim"]
    state = {"L": c.get("lin_v_heads", 0) * c.get("lin_k_dim", 0) * c.get("lin_v_dim", 0),
             "M": c.get("mamba_heads", 0) * c.get("mamba_dim", 0) * c.get("state", 0)}
    held = (full - sliding) * context + sliding * min(context, c.get("window", 0))
    return held * values * element + 4 * sum(state.get(kind, 0) for kind in kinds)


def working_bytes(name, tokens=2048):
    """The least that a step needs beside weights and cache: logits and hidden state in float32."""
    return 4 * tokens * (config(name)["vocab"] + config(name)["hidden"])


def prediction_bytes(name):
    """Bytes of a layer for multi-token prediction in bfloat16: the last full one, a projection."""
    table, h = tensors(name), config(name)["hidden"]
    last = table["layer"][table["tensor"].str.startswith("attn.")].max()
    return 2 * (int(table["elements"][table["layer"] == last].sum()) + 2 * h * h)


def validation():
    """The model beside every published size (DataFrame).

    The columns are model, recipe, published and modelled (bytes), error (a share), read_as, what
    and source.
    """
    def row(each):
        ours, theirs = weight_bytes(each["model"], each["recipe"]), size(each)
        ours += each.get("mtp", 0) * prediction_bytes(each["model"])
        return {"model": each["model"], "recipe": each["recipe"], "published": theirs,
                "modelled": ours, "error": ours / theirs - 1,
                "read_as": each.get("read_as", "as given"), "what": each["what"],
                "source": each["source"]}
    return pd.DataFrame(map(row, facts()["published"]))
