"""What a patch of a tuner does: agreement in bounds, the tactics picked, and what both cost."""

import contextlib
import functools
import io
import itertools
import logging
import timeit
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from lib.bug4_autotuner import autotuner
from lib.instruments import timing

TIME = "time (µs)"


def in_bounds(code, linked=3):
    """Turn bytes into shapes, dynamic and constraint indices, all in bounds, some negative."""
    digits = itertools.chain(code, itertools.repeat(0))
    shapes = tuple(tuple(17 * next(digits) for _ in range(1 + next(digits) % 4))
                   for _ in range(1 + next(digits) % 6))

    def place():
        index, back, behind = next(digits) % len(shapes), next(digits) % 2, next(digits) % 2
        dim = next(digits) % len(shapes[index])
        return index - back * len(shapes), dim - behind * len(shapes[index])

    dynamic = [tuple(zip(*(place() for _ in range(1 + next(digits) % linked))))
               for _ in range(next(digits) % 4)]
    return shapes, dynamic, [place() for _ in range(next(digits) % 4)]


class Agreement(NamedTuple):
    """How many inputs were `compared`, and the first, small, on which keys differ (else empty)."""

    compared: int
    difference: str = ""


def agree(original, *changed, examples=10_000):
    """Hold patched tuners against the original on inputs in bounds, seed fixed (`Agreement`)."""
    seen, difference, linked = 0, "", 3 if autotuner.links(original) else 1

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))
    @given(some.binary(min_size=4, max_size=60))
    def compare(code):
        nonlocal seen
        shapes, *indices = drawn = in_bounds(code, linked)
        ours, *theirs = (autotuner.find(tuner, shapes, autotuner.config(tuner, *indices))
                         for tuner in (original, *changed))
        assert not ours.error, f"{drawn}: {ours}"
        assert all((each.value, each.error) == (ours.value, "") for each in theirs), \
            f"{drawn}: {ours} against {theirs}"
        seen += 1

    try:
        compare()
    except AssertionError as error:
        difference = str(error)
    return Agreement(seen, difference)


def uncached(tuner):
    """FlashInfer's look-up below its lru_cache, as a callable of shapes and config."""
    whole = tuner.AutoTuner
    if not (inner := getattr(whole, "_find_nearest_profile_cached", None)):
        return functools.partial(whole._find_nearest_profile.__func__.__wrapped__, whole)
    return lambda shapes, configured: inner.__func__.__wrapped__(
        whole, shapes, configured.dynamic_tensor_specs, configured.constraint_specs)


def look_up_cost(original, changed, rounds=40, calls=400):
    """Time the look-up of two tuners, taking turns in one process (DataFrame).

    A row for ``cached`` (all calls but the first of a shape) and one for ``computed``: microseconds
    of each (medians), and the ratio of changed over original with its quartiles over the `rounds`.
    """
    shapes, rows = ((300, 4096), (4096, 4096), (300,), (32,), (300, 4096), (1 << 20,)), []
    for path in ("cached", "computed"):
        look_up = {}
        for name, tuner in {"original": original, "changed": changed}.items():
            call = tuner.AutoTuner._find_nearest_profile if path == "cached" else uncached(tuner)
            configured = autotuner.config(tuner, [((0,), (-2,))], [(2, 0), (4, -2)])
            look_up[name] = functools.partial(call, shapes, configured)
        took = pd.DataFrame([{name: timeit.timeit(look_up[name], number=calls) / calls * 1e6
                              for name in sorted(look_up, reverse=bool(turn % 2))}
                             for turn in range(rounds)])
        rows.append({"path": path, "original (µs)": took["original"].median(),
                     "changed (µs)": took["changed"].median(),
                     **timing.spread(took["changed"] / took["original"], "ratio")})
    return pd.DataFrame(rows)


def stride(rows):
    """Elements between two blocks of k in the vector of scales: the rows, padded to 4."""
    return -(-rows // 4) * 4


def scale_length(rows, columns):
    """Elements of the vector that ``fp8_quantize_1x128`` gives off SM100, padded to 128 B."""
    return -(-(stride(rows) * -(-columns // 128) * 4) // 128) * 128 // 4


class Paper:
    """An operator of shapes alone, like ``fp8_block_scaling_gemm``: it computes nothing."""

    valid = [0, 1, 2]

    def inputs(self, rows):
        """Activation (m, k), weight, scale vector, and weight scales (list of tensors)."""
        shapes = (rows, 256), (32, 256), (scale_length(rows, 256),), (1, 2)
        return [torch.empty(shape) for shape in shapes]

    def run(self, inputs, tactic):
        """Do nothing."""


@contextlib.contextmanager
def fresh(tuner, clock=None):
    """A new tuner for a block, timed by `clock` if given, and the warnings that it logs (list)."""
    def stopwatch(self, runner, inputs, tactic, *_, **__):
        runner(inputs, tactic=tactic)
        return clock(tactic)

    said, listener = [], logging.Handler(logging.WARNING)
    listener.emit = lambda entry: said.append(entry.getMessage())
    timed = {"_profile_single_kernel": stopwatch} if clock else {}
    capturing = (lambda: False) if clock else torch.cuda.is_current_stream_capturing
    with (autotuner.standing(tuner.loaded_with),
          mock.patch.multiple(tuner.AutoTuner, _instance=None, **timed),
          mock.patch("torch.cuda.is_current_stream_capturing", capturing),
          mock.patch.object(tuner.logger, "handlers", [*tuner.logger.handlers, listener])):
        yield said


def drive(tuner, dimension, operator, sizes, tuned=512, buckets=(64, 128, 256, 512), clock=None):
    """Tune an operator at m = `tuned`, then ask for the tactic of each m of `sizes`.

    The constraint spec names `dimension` of the scale vector: 0, or 1 (as for SM100), which it does
    not have. `operator` is a `Paper` or a `scaled_gemm.Operator`; `clock`, from a tactic to its
    time, stands in for the tuner's timing. Returns counts for `fates` (past the end of a scale that
    is too short a kernel reads that trusts its shapes), ``tactics`` (m to the one chosen, -1 is the
    default) and the warnings ``said``.
    """
    spare = []

    class Runner(tuner.TunableRunner):
        __hash__ = object.__hash__

        def get_valid_tactics(self, inputs, profile):
            return operator.valid

        def forward(self, inputs, tactic=-1, do_preparation=False, **keywords):
            activation, _, scale, _ = inputs
            if not do_preparation:
                spare.append(scale.numel() - scale_length(*activation.shape))
            return operator.run(inputs, tactic)

    rules = {0: lambda shapes: scale_length(*shapes[0]), 1: lambda shapes: shapes[0][0]}
    dynamic = tuner.DynamicTensorSpec((0,), (0,), buckets, autotuner.power_of_2)
    configured = tuner.TuningConfig(
        dynamic_tensor_specs=(dynamic,), use_cold_l2_cache=not clock,
        constraint_specs=(tuner.ConstraintSpec(2, dimension, rules[dimension]),))
    runners = [Runner()]

    def choose(size, tune):
        with tuner.autotune(tune), contextlib.redirect_stderr(io.StringIO()):
            return tuner.AutoTuner.get().choose_one(
                "fp8_block_scaling_gemm", runners, configured, operator.inputs(size))[1]

    with fresh(tuner, clock) as said:
        end = autotuner.attempt(choose, tuned, True)
        timed = spare.copy()
        tactics = {size: str(autotuner.attempt(choose, size, False)) for size in sizes}
    chosen = sum(map(str.isdigit, tactics.values()))
    default = sum(each == "-1" for each in tactics.values())
    return {"raised": bool(end.error), "warm-up ends with": end.error or f"tactic {end.value}",
            "kernels timed": len(timed), "with a wrong scale": sum(map(bool, timed)),
            "with one too short": sum(each < 0 for each in timed), "tuned": chosen,
            "default": default, "exception": len(sizes) - chosen - default,
            "warnings": len(said), "tactics": tactics, "said": said}


def warm_up(tuner, dimension, sizes=(300, 400, 511, 512, 64, 100, 600)):
    """`drive` an operator of shapes alone, by a clock that finds tactic 1 the fastest of three."""
    return drive(tuner, dimension, Paper(), sizes, clock={0: 3.0, 1: 1.0, 2: 2.0}.get)


def fates(outcomes):
    """What `drive` counted, a row for each tuner (DataFrame)."""
    rows = pd.DataFrame([{"tuner": name} | each for name, each in outcomes.items()])
    return rows.drop(columns=["tactics", "said"])


def cost_of_choices(times, outcomes, default):
    """The time of each tuner's choices over that of the best tactic at the same m (DataFrame).

    From `scaled_gemm.Operator.times`, what `drive` returned by tuner, and the tactic behind -1.
    """
    known = times[times["error"] == ""]
    best = known.loc[known.groupby("m")[TIME].idxmin(), ["m", "tactic", TIME]]
    best = best.rename(columns={"tactic": "best", TIME: "best time (µs)"})
    rows = pd.DataFrame([(tuner, size, chosen) for tuner, each in outcomes.items()
                         for size, chosen in each["tactics"].items()],
                        columns=["tuner", "m", "chosen"])
    rows["tactic"] = pd.to_numeric(rows["chosen"], errors="coerce").replace(-1, default)
    columns = ["m", "tactic", TIME, f"{TIME}, lower quartile", f"{TIME}, upper quartile"]
    rows = rows.merge(known[columns], how="left").drop(columns="tactic").merge(best, how="left")
    return rows.assign(cost=rows[TIME] / rows["best time (µs)"])


def cost_of_defaults(times):
    """What each tactic would cost as the default of every size: mean and largest (DataFrame)."""
    by_size = times[times["error"] == ""].pivot(index="m", columns="tactic", values=TIME)
    ratio = by_size.div(by_size.min(axis=1), axis=0)
    return pd.DataFrame({"mean cost (ratio)": np.exp(np.log(ratio).mean()),
                         "largest cost (ratio)": ratio.max(),
                         "at m": ratio.idxmax()}).reset_index()
