"""A model of the reader's in memory: its cache in two pools (notebook 02), and if it fits (06)."""

import functools

import pandas as pd

from lib.bug2_kv_cache import designs, traces
from lib.fit import charts, explorer
from lib.subjects import models, parameters
from lib.workbench.answers import Answer

PARTS = {"weights": ("blue", ""), "cache": ("orange", "/"), "working space": ("grey", ".")}
SHOWN = {"design": "design", "requests": "served", "refused": "refused", "hits": "hits (blocks)",
         "copies": "copies (blocks)", "seconds": "copying (s)", "decode_seconds": "decoding (s)"}


@functools.cache
def compared(model, gigabytes, context):
    """Agents whose context grows from half of `context` on, replayed (`designs.compare`)."""
    load = traces.agents(runs=30, steps=10, tools=context // 2, output=200,
                         observation=max(context // 20 - 200, 1))
    return designs.compare(load, model, gigabytes * 1e9)


def pool(model, gigabytes, context):
    """Replay agents through each design of a KV cache, in our model of the block manager.

    `gigabytes` (10**9 bytes) are those of both pools together, `context` the tokens that an agent
    reaches. The load is 30 agents of 10 steps, at a DGX Spark's bandwidth. A CollectionError if
    the model is not recorded or a number cannot be.

    >>> pool("Qwen3-30B-A3B", 8, context=8192)
    A model of ours, not TensorRT-LLM, replayed 300 of 300 requests of Qwen3-30B-A3B.
    copy: 84.1 % hits, 941 blocks copied.
    relabel: 84.1 % hits, 0 blocks copied.
    fold: 84.6 % hits, 0 blocks copied.
    """
    models.config(model)
    parameters.check({"context": context, "gigabytes": gigabytes})
    found = compared(model, gigabytes, context)
    served = found["requests"].max()
    lines = [f"A model of ours, not TensorRT-LLM, replayed {served} of 300 requests of {model}."]
    lines += [f"{design}: {100 * rate:.1f} % hits, {copies:,} blocks copied." for design, rate,
              copies in zip(found["design"], found["hit_rate"], found["copies"]) if served]
    lines += [] if served else ["Give more gigabytes, or a shorter context."]
    return Answer("\n".join(lines), (found[[*SHOWN]].rename(columns=SHOWN),), found)


def fits(model, format, context):
    """Whether a model in a format fits one DGX Spark, with a bfloat16 cache of `context` tokens.

    `format` is a recipe of lib/subjects/models.json or a mix of llama.cpp's. Sizes are in GB
    (10**9 bytes); what a Spark offers is its idle MemAvailable. A CollectionError if the model or
    the format is not recorded, with those that are, or the context cannot be.

    >>> fits("gpt-oss-120b", "mxfp4-gguf", context=32768)
    gpt-oss-120b in mxfp4-gguf with 32,768 cached tokens needs 66.3 of a Spark's 124.4 GB: it fits.
    """
    parameters.check({"context": context})
    formats = dict.fromkeys([format, *explorer.offered(model)])
    table = pd.DataFrame([{"recipe": each, "weights": models.weight_bytes(model, each)}
                          for each in formats])
    table["cache"], table["working space"] = (
        models.cache_bytes(model, context), models.working_bytes(model))
    spark, needed = models.facts()["machine"], table[[*PARTS]].sum(axis=1)[0]
    offered = spark["memory"][spark["offered"]]["bytes"]
    table[[*PARTS]] /= models.GB
    said = f"{model} in {format} with {context:,} cached tokens needs " \
           f"{needed / models.GB:.1f} of a Spark's {offered / models.GB:.1f} GB: " \
           f"{'it fits' if needed <= offered else 'it is too large'}."
    chart = charts.bars(table, PARTS, "GB", f"{model} in each format, beside what a Spark offers.",
                        {"a Spark offers": offered / models.GB})
    return Answer(said, (chart,), table)
