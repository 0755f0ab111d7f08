"""The explorer: the reader picks model, format, cache and context in the browser, and sees what it needs and how fast it could be.

What the browser adds and divides is computed here and shipped with the page; its behaviour is explorer.js, for the site and
for JupyterLab alike.
"""

import json
from pathlib import Path

import pandas as pd

from lib.fit import roofline
from lib.subjects import formats, models

MIME = "application/vnd.sm12x.explorer+json"
SCRIPT = Path(__file__).with_name("explorer.js")
CONTEXTS = (0, 4096, 8192, 16384, 32768, 65536, 131072, 196608, 262144)
FORMATS = {"nvfp4-linear": "NVFP4, attention too", "nvfp4-experts": "NVFP4 experts and MLPs, the rest bf16",
           "mxfp4-gguf": "MXFP4 experts, the rest Q8_0 (GGUF)", "mxfp4-hf": "MXFP4 experts, the rest bf16",
           "fp8-block": "FP8, the rest bf16", "bf16": "bf16", "q8_0": "Q8_0 (GGUF)", "q6_k": "Q6_K (GGUF)",
           "q4_k_m": "Q4_K_M (GGUF)", "q4_k_s": "Q4_K_S (GGUF)", "q3_k_m": "Q3_K_M (GGUF)", "q3_k_s": "Q3_K_S (GGUF)"}
# What comes first for a model: formats of its own, and those that it is mostly had in.
SPECIAL = {"MiniMax-M2.5": {"nvfp4-experts-f32attn": "NVFP4 experts, attention f32, as NVIDIA ships it",
                            "ud-iq4_xs": "UD-IQ4_XS (GGUF, 108 GB)", "ud-q3_k_xl": "UD-Q3_K_XL (GGUF, the account's)"},
           "gpt-oss-120b": {"mxfp4-gguf": "", "mxfp4-hf": ""}, "gpt-oss-20b": {"mxfp4-gguf": "", "mxfp4-hf": ""}}


def offered(name):
    """The formats for a model (dict of recipe to label): K-quants need rows of a multiple of 256 weights, MXFP4 mixes need experts."""
    c = models.config(name)
    without = () if c["hidden"] % 256 == 0 and c.get("moe_ffn", 256) % 256 == 0 else ("q3_k", "q4_k", "q6_k")
    without += () if "experts" in c else ("mxfp4",)
    return SPECIAL.get(name, {}) | {recipe: label for recipe, label in FORMATS.items() if not recipe.startswith(without)}


def rows():
    """Every model in every format (list of dict): bytes of the weights, bytes that a token reads without cache, and operations."""
    return [{"model": name, "recipe": recipe, "label": label, "weights": models.weight_bytes(name, recipe),
             "read": float(roofline.step_bytes(name, recipe).sum())}
            for name in models.facts()["models"] for recipe, label in offered(name).items()]


class Explorer:
    """The explorer for a machine, as something that shows itself.

    Parameters
    ----------
    memory : float
        Bytes that the machine offers to weights, cache and all else.
    bandwidth : float
        Bytes a second.
    peak : float
        Operations a second, of FP4.
    spare : float
        Bytes set aside for everything that is neither weights nor cache.
    reached : (float, float)
        Which shares of the bound measurements reach.
    """

    def __init__(self, memory, bandwidth, peak, spare, reached):
        every = rows()
        chosen = {"memory": memory, "bandwidth": bandwidth, "peak": peak, "spare": spare, "reached": list(reached)}
        self.data = {**chosen, "contexts": CONTEXTS, "caches": list(formats.CACHED),
                     "models": [self.model(name, every) for name in models.facts()["models"]]}
        fits = [each["weights"] + models.cache_bytes(each["model"], 32768) + spare <= memory for each in every]
        self.table = pd.DataFrame({
            "model": [models.facts()["models"][each["model"]]["title"] for each in every], "format": [each["label"] for each in every],
            "weights (GB)": [round(each["weights"] / models.GB, 1) for each in every],
            "fits one Spark with 32k of bf16 cache": ["yes" if fit else "no" for fit in fits],
            "at most, without context (tokens/s)": [round(bandwidth / each["read"], 1) for each in every]})

    def model(self, name, every):
        c = models.config(name)
        cache = {kv: [models.cache_bytes(name, context, element) for context in CONTEXTS] for kv, element in formats.CACHED.items()}
        return {"id": name, "title": models.facts()["models"][name]["title"], "limit": c["context"], "cache": cache,
                "operations": roofline.operations(name),
                "operations_cached": roofline.operations(name, context=1) - roofline.operations(name),
                "formats": [[each["recipe"], each["label"], each["weights"], each["read"]] for each in every if each["model"] == name]}

    def _repr_mimebundle_(self, **_):
        table = self.table.to_html(index=False, border=0)
        data = json.dumps(self.data, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")
        html = (f'<div class="explorer"><script type="application/json">{data}</script><details open>'
                f"<summary>every model in every format</summary>{table}</details></div><script>{SCRIPT.read_text()}</script>")
        said = f"the explorer: {len(self.table)} pairs of model and format"
        return {MIME: {"data": self.data, "table": table}, "text/html": html, "text/plain": said}
