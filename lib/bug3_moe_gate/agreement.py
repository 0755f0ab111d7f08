"""Gates held against the kernels that exist: where admission and kernels agree, and where not."""

import pandas as pd

SERVED, REFUSED, UNKNOWN = "admitted, has kernels", "refused, has none", "not asked"
EMPTY, WASTED = "admitted without kernels", "refused despite kernels"
MARKED = (EMPTY, WASTED)
KEY = ["back end", "quantisation", "SM"]
WORDS = {(True, True): SERVED, (False, False): REFUSED, (True, False): EMPTY, (False, True): WASTED}


def verdict(admitted, kernels):
    """One of the five words for a cell; `admitted` is None where the gate does not tell."""
    unknown = admitted is None or pd.isna(admitted)
    return UNKNOWN if unknown else WORDS[bool(admitted), kernels > 0]


def held(gates, kernels):
    """Hold gates against kernels.

    Parameters
    ----------
    gates : dict of str to DataFrame
        Rows with back end, quantisation, SM and admitted, by the name of the gate.
    kernels : DataFrame
        Of `kernels.existing`; a cell that is not in it was not counted, and is left out.

    Returns
    -------
    DataFrame
        gate, back end, quantisation, SM, admitted, kernels, verdict, marked.
    """
    rows = pd.concat([each[[*KEY, "admitted"]].assign(gate=name) for name, each in gates.items()])
    rows = rows.merge(kernels, on=KEY)
    words = [verdict(*cell) for cell in zip(rows["admitted"], rows["kernels"])]
    rows = rows.assign(verdict=words, marked=[word in MARKED for word in words])
    return rows[["gate", *KEY, "admitted", "kernels", "verdict", "marked"]]


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
    return {gate: int(each["marked"].sum()) for gate, each in rows.groupby("gate", sort=False)}


def differences(before, after, index=KEY, values="admitted"):
    """The rows that two tables with the same columns `index` state differently (DataFrame)."""
    both = before.merge(after, on=index, suffixes=("", ", after"))
    known = both[values].notna() & both[f"{values}, after"].notna()
    return both[known & (both[values] != both[f"{values}, after"])]
