"""Bug 3's chart: gates beside kernels. Nothing that asks imports it."""

import plotly.express as px

from lib.bug3_moe_gate import agreement
from lib.evidence import figures

LOOKS = {agreement.SERVED: ("blue", "circle"), agreement.REFUSED: ("grey", "circle-open"),
         agreement.EMPTY: ("vermilion", "x"), agreement.WASTED: ("orange", "triangle-up"),
         agreement.UNKNOWN: ("grey", "line-ew-open")}


def decisions(rows):
    """What `agreement.held` gives, as marks, a panel for each gate (`figures.Chart`)."""
    gates = list(dict.fromkeys(rows["gate"]))
    figure = px.scatter(
        rows.assign(SM=rows["SM"].astype(str)), x="SM", y="back end", facet_row="gate",
        color="verdict", symbol="verdict", custom_data=["kernels", "verdict"],
        color_discrete_map={word: figures.COLOURS[look[0]] for word, look in LOOKS.items()},
        symbol_map={word: look[1] for word, look in LOOKS.items()}, facet_row_spacing=0.1,
        category_orders={"gate": gates, "SM": [str(each) for each in sorted(set(rows["SM"]))],
                         "back end": sorted(set(rows["back end"]))},
        labels={"SM": "GPU (SM version)", "verdict": ""}, height=130 + 170 * len(gates))
    figure.update_traces(marker=dict(size=15, line_width=2),
                         hovertemplate="%{y}, SM%{x}: %{customdata[0]} kernels<extra>"
                                       "%{customdata[1]}</extra>")
    figure.for_each_annotation(lambda each: each.update(text=each.text.partition("=")[2]))
    figure.update_xaxes(type="category").update_layout(legend_y=1.08, margin=dict(t=100))
    counts = ", ".join(f"{gate} {count}" for gate, count in agreement.marked(rows).items())
    return figures.Chart(figure, agreement.cells(rows),
                         f"Marked cells (crosses and triangles): {counts}.")
