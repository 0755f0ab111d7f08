"""The charts of notebook 06 (evidence.figures.Chart, each with its table)."""

import plotly.graph_objects as go

from lib.evidence.figures import COLOURS, Chart

PARTS = {"experts": ("blue", ""), "attention": ("orange", "/"), "head": ("green", "x"),
         "other": ("grey", ".")}
LINES = (("vermilion", "dash"), ("purple", "dashdot"))
DASHES = ("solid", "solid", "dash", "dashdot", "dot")
DOTS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "star")


def bars(table, columns, title, says, lines=(), notes=()):
    """Horizontal bars, one a recipe, stacked by part.

    `columns` of `table` (GB) have a colour and a pattern each; `lines` (dict of text to GB) stand
    across, `notes` (text) at the ends of the bars.
    """
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


def roofs(table, memory, arithmetic, says):
    """Tokens a second under each roof over the tokens that share a step, both logarithmic.

    `memory` and `arithmetic` (dict of column to name) are columns of `roofline.roofs`.
    """
    named = table.rename(columns=memory | arithmetic)
    drawing = go.Figure([
        go.Scatter(x=named["tokens in a step"], y=named[name], name=name, line_dash=dash)
        for name, dash in zip([*memory.values(), *arithmetic.values()], DASHES)])
    drawing.update_traces(mode="lines")
    drawing.update_xaxes(type="log", title="tokens in a step (count)")
    drawing.update_yaxes(type="log", title="at most (tokens/s)")
    return Chart(drawing.update_layout(height=480), named.round(), says)


def shares(held, titles, says):
    """Measured decoding as a share of its bound over the cached tokens, one mark a model."""
    drawing = go.Figure([
        go.Scatter(x=part["context"], y=100 * part["share"], name=titles[name], mode="markers",
                   marker=dict(symbol=symbol, size=10, line=dict(width=1)))
        for (name, part), symbol in zip(held.groupby("model", sort=False), DOTS)])
    drawing.update_layout(height=520, legend=dict(y=-0.25, yanchor="top"))
    drawing.update_xaxes(title="cached tokens (count)")
    drawing.update_yaxes(title="measured, of the bound (%)", range=[0, 105])
    drawing.add_hline(y=100, line=dict(dash="dash", color=COLOURS["grey"]))
    columns = ["model", "recipe", "context", "sparks", "tokens_per_s", "bound", "share", "what",
               "source"]
    return Chart(drawing, held[columns].round(3), says)
