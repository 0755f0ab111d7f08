"""The charts of the study, apart from what computes it: a colour asks nothing again."""

import pandas as pd
import plotly.graph_objects as go

from lib.evidence import figures


def heatmap(gains, value, scale, alt):
    """Context length by pool size, a number in each cell; a dash where no request fits (Chart)."""
    wide = gains.pivot(index="context", columns="pool_bytes", values=value) * scale
    drawing = go.Figure(go.Heatmap(
        z=wide, x=[f"{pool / 1e9:.0f}" for pool in wide.columns],
        y=[f"{context / 1024:.0f}k" for context in wide.index],
        text=wide.map(lambda number: "–" if pd.isna(number) else f"{number:.2f}"),
        texttemplate="%{text}", textfont_size=12, xgap=2, ygap=2, showscale=False,
        hoverinfo="skip", colorscale=[[0, "#FFFFFF"], [1, figures.COLOURS["sky"]]]))
    drawing.update_xaxes(title="both pools together (GB)", type="category", showgrid=False)
    drawing.update_yaxes(title="context (tokens)", type="category", showgrid=False)
    table = wide.rename(columns=lambda pool: f"{pool / 1e9:.0f} GB")
    table = table.rename_axis("context (tokens)").reset_index()
    return figures.Chart(drawing.update_layout(height=320), table, alt)
