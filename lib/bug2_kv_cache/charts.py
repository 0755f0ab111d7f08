"""The chart of notebook 02, apart from what computes it."""

import plotly.express as px

from lib.evidence import figures


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
