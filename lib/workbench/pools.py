"""Notebook 02's question about a model and a pool of the reader's, to our model of the blocks."""

import functools

from lib.bug2_kv_cache import designs, traces
from lib.errors import CollectionError
from lib.subjects import models, parameters
from lib.workbench.answers import Answer

SHOWN = {"design": "design", "requests": "served", "refused": "refused", "hits": "hits (blocks)",
         "percent": "hit rate (%)", "copies": "copies (blocks)", "gb": "copied (GB)",
         "seconds": "copying (s)", "of decode": "copying / decoding (%)"}


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

    Examples
    --------
    >>> pool("Qwen3-30B-A3B", 8, context=8192)
    A model of ours, not TensorRT-LLM, replayed 300 requests of Qwen3 30B-A3B.
    copy: 84.1 % hits, 941 copies of blocks.
    relabel: 84.1 % hits, 0 copies of blocks.
    fold: 84.6 % hits, 0 copies of blocks.
    """
    models.config(model)
    parameters.check({"context": context})
    if not isinstance(gigabytes, int | float) or not 0 < gigabytes <= 10_000:
        raise CollectionError(f"gigabytes cannot be {gigabytes!r}",
                              "give more than 0 and at most 10,000 GB, of both pools together")
    found = compared(model, gigabytes, context)
    served, title = found["requests"].max(), models.facts()["models"][model]["title"]
    lines = [f"A model of ours, not TensorRT-LLM, replayed {served} requests of {title}."]
    if not served:
        lines += ["None fits into half of the pool: give more gigabytes, or a shorter context."]
    for _, each in found[found["requests"] > 0].iterrows():
        lines += [f"{each['design']}: {100 * each['hit_rate']:.1f} % hits, "
                  f"{each['copies']:,} copies of blocks."]
    scaled = found.assign(percent=100 * found["hit_rate"], gb=found["bytes_copied"] / 1e9)
    scaled["of decode"] = 100 * found["share"]
    return Answer("\n".join(lines), (scaled[[*SHOWN]].rename(columns=SHOWN),),
                  {"designs": found})
