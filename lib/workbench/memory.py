"""Notebook 06's question about a model of the reader's: does it fit into one DGX Spark."""

import functools

import pandas as pd

from lib.fit import charts, explorer, roofline
from lib.subjects import models, parameters
from lib.subjects.models import GB
from lib.workbench.answers import Answer

FORMATS = [*explorer.FORMATS]
PARTS = {"weights": ("blue", ""), "cache": ("orange", "/"), "working": ("grey", ".")}


@functools.cache
def sizes(model, recipe, context):
    """The GB of weights, cache and working space, and whether a Spark offers them (dict)."""
    parts = {"weights": models.weight_bytes(model, recipe) / GB,
             "cache": models.cache_bytes(model, context) / GB,
             "working": models.working_bytes(model) / GB}
    return {"recipe": recipe, **parts, "whole": sum(parts.values()),
            "bits a weight": roofline.needed(model, recipe, context)["bits a weight"]}


def fits(model, format, context):
    """Whether a model in a format fits one DGX Spark, with a bfloat16 cache of `context` tokens.

    `format` is a recipe of lib/subjects/models.json or a mix of llama.cpp's. Sizes are in GB
    (10**9 bytes); what a Spark offers is its idle MemAvailable. A CollectionError if the model or
    the format is not recorded, with those that are, or the context cannot be.

    Examples
    --------
    >>> fits("gpt-oss-120b", "mxfp4-gguf", context=32768)
    gpt-oss-120b in mxfp4-gguf with 32,768 cached tokens needs 66.3 of a Spark's 124.4 GB: it fits.
    """
    parameters.check({"context": context})
    own, spark = sizes(model, format, context), models.facts()["machine"]
    offered = spark["memory"][spark["offered"]]["bytes"] / GB
    others = [recipe for recipe in explorer.offered(model) if recipe != format]
    table = pd.DataFrame([own, *(sizes(model, recipe, context) for recipe in others)])
    table["fits"] = table["whole"] <= offered
    title = models.facts()["models"][model]["title"]
    verdict = "it fits" if own["whole"] <= offered else (
        f"it is {own['whole'] - offered:.1f} GB too large")
    said = f"{title} in {format} with {context:,} cached tokens needs {own['whole']:.1f} of a " \
           f"Spark's {offered:.1f} GB: {verdict}."
    chart = charts.bars(table, PARTS, "GB", f"{title} in each format, beside what a Spark offers.",
                        {"a Spark offers": offered})
    return Answer(said, (chart,), {"sizes": table})
