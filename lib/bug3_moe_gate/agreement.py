"""Gates held against the kernels that exist: where admission and kernels agree, and where not."""

import pandas as pd

SERVED, REFUSED, UNKNOWN = "admitted, has kernels", "refused, has none", "not asked"
MARKED = EMPTY, WASTED = "admitted without kernels", "refused despite kernels"
KEY = ["back end", "quantisation", "SM"]
WORDS = {(True, True): SERVED, (False, False): REFUSED, (True, False): EMPTY, (False, True): WASTED}


def verdict(admitted, kernels):
    """One of the five words for a cell; `admitted` is None where the gate does not tell."""
    return UNKNOWN if pd.isna(admitted) else WORDS[bool(admitted), kernels > 0]


def held(gates, kernels):
    """Hold gates (rows by the gate's name) against `kernels.existing`, where those were counted.

    Returns a DataFrame: gate, back end, quantisation, SM, admitted, kernels, verdict, marked.
    """
    rows = pd.concat([each.assign(gate=name) for name, each in gates.items()])
    rows = rows[["gate", *KEY, "admitted"]].merge(kernels, on=KEY)
    words = [verdict(*cell) for cell in zip(rows["admitted"], rows["kernels"])]
    return rows.assign(verdict=words, marked=[word in MARKED for word in words])


def spread(rows, index, values="admitted"):
    """Rows for display: a line for each value of the columns `index`, a column for each GPU."""
    wide = rows.pivot(index=index, columns="SM", values=values).rename(columns="SM{}".format)
    wide = wide.rename_axis(columns=None).reset_index()
    return rows[index].drop_duplicates().merge(wide, on=index)


def cells(rows):
    """What `held` gives, for display: words and numbers of kernels, marked cells in capitals."""
    text = [f"{word.upper() if marked else word} ({count:,})" for word, count, marked
            in zip(rows["verdict"], rows["kernels"], rows["marked"])]
    return spread(rows.assign(text=text), ["gate", "quantisation", "back end"], "text").fillna("–")


def marked(rows):
    """How many marked cells each gate has (dict of str to int), by gate in their order."""
    return rows.groupby("gate", sort=False)["marked"].sum().to_dict()


def differences(before, after, index=KEY, values="admitted"):
    """The rows that two tables with the same columns `index` state differently (DataFrame)."""
    both = before.merge(after, on=index, suffixes=("", ", after")).dropna(
        subset=[values, f"{values}, after"])
    return both[both[values] != both[f"{values}, after"]]
