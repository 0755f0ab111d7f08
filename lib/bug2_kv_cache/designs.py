"""Designs of the KV cache against each other: the same requests and the same bytes, over loads, context lengths and pool sizes."""

import json
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from lib import cache
from lib.bug2_kv_cache import blocks, kv_bytes, storage, traces
from lib.evidence import figures

DESIGNS = ("copy", "relabel", "fold")
LOADS = {"chat": traces.chat, "agents": traces.agents, "documents": traces.documents}
RULES = [Path(__file__).with_name(f"{name}.py") for name in ("kv", "kv_bytes", "traces", "sweep")]


def compare(trace, config, pool_bytes, batch=4, bandwidth=273e9, kv_type="bf16", weight_type="nvfp4"):
    """Replay a trace through each design with pools of `pool_bytes` bytes in all, half primary and half secondary (or folded).

    Only requests that the smaller, primary pool can hold are replayed, so that all designs serve the same ones.

    Parameters
    ----------
    trace : list of Request
    config : dict
        A configuration of `kv_bytes`.
    pool_bytes : float
        Bytes of both pools together.
    batch : int
        Sequences alive at once, which share one reading of the weights.
    bandwidth : float
        Bytes/s of the one memory: 273e9 is a DGX Spark's.
    kv_type, weight_type : str
        Types of `kv_bytes.BITS`.

    Returns
    -------
    DataFrame
        A row per design: `blocks.Counts.costs`, with ``refused`` (of the whole trace), ``decode_seconds`` (the time in which the memory
        delivers the weights and the keys and values of every decode step; prefill is left out) and ``share`` (copies over decode).

    Raises
    ------
    CollectionError
        If the pool has no room for a block in either half.
    """
    token = kv_bytes.per_token(config, kv_type)
    half = kv_bytes.blocks(pool_bytes / 2, token * traces.BLOCK)
    served = [request for request in trace if request.blocks <= half]
    weights = kv_bytes.weights_per_step(config, weight_type) / batch
    decode = sum(each.output_length * (weights + token * (each.input_length + each.output_length / 2)) for each in served) / bandwidth
    rows = []
    for design in DESIGNS:
        counts = blocks.replay(served, half, half, design, batch)
        size = 2 * half if design == "fold" else half
        rows.append({"design": design, "pool_bytes": pool_bytes, "blocks": 2 * half, **counts.costs(token * traces.BLOCK, bandwidth),
                     "refused": sum(request.blocks > size for request in trace), "decode_seconds": decode})
    table = pd.DataFrame(rows)
    return table.assign(share=table["seconds"] / table["decode_seconds"].where(table["decode_seconds"] > 0))


def survival(trace, primary, secondary, batch=2, **options):
    """Replay a trace through every design on real blocks of memory, and compare the contents at every hit.

    Parameters
    ----------
    trace : list of Request
    primary, secondary : array or tensor of int64, shape (blocks, words)
        Overwritten. `options` are `storage.Blocks`'s.

    Returns
    -------
    DataFrame
        A row per design: blocks hit, hits through the secondary pool, copies, and hits whose contents were not the block's own.
    """
    rows = []
    for design in blocks.DESIGNS:
        primary[:] = secondary[:] = 0
        counts = blocks.replay(trace, len(primary), len(secondary), design, batch, storage.Blocks(primary, secondary, **options))
        rows.append({"design": design, "hits": counts.hits, "through the secondary pool": counts.hits_secondary, "copies": counts.copies,
                     "wrong": counts.wrong})
    return pd.DataFrame(rows)


def remember(key, make):
    """A table that is computed once: kept in the cache under `key` and the sources of the modules that decide its rows."""
    def build(folder):
        (folder / "rows.json").write_text(make().to_json(orient="records"))

    folder = cache.entry("kv-sweep", {"key": key, "rules": [path.read_text() for path in RULES]}, build)
    return pd.DataFrame(json.loads((folder / "rows.json").read_text()))


def loads(config, pools, seed=0, **options):
    """`compare` for each of `LOADS` and each pool size in bytes (DataFrame with the column ``load``)."""
    def make():
        tables = []
        for name, generate in LOADS.items():
            trace = generate(seed=seed)
            tables += [compare(trace, config, pool, **options).assign(load=name) for pool in pools]
        return pd.concat(tables, ignore_index=True)

    return remember(["loads", config, list(pools), seed, options], make)


def grid(config, contexts, pools, runs=30, steps=10, output=200, seed=0, **options):
    """`compare` over context lengths and pool sizes, for agents that share half of their context and add the other half step by step.

    Parameters
    ----------
    contexts : sequence of int
        Tokens that a run has read and written at its end (mean).
    pools : sequence of float
        Bytes of both pools together.
    runs, steps, output : int
        Agents, requests of each, and mean tokens of an answer.

    Returns
    -------
    DataFrame
        `compare`'s rows with the column ``context``.
    """
    def make():
        tables = []
        for context in contexts:
            trace = traces.agents(runs, steps, context // 2, max(context // 2 // steps - output, 1), output, seed=seed)
            tables += [compare(trace, config, pool, **options).assign(context=context) for pool in pools]
        return pd.concat(tables, ignore_index=True)

    return remember(["grid", config, list(contexts), list(pools), runs, steps, output, seed, options], make)


def gain(table, keys):
    """What folding changes per row of `keys`: the ``share`` of copies that it ends, the ``points`` of hit rate that it adds (DataFrame)."""
    wide = table.pivot_table(index=keys, columns="design", values=["share", "hit_rate", "requests"], dropna=False)
    served = wide["requests", "copy"] > 0
    points = 100 * (wide["hit_rate", "fold"] - wide["hit_rate", "copy"])
    columns = {"share": wide["share", "copy"].where(served), "points": points.where(served), "requests": wide["requests", "copy"]}
    return pd.DataFrame(columns).reset_index()


def heatmap(gains, value, scale, alt):
    """Context length by pool size, each cell with its number; a dash where no request fits (`figures.Chart`)."""
    wide = gains.pivot(index="context", columns="pool_bytes", values=value) * scale
    drawing = go.Figure(go.Heatmap(
        z=wide, x=[f"{pool / 1e9:.0f}" for pool in wide.columns], y=[f"{context / 1024:.0f}k" for context in wide.index],
        text=wide.map(lambda number: "–" if pd.isna(number) else f"{number:.2f}"), texttemplate="%{text}", textfont_size=12,
        xgap=2, ygap=2, showscale=False, hoverinfo="skip", colorscale=[[0, "#FFFFFF"], [1, figures.COLOURS["sky"]]]))
    drawing.update_xaxes(title="both pools together (GB)", type="category", showgrid=False)
    drawing.update_yaxes(title="context (tokens)", type="category", showgrid=False)
    table = wide.rename(columns=lambda pool: f"{pool / 1e9:.0f} GB").rename_axis("context (tokens)").reset_index()
    return figures.Chart(drawing.update_layout(height=320), table, alt)
