"""The chart of notebook 01: every byte of shared memory of some kernels, in stacked bars."""

import pandas as pd
import plotly.express as px

from lib.bug1_shared_memory.gemm import PARTS, account
from lib.evidence.figures import COLOURS

GROUPS = ["A and B", "scales", "epilogue", "tensor maps", "barriers, scheduler", "padding"]
SHAPES = ["", "/", "", "x", ".", "\\"]  # so that colour is not the only difference
WHITE = "rgba(255,255,255,0.85)"


def shares(table):
    """The bytes of kernels of `gemm.measure` (DataFrame): kernel, `GROUPS`, needs, left over."""
    swapped = table["swap_ab"].map({True: ", swapped", False: ""})
    sums = [account(row).groupby(lambda part: PARTS.get(part, "padding")).sum()
            for _, row in table.iterrows()]
    found = pd.DataFrame(sums).reindex(columns=GROUPS).fillna(0).astype(int)
    found.insert(0, "kernel", list(table["used_by"] + " " + table["name"] + swapped))
    found[["needs", "left over"]] = table[["kernel", "headroom"]].to_numpy()
    return found.reset_index(drop=True)


def memory(found, limits):
    """`shares` as stacked bars, bold where nothing is left, and `limits`: words to bytes."""
    figure = px.bar(found[GROUPS] / 1024, x=GROUPS, y=found.index + 0.16, orientation="h",
                    color_discrete_sequence=list(COLOURS.values()),
                    pattern_shape="variable", pattern_shape_sequence=SHAPES)
    figure.update_traces(width=0.46, marker_line_width=0,
                         hovertemplate="%{fullData.name}: %{x:.2f} KiB<extra></extra>")
    for place, kernel, needs, left in found[["kernel", "needs", "left over"]].itertuples():
        size = f"<b>{needs:,} B</b>" if left < 0 else f"{needs:,} B"
        figure.add_annotation(text=f"{kernel}: {size}", x=0, y=place - 0.26, xanchor="left",
                              font_size=11, showarrow=False, bgcolor=WHITE, borderpad=0)
    for words, size in limits.items():
        figure.add_vline(x=size / 1024, line_dash="dash", annotation_position="top left",
                         annotation=dict(text=words, font_size=11, bgcolor=WHITE))
    top = 1.03 * max(*limits.values(), *found["needs"]) / 1024
    return figure.update_layout(
        height=230 + 40 * len(found), legend=dict(traceorder="normal", title=None), margin_l=16,
        yaxis=dict(visible=False, range=[len(found) - 0.4, -1.3]),
        xaxis=dict(title="shared memory of one block (KiB)", range=[0, top], dtick=32))
