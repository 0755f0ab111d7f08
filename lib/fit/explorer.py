"""The explorer: the reader picks model, format, cache and context, and sees what fits, how fast.

The bytes and operations are computed here; explorer.js, in site and JupyterLab, only divides them.
"""

import tomllib
from pathlib import Path

import pandas as pd

from lib.evidence import explorers
from lib.fit import roofline
from lib.subjects import formats, models

SCRIPT = Path(__file__).with_name("explorer.js")
CONTEXTS, FORMATS, FIRST = tomllib.loads(SCRIPT.with_suffix(".toml").read_text()).values()


def offered(name):
    """The formats for a model (dict of recipe to label)."""
    c = models.config(name)
    # K-quants need rows of a multiple of 256 weights, MXFP4 mixes need experts.
    whole = c["hidden"] % 256 == 0 and c.get("moe_ffn", 256) % 256 == 0
    without = (() if whole else ("q3_k", "q4_k", "q6_k")) + (() if "experts" in c else ("mxfp4",))
    usual = {recipe: label for recipe, label in FORMATS.items() if not recipe.startswith(without)}
    return FIRST.get(name, {}) | usual


class Explorer(explorers.Explorer):
    """The explorer for a machine, as something that shows itself.

    `memory` and `spare` are the bytes that it offers, and those for neither weights nor cache;
    `bandwidth` and `peak` bytes, and operations of FP4, a second; `reached` the least and the
    largest share of the bound that measurements reach.
    """

    def __init__(self, memory, bandwidth, peak, spare, reached):
        known = models.facts()["models"]
        every = pd.DataFrame([
            {"model": name, "recipe": recipe, "label": label,
             "weights": models.weight_bytes(name, recipe),
             "read": float(roofline.step_bytes(name, recipe).sum())}
            for name in known for recipe, label in offered(name).items()])
        of_model = every.set_index("model")
        data = {"memory": memory, "bandwidth": bandwidth, "peak": peak, "spare": spare,
                "reached": list(reached), "contexts": CONTEXTS, "caches": list(formats.CACHED),
                "models": [browsed(name, of_model.loc[[name]]) for name in known]}
        cached = every["model"].map(lambda name: models.cache_bytes(name, 32768))
        fits = every["weights"] + cached + spare <= memory
        table = pd.DataFrame({
            "model": [known[name]["title"] for name in every["model"]], "format": every["label"],
            "weights (GB)": (every["weights"] / models.GB).round(1),
            "fits one Spark with 32k of bf16 cache": fits.map({True: "yes", False: "no"}),
            "at most, without context (tokens/s)": (bandwidth / every["read"]).round(1)})
        super().__init__("fit", SCRIPT, data, table, "every model in every format")


def browsed(name, rows):
    """What the browser needs of a model and its formats (dict)."""
    c, steady = models.config(name), roofline.operations(name)
    return {"id": name, "title": models.facts()["models"][name]["title"], "limit": c["context"],
            "cache": {kv: [models.cache_bytes(name, context, element) for context in CONTEXTS]
                      for kv, element in formats.CACHED.items()},
            "operations": steady,
            "operations_cached": roofline.operations(name, context=1) - steady,
            "formats": rows.to_numpy().tolist()}
