"""Designs of the KV cache against each other: the same requests and bytes, in the model."""

import json

import pandas as pd

from lib import cache
from lib.bug2_kv_cache import blocks, sizes, storage, traces
from lib.subjects import models

DESIGNS = ("copy", "relabel", "fold")
LOADS = {"chat": traces.chat, "agents": traces.agents, "documents": traces.documents}


def compare(trace, model, pool_bytes, batch=4, bandwidth=273e9):
    """Replay a trace through each design with pools of `pool_bytes` in all, halved or folded.

    Only requests that the smaller, primary pool can hold are replayed, so that all designs serve
    the same ones. `batch` sequences are alive at once and share one reading of the weights, in
    NVFP4; cached values are bfloat16. `bandwidth` is in bytes/s: 273e9 is a DGX Spark's.

    Returns
    -------
    DataFrame
        A row per design: `blocks.Counts.costs`, with ``refused`` (of the whole trace),
        ``decode_seconds`` (the time in which the memory delivers the weights and the cache of
        every decode step; prefill is left out) and ``share`` (copies over decode).
    """
    block = sizes.per_token(model) * traces.BLOCK
    half = sizes.blocks(pool_bytes / 2, block)
    served = [request for request in trace if request.blocks <= half]
    weights = sizes.weights_per_step(model) / batch
    decode = sum(each.output_length * (weights + models.cache_bytes(
        model, each.input_length + each.output_length / 2)) for each in served) / bandwidth
    rows = []
    for design in DESIGNS:
        counts = blocks.replay(served, half, half, design, batch)
        room = 2 * half if design == "fold" else half
        rows.append({"design": design, "pool_bytes": pool_bytes, "blocks": 2 * half,
                     **counts.costs(block, bandwidth), "decode_seconds": decode,
                     "refused": sum(request.blocks > room for request in trace)})
    table = pd.DataFrame(rows)
    return table.assign(share=table["seconds"] / (decode or float("nan")))


def survival(trace, primary, secondary, batch=2, **options):
    """Replay a trace through every design on blocks of memory, and compare them at every hit.

    The pools are overwritten; they and the `options` are those of `storage.Blocks`. A row per
    design: blocks hit, copies, and hits whose contents were not the block's own (DataFrame).
    """
    rows = []
    for design in blocks.DESIGNS:
        primary[:] = secondary[:] = 0
        store = storage.Blocks(primary, secondary, **options)
        counts = blocks.replay(trace, len(primary), len(secondary), design, batch, store)
        rows.append({"design": design, "hits": counts.hits,
                     "through the secondary pool": counts.hits_secondary,
                     "copies": counts.copies, "wrong": counts.wrong})
    return pd.DataFrame(rows)


def remembered(inputs, model, make):
    """A table that is made once for its inputs and the model's configuration (DataFrame)."""
    def ask(folder):
        return json.loads(make().to_json(orient="records"))

    key = inputs | {"model": model, "configuration": models.config(model)}
    return pd.DataFrame(cache.remember("kv-designs", key, ask).value)


def loads(model, pools, seed=0, recorded=None, **options):
    """`compare` for each load and pool size in bytes (DataFrame with the column ``load``).

    The loads are `LOADS` and, if its path is given, a ``recorded`` trace in Mooncake's format.
    """
    known = {name: generate(seed=seed) for name, generate in LOADS.items()}
    known |= {"recorded": traces.read(recorded)} if recorded else {}

    def make():
        return pd.concat([compare(trace, model, pool, **options).assign(load=name)
                          for name, trace in known.items() for pool in pools], ignore_index=True)

    return remembered({"study": "loads", "pools": list(pools), "seed": seed,
                       "recorded": recorded, "options": options}, model, make)


def grid(model, contexts, pools, runs=30, steps=10, output=200, seed=0, **options):
    """`compare` over pool sizes and over `contexts`: tokens of an agent's run at its end (mean).

    `runs` agents share half of it, and add the other half in `steps` requests with answers of
    `output` tokens (mean). A DataFrame with the column ``context``.
    """
    def make():
        tables = []
        for context in contexts:
            step = max(context // 2 // steps - output, 1)
            trace = traces.agents(runs, steps, context // 2, step, output, seed=seed)
            tables += [compare(trace, model, pool, **options).assign(context=context)
                       for pool in pools]
        return pd.concat(tables, ignore_index=True)

    return remembered({"study": "grid", "contexts": list(contexts), "pools": list(pools),
                       "agents": [runs, steps, output], "seed": seed, "options": options},
                      model, make)


def answers(model, lengths, pool_bytes, seed=0, **options):
    """`compare` for questions about documents, by tokens of the answer (column ``answer``)."""
    return pd.concat([compare(traces.documents(output=tokens, seed=seed), model, pool_bytes,
                              **options).assign(answer=tokens) for tokens in lengths])


def gain(table, keys):
    """What folding ends (``share`` of copies) and adds (``points`` of hit rate), by some columns.

    NaN where no request fits (DataFrame).
    """
    wide = table.pivot_table(index=keys, columns="design",
                             values=["share", "hit_rate", "requests"], dropna=False)
    requests = wide["requests", "copy"]
    points = 100 * (wide["hit_rate", "fold"] - wide["hit_rate", "copy"])
    found = {"share": wide["share", "copy"], "points": points, "requests": requests}
    return pd.DataFrame(found).where(requests > 0).assign(requests=requests).reset_index()
