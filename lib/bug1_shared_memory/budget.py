"""Shared memory of GEMM kernels drawn against what one block may have: every byte in a stacked bar."""

import pandas as pd
import plotly.graph_objects as go

from lib.bug1_shared_memory.gemm import account
from lib.evidence.figures import COLOURS

KIB = 1024
# What a bar is made of: colour of Okabe and Ito's palette, and a pattern, so that colour is not the only difference.
GROUPS = {"A and B": ("blue", ""), "scales": ("sky", "/"), "epilogue": ("orange", ""), "tensor maps": ("purple", "x"),
          "barriers, scheduler": ("green", "."), "padding": ("grey", "\\")}


def group(part):
    """The group of `GROUPS` that a part of `gemm.account` belongs to (str)."""
    if part.startswith("padding"):
        return "padding"
    if part.startswith("scales"):
        return "scales"
    return {"A": "A and B", "B": "A and B", "epilogue tensors": "epilogue", "tensor maps": "tensor maps"}.get(part, "barriers, scheduler")


def label(row):
    """One short line for a kernel: who asks for it, the tile, and its bytes, which are bold where they exceed the budget (str)."""
    size = f"{row['kernel']:,} B"
    return f"{row['used_by']} {row['name']}{', swapped' if row['swap_ab'] else ''}: {f'<b>{size}</b>' if row['headroom'] < 0 else size}"


def shares(table):
    """The bytes of each kernel by group.

    Parameters
    ----------
    table : DataFrame
        Of `gemm.measure`; kernels that do not compile are left out.

    Returns
    -------
    DataFrame
        A row a kernel: ``used_by``, ``name``, ``d``, ``stages``, a column a group (bytes), ``kernel``, ``budget`` and ``headroom``.
    """
    table = table[table["kernel"].notna()]
    sums = pd.DataFrame([account(row).groupby(group).sum().reindex(list(GROUPS), fill_value=0) for _, row in table.iterrows()],
                        index=table.index)
    return pd.concat([table[["used_by", "name", "d", "stages"]], sums.astype(int), table[["kernel", "budget", "headroom"]]], axis=1)


def chart(table, limits):
    """Stacked bars of the kernels of `gemm.measure`, the first on top, and a dashed line for each limit.

    Parameters
    ----------
    table : DataFrame
        Of `gemm.measure`.
    limits : dict of str to int
        What the line says, and its bytes.

    Returns
    -------
    plotly.graph_objects.Figure
        Bytes are drawn in KiB.
    """
    table = table[table["kernel"].notna()]
    sums, rows = shares(table), range(len(table))
    figure = go.Figure([
        go.Bar(name=name, x=sums[name] / KIB, y=[row + 0.16 for row in rows], orientation="h", width=0.46, customdata=sums[name],
               marker=dict(color=COLOURS[colour], pattern_shape=shape, line_width=0),
               hovertemplate=f"{name}: %{{customdata:,}} B<extra></extra>") for name, (colour, shape) in GROUPS.items()])
    for row, (_, kernel) in enumerate(table.iterrows()):
        figure.add_annotation(x=0, y=row - 0.26, xanchor="left", text=label(kernel), showarrow=False, font_size=11, align="left",
                              bgcolor="rgba(255,255,255,0.85)", borderpad=0)
    for words, size in limits.items():
        figure.add_vline(x=size / KIB, line_dash="dash", line_color="#333333", annotation_text=words, annotation_font_size=11,
                         annotation_position="top left", annotation_bgcolor="rgba(255,255,255,0.8)")
    top = max(*limits.values(), *table["kernel"]) / KIB
    return figure.update_layout(barmode="stack", height=190 + 40 * len(rows), legend_traceorder="normal", margin_l=16,
                                yaxis=dict(visible=False, range=[len(rows) - 0.4, -1.3]),
                                xaxis=dict(title="shared memory of one block (KiB)", range=[0, top * 1.03], dtick=32))
