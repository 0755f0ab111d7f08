"""The charts of notebook 06 (evidence.figures.Chart, each with its table)."""

import plotly.express as px
import plotly.graph_objects as go

from lib.evidence.figures import COLOURS, TEMPLATE, Chart

PARTS = {"experts": ("blue", ""), "attention": ("orange", "/"), "head": ("green", "x"),
         "other": ("grey", ".")}
LINES = (("vermilion", "dash"), ("purple", "dashdot"))


def bars(table, columns, title, says, lines=(), notes=()):
    """Horizontal bars, one a recipe, of `columns` (name to colour and pattern) of `table` (GB);
    `lines` (dict of text to GB) stand across, `notes` (text) at the ends of the bars."""
    drawing = go.Figure([
        go.Bar(name=name, y=table["recipe"], x=table[name], orientation="h",
               marker_color=COLOURS[colour], marker_pattern_shape=shape)
        for name, (colour, shape) in columns.items()])
    for (name, at), (colour, dash) in zip(dict(lines).items(), LINES):
        drawing.add_vline(x=at, line=dict(color=COLOURS[colour], dash=dash, width=3),
                          annotation_text=name, annotation_position="top")
    for recipe, end, note in zip(table["recipe"], table[list(columns)].sum(axis=1), notes):
        drawing.add_annotation(y=recipe, x=end, text=note, showarrow=False, xanchor="left")
    drawing.update_layout(barmode="stack", xaxis_title=title, height=540, margin=dict(r=90, t=60))
    drawing.update_yaxes(autorange="reversed")
    return Chart(drawing, table.round(2), says)


def roofs(table, names, says):
    """Tokens a second under each roof (dict of column to name) over the tokens that share a step,
    both logarithmic."""
    named = table.rename(columns=names)
    drawing = px.line(named, x="tokens in a step", y=[*names.values()], log_x=True, log_y=True,
                      line_dash="variable", template=TEMPLATE, height=480)
    drawing.update_layout(legend_title="", xaxis_title="tokens in a step (count)",
                          yaxis_title="at most (tokens/s)")
    return Chart(drawing, named.round(), says)


def shares(held, titles, says):
    """Measured decoding as a share of its bound over the cached tokens, one mark a model."""
    shown = held.assign(model=held["model"].map(titles), percent=100 * held["share"])
    drawing = px.scatter(shown, x="context", y="percent", color="model", symbol="model",
                         range_y=[0, 105], template=TEMPLATE, height=560)
    drawing.update_traces(marker=dict(size=10, line=dict(width=1)))
    drawing.update_layout(xaxis_title="cached tokens (count)",
                          yaxis_title="measured, of the bound (%)",
                          legend=dict(title="", y=-0.2, yanchor="top"))
    drawing.add_hline(y=100, line=dict(dash="dash", color=COLOURS["grey"]))
    columns = {"model": "model", "recipe": "recipe", "context": "cached tokens", "sparks": "Sparks",
               "tokens_per_s": "measured (tokens/s)", "bound": "bound (tokens/s)",
               "share": "share of the bound", "what": "what", "source": "source"}
    return Chart(drawing, shown[[*columns]].rename(columns=columns).round(3), says)
