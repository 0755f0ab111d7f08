"""Designs of the KV cache against each other: the same requests and bytes, in the model."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import plotly.express as px

from lib.bug2_kv_cache import blocks, storage, traces
from lib.evidence import figures
from lib.subjects import formats, models


def per_token(model):
    """Bytes by which a long sequence's cache of bfloat16 values grows with a token (int).

    What sliding and recurrent layers hold does not grow, and lies outside the pools of the study.
    """
    window = models.config(model).get("window", 0)
    return int(models.cache_bytes(model, window + 1) - models.cache_bytes(model, window))


def weights_per_step(model):
    """Bytes of NVFP4 weights that a decode step reads at batch 1, the output head's too.

    Norms, biases and routers, below 1 %, are left out.
    """
    table = models.tensors(model)
    active = table["active"].where(table["part"] != "head", 1.0)
    matrices = ~table["tensor"].str.startswith(formats.KEPT) & (table["part"] != "embed")
    return int((table["elements"] * active)[matrices].sum() * formats.bits("nvfp4") / 8)


def compare(trace, model, pool_bytes, batch=4, bandwidth=273e9):
    """Replay a trace through each design with pools of `pool_bytes` in all, halved or folded.

    Only requests that the smaller, primary pool can hold are replayed, so that all designs serve
    the same ones. `batch` sequences are alive at once and share one reading of the weights, in
    NVFP4; cached values are bfloat16. `bandwidth` is in bytes/s: 273e9 is a DGX Spark's.

    Returns a DataFrame, a row a design: `blocks.Counts`, with ``refused`` of the whole trace,
    ``hit_rate``, ``bytes_copied`` and ``seconds`` (one memory reads and writes each byte of a
    copy), ``decode_seconds`` (the time in which the memory delivers the weights and the cache of
    every decode step; prefill is left out) and ``share`` (copies over decode; NaN without any).
    """
    block = per_token(model) * traces.BLOCK
    half = int(pool_bytes / 2 // block)
    served = [request for request in trace if request.blocks <= half]
    weights = weights_per_step(model) / batch
    decode = sum(each.output_length * (weights + models.cache_bytes(
        model, each.input_length + each.output_length / 2)) for each in served) / bandwidth
    rows = []
    for design in ("copy", "relabel", "fold"):
        counts = blocks.replay(served, half, half, design, batch)
        moved, asked = counts.copies * block, counts.hits + counts.misses
        room = 2 * half if design == "fold" else half
        seconds = 2 * moved / bandwidth
        rows.append({"design": design, "pool_bytes": pool_bytes, "blocks": 2 * half,
                     **asdict(counts), "refused": sum(each.blocks > room for each in trace),
                     "hit_rate": counts.hits / asked if asked else 0.0, "bytes_copied": moved,
                     "seconds": seconds, "decode_seconds": decode,
                     "share": seconds / decode if decode else np.nan})
    return pd.DataFrame(rows)


def survival(trace, primary, secondary, convert=np.asarray):
    """Replay a trace through every design on blocks of memory, and compare them at every hit.

    The pools are overwritten; they and `convert` are those of `storage.Blocks`. A row per
    design: blocks hit, copies, and hits whose contents were not the block's own (DataFrame).
    """
    rows = []
    for design in blocks.DESIGNS:
        primary[:] = secondary[:] = 0
        store = storage.Blocks(primary, secondary, convert)
        counts = blocks.replay(trace, len(primary), len(secondary), design, batch=2, store=store)
        rows.append({"design": design, "hits": counts.hits, "copies": counts.copies,
                     "through the secondary pool": counts.onboards, "wrong": counts.wrong})
    return pd.DataFrame(rows)


def heatmap(gains, value, scale, alt):
    """Context length by pool size, a number in each cell; empty where no request fits (Chart)."""
    wide = scale * gains.pivot(index="context", columns="pool_bytes", values=value)
    wide.index = [f"{context // 1024}k" for context in wide.index]
    wide.columns = [f"{pool / 1e9:.0f} GB" for pool in wide.columns]
    drawing = px.imshow(wide, text_auto=".2f", aspect="auto", origin="lower",
                        color_continuous_scale=["white", figures.COLOURS["sky"]],
                        labels={"x": "both pools together", "y": "context (tokens)"})
    drawing.update_layout(height=320, coloraxis_showscale=False, xaxis_showgrid=False,
                          yaxis_showgrid=False)
    return figures.Chart(drawing, wide.rename_axis("context (tokens)").reset_index(), alt)
