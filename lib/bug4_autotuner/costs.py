"""What the choices of a tuner cost: the time of each against the best that was measured."""

import numpy as np
import pandas as pd

TIME = "time (µs)"


def of_choices(times, outcomes, default):
    """What the choice of each tuner costs against the best tactic at the same m (DataFrame).

    From `scaled_gemm.Operator.times`, what `tuning.drive` returned by tuner, and the tactic behind
    -1. ``cost`` is the ratio of the chosen tactic's microseconds to the best's, NaN without a time.
    """
    known = times[times["error"] == ""].set_index(["m", "tactic"])
    columns, rows = [TIME, f"{TIME}, lower quartile", f"{TIME}, upper quartile"], []
    for tuner, outcome in outcomes.items():
        for size, chosen in outcome["tactics"].items():
            number = default if chosen == "-1" else int(chosen) if chosen.isdigit() else None
            row = {"tuner": tuner, "m": size, "chosen": chosen}
            row |= dict.fromkeys(columns, float("nan"))
            if size in known.index.levels[0]:
                best = known.loc[size][TIME]
                row |= {"best": best.idxmin(), "best time (µs)": best.min()}
            if (size, number) in known.index:
                row |= known.loc[(size, number)][columns].to_dict()
            rows.append(row)
    return pd.DataFrame(rows).assign(cost=lambda all: all[TIME] / all["best time (µs)"])


def of_defaults(times):
    """What each tactic would cost as the default of every size: mean and largest (DataFrame)."""
    by_size = times[times["error"] == ""].pivot(index="m", columns="tactic", values=TIME)
    ratio = by_size.div(by_size.min(axis=1), axis=0)
    return pd.DataFrame({"mean cost (ratio)": np.exp(np.log(ratio).mean()),
                         "largest cost (ratio)": ratio.max(),
                         "at m": ratio.idxmax()}).reset_index()
