"""The two charts of notebook 05."""

import plotly.graph_objects as go

from lib.evidence import figures

SHAPES = ("", "/", "x", ".")
# One of each kind of target, and all three of SM121.
DRAWN = ["sm_90a", "sm_100f", "sm_100a", "sm_103a", "sm_110a", "sm_120a", "sm_121", "sm_121f",
         "sm_121a"]


def inventory(table, alt):
    """Cubins by family and target, as bars (`figures.Chart`), of a `cubins.inventory`."""
    unnamed = table["sm"].astype(str) + " (no name)"
    target = "sm_" + table["named"].where(table["named"] != "", unnamed).rename("target")
    counts = table.groupby(["family", target]).size().rename("cubins").reset_index()
    looks = zip(counts.groupby("target"), figures.COLOURS.values(), SHAPES)
    bars = [go.Bar(name=name, y=rows["family"], x=rows["cubins"], orientation="h",
                   marker_color=colour, marker_pattern_shape=shape)
            for (name, rows), colour, shape in looks]
    drawn = go.Figure(bars).update_layout(barmode="stack", xaxis_title="cubins (count)",
                                          legend_traceorder="normal", margin_t=80)
    return figures.Chart(drawn, counts, alt)


def accepted(answers, alt):
    """How many instructions of each family a target takes (`figures.Chart`), of an `isa.matrix`."""
    families = (answers[DRAWN] == "").groupby(answers["family"], sort=False)
    sizes, taken = families.size(), families.sum()
    cells = go.Heatmap(z=taken.div(sizes, axis=0), x=taken.columns, text=taken, xgap=2, ygap=2,
                       y=[f"{family} ({size})" for family, size in sizes.items()],
                       texttemplate="%{text}", showscale=False,
                       colorscale=[[0, "white"], [1, figures.COLOURS["sky"]]])
    drawn = go.Figure(cells).update_layout(
        xaxis=dict(title="target", tickangle=-90),
        yaxis=dict(title="family (instructions)", autorange="reversed"))
    return figures.Chart(drawn, taken.reset_index(), alt)
