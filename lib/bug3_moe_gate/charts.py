"""Bug 3's chart: gates beside kernels. Nothing that asks imports it."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lib.bug3_moe_gate import agreement
from lib.evidence import figures

LOOKS = {agreement.SERVED: ("blue", "circle"), agreement.REFUSED: ("grey", "circle-open"),
         agreement.EMPTY: ("vermilion", "x"), agreement.WASTED: ("orange", "triangle-up"),
         agreement.UNKNOWN: ("grey", "line-ew-open")}


def decisions(rows):
    """What `agreement.held` gives, as marks, a panel for each gate (`figures.Chart`)."""
    gates, seen = list(dict.fromkeys(rows["gate"])), set()
    figure = make_subplots(rows=len(gates), cols=1, subplot_titles=gates, shared_xaxes=True,
                           vertical_spacing=0.1)
    for place, gate in enumerate(gates, 1):
        panel = rows[rows["gate"] == gate]
        for word in dict.fromkeys(panel["verdict"]):
            (colour, symbol), some = LOOKS[word], panel[panel["verdict"] == word]
            marker = dict(symbol=symbol, size=15, color=figures.COLOURS[colour], line_width=2)
            figure.add_trace(go.Scatter(
                x=some["SM"].astype(str), y=some["back end"], mode="markers", name=word,
                legendgroup=word, showlegend=word not in seen, marker=marker,
                customdata=some["kernels"], hovertemplate="%{y}, SM%{x}: %{customdata} kernels"
                f"<extra>{word}</extra>"), row=place, col=1)
            seen.add(word)
        figure.update_yaxes(categoryorder="array", row=place, col=1,
                            categoryarray=sorted(panel["back end"].unique(), reverse=True))
    figure.update_yaxes(title_text="back end", row=(len(gates) + 1) // 2, col=1)
    figure.update_xaxes(type="category", categoryorder="array",
                        categoryarray=[str(each) for each in sorted(rows["SM"].unique())])
    figure.update_xaxes(title_text="GPU (SM version)", row=len(gates), col=1)
    figure.update_layout(height=130 + 170 * len(gates), legend=dict(y=1.08), margin=dict(t=140))
    counts = ", ".join(f"{gate} {count}" for gate, count in agreement.marked(rows).items())
    return figures.Chart(figure, agreement.cells(rows),
                         f"Marked cells (crosses and triangles): {counts}.")
