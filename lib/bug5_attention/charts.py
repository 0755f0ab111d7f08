"""The two charts of notebook 05."""

import plotly.express as px
import plotly.graph_objects as go

from lib.evidence import figures

# One of each kind of target, and all three of SM121.
DRAWN = ["sm_90a", "sm_100f", "sm_100a", "sm_103a", "sm_110a", "sm_120a", "sm_121", "sm_121f",
         "sm_121a"]


def inventory(table, alt):
    """Cubins by family and target, as bars (`figures.Chart`), of a `cubins.inventory`."""
    unnamed = table["sm"].astype(str) + " (no name)"
    target = "sm_" + table["named"].where(table["named"] != "", unnamed).rename("target")
    counts = table.groupby(["family", target]).size().rename("cubins").reset_index()
    drawn = px.bar(counts, y="family", x="cubins", color="target", orientation="h",
                   color_discrete_sequence=list(figures.COLOURS.values()), pattern_shape="target",
                   pattern_shape_sequence=["", "/", "x", "."], labels={"cubins": "cubins (count)"})
    drawn.update_layout(legend_traceorder="normal", legend_title="", margin_t=80, yaxis_title="")
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
