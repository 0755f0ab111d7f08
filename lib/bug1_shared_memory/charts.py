"""Charts of notebook 01: every byte of shared memory in a stacked bar, and times with a bound."""

import pandas as pd
import plotly.graph_objects as go

from lib.bug1_shared_memory.gemm import account
from lib.evidence.figures import COLOURS

KIB = 1024
# What a bar is made of: a colour, and a pattern, so that colour is not the only difference.
GROUPS = {"A and B": ("blue", ""), "scales": ("sky", "/"), "epilogue": ("orange", ""),
          "tensor maps": ("purple", "x"), "barriers, scheduler": ("green", "."),
          "padding": ("grey", "\\")}
NAMED = {"A": "A and B", "B": "A and B", "epilogue tensors": "epilogue",
         "tensor maps": "tensor maps", "scales of A": "scales", "scales of B": "scales"}
WHITE = "rgba(255,255,255,0.85)"


def group(part):
    """The group of `GROUPS` that a part of `gemm.account` belongs to (str)."""
    return "padding" if part.startswith("padding") else NAMED.get(part, "barriers, scheduler")


def shares(table):
    """The kernels of `gemm.measure` that compile, with a column of bytes for each of `GROUPS`."""
    table = table[table["kernel"].notna()]
    sums = [account(row).groupby(group).sum() for _, row in table.iterrows()]
    sums = pd.DataFrame(sums, index=table.index).reindex(columns=list(GROUPS)).fillna(0).astype(int)
    named = table[["used_by", "name", "d", "stages"]]
    return pd.concat([named, sums, table[["kernel", "budget", "headroom"]]], axis=1)


def memory(table, limits):
    """Stacked bars of kernels of `gemm.measure` (Figure), and `limits`: words to bytes (dict)."""
    table = table[table["kernel"].notna()]
    sums, places = shares(table), range(len(table))
    figure = go.Figure([
        go.Bar(name=name, x=sums[name] / KIB, y=[place + 0.16 for place in places], width=0.46,
               orientation="h", customdata=sums[name],
               hovertemplate=f"{name}: %{{customdata:,}} B<extra></extra>",
               marker=dict(color=COLOURS[colour], pattern_shape=shape, line_width=0))
        for name, (colour, shape) in GROUPS.items()])
    for place, (_, kernel) in zip(places, table.iterrows()):
        size = f"{kernel['kernel']:,} B"
        size = f"<b>{size}</b>" if kernel["headroom"] < 0 else size
        swapped = ", swapped" if kernel["swap_ab"] else ""
        figure.add_annotation(
            text=f"{kernel['used_by']} {kernel['name']}{swapped}: {size}", x=0, y=place - 0.26,
            xanchor="left", align="left", font_size=11, showarrow=False, bgcolor=WHITE, borderpad=0)
    for words, size in limits.items():
        figure.add_vline(x=size / KIB, line_dash="dash", line_color="#333333",
                         annotation_text=words, annotation_font_size=11,
                         annotation_position="top left", annotation_bgcolor=WHITE)
    top = max(*limits.values(), *table["kernel"]) / KIB
    return figure.update_layout(
        barmode="stack", height=190 + 40 * len(table), legend_traceorder="normal", margin_l=16,
        yaxis=dict(visible=False, range=[len(table) - 0.4, -1.3]),
        xaxis=dict(title="shared memory of one block (KiB)", range=[0, top * 1.03], dtick=32))


def times(timed):
    """Times of `harness.trials` as bars with their quartiles, and the bound of each (Figure)."""
    labels, middle = timed["tile"] + " " + timed["d"], timed["ms"]
    low, high = middle - timed["ms, lower quartile"], timed["ms, upper quartile"] - middle
    spread = dict(type="data", array=high, arrayminus=low, symmetric=False)
    bars = go.Bar(y=labels, x=middle, orientation="h", name="median, with quartiles",
                  marker_color=COLOURS["blue"], error_x=spread)
    mark = dict(symbol="line-ns-open", size=22, line_width=3, color=COLOURS["vermilion"])
    least = go.Scatter(y=labels, x=timed["least ms"], mode="markers", marker=mark,
                       name="the least it can take")
    return go.Figure([bars, least]).update_layout(
        xaxis_title="time (ms)", yaxis_autorange="reversed", xaxis_rangemode="tozero")
