"""What calls get after warm-up, and what that costs, as charts."""

import plotly.graph_objects as go

from lib.evidence import figures

FATES = {"tuned": ("blue", ""), "default": ("orange", "/"), "exception": ("vermilion", "x")}
MARKS = ("x", "circle-open", "diamond", "square", "triangle-up", "star")


def fates(fate):
    """How many calls of each tuner got the tuned tactic, the default, an exception (`Chart`)."""
    bars = [go.Bar(name=kind, y=fate["tuner"], x=fate[kind], orientation="h",
                   marker_color=figures.COLOURS[colour], marker_pattern_shape=shape)
            for kind, (colour, shape) in FATES.items()]
    drawing = go.Figure(bars).update_layout(
        barmode="stack", xaxis_title="calls after warm-up (count)", yaxis_autorange="reversed",
        legend_traceorder="normal")
    tuned = ", ".join(fate["tuner"] + " " + fate["tuned"].astype(str))
    return figures.Chart(drawing, fate, f"Calls that get the tuned tactic after warm-up: {tuned}.")


def choice_costs(cost):
    """The cost of each tuner's choices by m (`Chart`), from `tuning.cost_of_choices`."""
    timed = cost.dropna(subset="cost").groupby("tuner", sort=False)
    lines = [go.Scatter(name=name, x=each["m"], y=each["cost"], mode="lines+markers",
                        line_color=colour, marker=dict(symbol=mark, size=11))
             for (name, each), colour, mark in zip(timed, figures.COLOURS.values(), MARKS)]
    drawing = go.Figure(lines).update_layout(
        xaxis_title="m of the call (rows)", xaxis_type="log", yaxis_rangemode="tozero",
        yaxis_title="time of the chosen tactic / best (ratio)")
    most = f"up to {cost['cost'].max():.2g} times the best" if lines else "nothing could be timed"
    return figures.Chart(drawing, cost, f"What each tuner's choice costs, by size of call: {most}.")
