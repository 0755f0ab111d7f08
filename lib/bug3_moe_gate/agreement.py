"""Gates held against the kernels that exist: where they agree and where not, table and chart."""

import pandas as pd
import plotly.express as px

from lib.evidence import figures

SERVED, REFUSED, UNKNOWN = "admitted, has kernels", "refused, has none", "not asked"
EMPTY, WASTED = "admitted without kernels", "refused despite kernels"
KEY = ["back end", "quantisation", "SM"]
WORDS = {(True, True): SERVED, (False, False): REFUSED, (True, False): EMPTY, (False, True): WASTED}
LOOKS = {SERVED: ("blue", "circle"), REFUSED: ("grey", "circle-open"), EMPTY: ("vermilion", "x"),
         WASTED: ("orange", "triangle-up"), UNKNOWN: ("grey", "line-ew-open")}


def held(gates, kernels):
    """Hold gates (rows by the gate's name) against `kernels.existing`, where those were counted.

    Returns a DataFrame: gate, back end, quantisation, SM, admitted (None: not told), kernels,
    verdict (one of the five words above), marked (whether gate and kernels disagree).
    """
    rows = pd.concat([each.assign(gate=name) for name, each in gates.items()])
    rows = rows[["gate", *KEY, "admitted"]].merge(kernels, on=KEY)
    words = [WORDS.get((admitted, count > 0), UNKNOWN)
             for admitted, count in zip(rows["admitted"], rows["kernels"])]
    return rows.assign(verdict=words, marked=[word in (EMPTY, WASTED) for word in words])


def spread(rows, index, values="admitted"):
    """Rows for display: a line for each value of the columns `index`, a column for each GPU."""
    wide = rows.pivot(index=index, columns="SM", values=values).rename(columns="SM{}".format)
    return rows[index].drop_duplicates().merge(wide.reset_index(), on=index)


def cells(rows):
    """What `held` gives, for display: words and numbers of kernels, disagreements in capitals."""
    text = [f"{word.upper() if marked else word} ({count:,})" for word, count, marked
            in zip(rows["verdict"], rows["kernels"], rows["marked"])]
    return spread(rows.assign(text=text), ["gate", "quantisation", "back end"], "text").fillna("–")


def marked(rows):
    """How often each gate disagrees with the kernels (dict of str to int), in their order."""
    return rows.groupby("gate", sort=False)["marked"].sum().to_dict()


def differences(before, after, index=KEY, values="admitted"):
    """The rows that two tables with the same columns `index` state differently (DataFrame)."""
    later = f"{values}, after"
    both = before.merge(after, on=index, suffixes=("", ", after")).dropna(subset=[values, later])
    return both[both[values] != both[later]]


def chart(rows):
    """What `held` gives, as marks, a panel for each gate (`figures.Chart`)."""
    orders = {name: sorted(rows[name].unique()) for name in ("SM", "back end")}
    figure = px.scatter(
        rows, x="SM", y="back end", facet_row="gate", color="verdict", symbol="verdict",
        hover_data=["kernels"], category_orders=orders, facet_row_spacing=0.1,
        color_discrete_map={word: figures.COLOURS[colour] for word, (colour, _) in LOOKS.items()},
        symbol_map={word: symbol for word, (_, symbol) in LOOKS.items()},
        labels={"SM": "GPU (SM version)", "verdict": ""}, height=130 + 170 * rows["gate"].nunique())
    figure.update_traces(marker=dict(size=15, line_width=2))
    figure.for_each_annotation(lambda each: each.update(text=each.text.partition("=")[2]))
    figure.update_xaxes(type="category").update_layout(legend_y=1.08, margin=dict(t=100))
    counts = ", ".join(f"{gate} {count}" for gate, count in marked(rows).items())
    return figures.Chart(figure, cells(rows), "Combinations of back end and GPU in which gate and "
                                              f"kernels disagree (crosses, triangles): {counts}.")
