"""Gates set beside the kernels that exist: for each quantisation, GPU and back end, whether admission and kernels agree."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lib.evidence import figures

SERVED, REFUSED, UNKNOWN = "admitted, has kernels", "refused, has none", "not asked"
EMPTY, WASTED = "admitted without kernels", "refused despite kernels"
MARKED = (EMPTY, WASTED)
LOOKS = {SERVED: ("blue", "circle"), REFUSED: ("grey", "circle-open"), EMPTY: ("vermilion", "x"), WASTED: ("orange", "triangle-up"),
         UNKNOWN: ("grey", "line-ew-open")}
KEY = ["back end", "quantisation", "SM"]


def verdict(admitted, kernels):
    """One of the five words for a cell; `admitted` is None where the gate could not be asked, `kernels` a number."""
    if admitted is None or pd.isna(admitted):
        return UNKNOWN
    return {(True, True): SERVED, (False, False): REFUSED, (True, False): EMPTY, (False, True): WASTED}[bool(admitted), kernels > 0]


def table(gates, kernels):
    """Hold gates against kernels.

    Parameters
    ----------
    gates : dict of str to DataFrame
        Rows with back end, quantisation, SM and admitted, by the name of the gate.
    kernels : DataFrame
        back end, quantisation, SM, kernels; a cell that is not in it was not counted, and is left out.

    Returns
    -------
    DataFrame
        gate, back end, quantisation, SM, admitted, kernels, verdict, marked.
    """
    rows = pd.concat([rows[[*KEY, "admitted"]].assign(gate=name) for name, rows in gates.items()]).merge(kernels, on=KEY)
    words = [verdict(admitted, count) for admitted, count in zip(rows["admitted"], rows["kernels"])]
    return rows.assign(verdict=words, marked=[word in MARKED for word in words])[["gate", *KEY, "admitted", "kernels", "verdict", "marked"]]


def wide(rows):
    """A decision table as a reader scans it: a row for each gate, quantisation and back end, a column for each GPU, marks in capitals."""
    cells = zip(rows["verdict"], rows["kernels"], rows["marked"])
    text = [f"{word.upper() if marked else word} ({count:,})" for word, count, marked in cells]
    return by_gpu(rows.assign(text=text), ["gate", "quantisation", "back end"], "text").fillna("–")


def by_gpu(rows, index, values="admitted"):
    """Rows spread out: a line for each value of the columns `index`, in their order, a column for each GPU (DataFrame)."""
    spread = rows.pivot(index=index, columns="SM", values=values).rename(columns="SM{}".format).rename_axis(columns=None).reset_index()
    return rows[index].drop_duplicates().merge(spread, on=index)


def marked(rows):
    """How many marked cells each gate has (dict of str to int), by gate in their order."""
    return {gate: int(group["marked"].sum()) for gate, group in rows.groupby("gate", sort=False)}


def differences(before, after, sm):
    """Cells on some GPUs that two gates of one decision table decide differently (DataFrame; empty if none)."""
    both = before.merge(after, on=KEY, suffixes=("", ", after"))
    return both[both["SM"].isin(sm) & (both["admitted"] != both["admitted, after"])]


def drawing(rows):
    """A decision table as marks, a panel for each gate, one under the other (plotly Figure)."""
    names, shown = list(dict.fromkeys(rows["gate"])), set()
    drawn = make_subplots(rows=len(names), cols=1, subplot_titles=names, shared_xaxes=True, vertical_spacing=0.1)
    for place, name in enumerate(names, 1):
        panel = rows[rows["gate"] == name]
        for word in dict.fromkeys(panel["verdict"]):
            (colour, symbol), some = LOOKS[word], panel[panel["verdict"] == word]
            drawn.add_trace(go.Scatter(
                x=some["SM"].astype(str), y=some["back end"], mode="markers", name=word, legendgroup=word, showlegend=word not in shown,
                marker=dict(symbol=symbol, size=15, color=figures.COLOURS[colour], line_width=2), customdata=some["kernels"],
                hovertemplate="%{y}, SM%{x}: %{customdata} kernels<extra>" + word + "</extra>"), row=place, col=1)
            shown.add(word)
        drawn.update_yaxes(categoryorder="array", categoryarray=sorted(panel["back end"].unique(), reverse=True), row=place, col=1)
    drawn.update_yaxes(title_text="back end", row=(len(names) + 1) // 2, col=1)
    drawn.update_xaxes(type="category", categoryorder="array", categoryarray=[str(each) for each in sorted(rows["SM"].unique())])
    drawn.update_xaxes(title_text="GPU (SM version)", row=len(names), col=1)
    return drawn.update_layout(height=130 + 170 * len(names), legend=dict(y=1.08), margin=dict(t=140))
