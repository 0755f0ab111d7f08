"""What the choices of a tuner cost: the time of each against the best that was measured."""

import numpy as np
import pandas as pd


def cost(times, outcomes, default):
    """What the choice of each tuner costs against the best tactic that was found at the same m.

    Parameters
    ----------
    times : DataFrame
        From `scaled_gemm.measure`.
    outcomes : dict of str to dict
        What `tuning.drive` returned, by tuner.
    default : int
        The tactic behind -1.

    Returns
    -------
    DataFrame
        tuner, m, the tactic chosen (or the exception), its microseconds with quartiles, the best tactic and its microseconds, and ``cost``:
        the ratio of both (1: the best; NaN: an exception, or a time that could not be had).
    """
    known = times[times["error"] == ""].set_index(["m", "tactic"])
    column, rows = "time (µs)", []
    columns = [column, f"{column}, lower quartile", f"{column}, upper quartile"]
    for tuner, outcome in outcomes.items():
        for size, chosen in outcome["tactics"].items():
            number = default if chosen == "-1" else int(chosen) if chosen.isdigit() else None
            row = {"tuner": tuner, "m": size, "chosen": chosen, **dict.fromkeys(columns, float("nan"))}
            if size in known.index.levels[0]:
                row |= {"best": known.loc[size][column].idxmin(), "best time (µs)": known.loc[size][column].min()}
                row |= {name: known.loc[(size, number)][name] for name in columns if (size, number) in known.index}
            rows.append(row)
    return pd.DataFrame(rows).assign(cost=lambda all: all[column] / all["best time (µs)"])


def defaults(times):
    """What each tactic would cost as the default of every size: geometric mean and largest ratio to the best (DataFrame by tactic)."""
    table = times[times["error"] == ""].pivot(index="m", columns="tactic", values="time (µs)")
    ratio = table.div(table.min(axis=1), axis=0)
    mean = np.exp(np.log(ratio).mean())
    return pd.DataFrame({"mean cost (ratio)": mean, "largest cost (ratio)": ratio.max(), "at m": ratio.idxmax()}).reset_index()
