"""What a patch of a tuner does: keys in bounds, the tactics picked, and what both cost."""

import contextlib
import functools
import io
import random
import timeit
from typing import NamedTuple
from unittest import mock

import pandas as pd
import plotly.express as px
import torch

from lib.bug4_autotuner import autotuner
from lib.evidence import figures
from lib.instruments import timing


def in_bounds(chance, linked):
    """Shapes, dynamic and constraint indices by chance, all in bounds, half of them negative."""
    shapes = tuple(tuple(17 * chance.randrange(256) for _ in range(chance.randint(1, 4)))
                   for _ in range(chance.randint(1, 6)))

    def place():
        index = chance.randrange(-len(shapes), len(shapes))
        return index, chance.randrange(-len(shapes[index]), len(shapes[index]))

    dynamic = [tuple(zip(*(place() for _ in range(chance.randint(1, linked)))))
               for _ in range(chance.randint(0, 3))]
    return shapes, dynamic, [place() for _ in range(chance.randint(0, 3))]


class Agreement(NamedTuple):
    """How many inputs were `compared`, and the first on which keys differ (else empty)."""

    compared: int
    difference: str = ""


def agree(original, *changed, examples=10_000):
    """Hold patched tuners against the original on inputs in bounds, seed fixed (`Agreement`)."""
    chance, linked = random.Random(0), 3 if autotuner.links(original) else 1
    for seen in range(examples):
        shapes, *indices = drawn = in_bounds(chance, linked)
        ours, *theirs = (autotuner.find(tuner, shapes, autotuner.config(tuner, *indices))
                         for tuner in (original, *changed))
        if ours.error or any((each.value, each.error) != (ours.value, "") for each in theirs):
            told = " and ".join(map(str, theirs))
            return Agreement(seen, f"{drawn}: {ours} against {told}")
    return Agreement(examples)


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
    def look_up(tuner, path):
        call = tuner.AutoTuner._find_nearest_profile if path == "cached" else uncached(tuner)
        configured = autotuner.config(tuner, [((0,), (-2,))], [(2, 0), (4, -2)])
        return functools.partial(call, shapes, configured)

    shapes, rows = ((300, 4096), (4096, 4096), (300,), (32,), (300, 4096), (1 << 20,)), []
    for path in ("cached", "computed"):
        calls_of = {"original": look_up(original, path), "changed": look_up(changed, path)}
        took = pd.DataFrame([{name: timeit.timeit(calls_of[name], number=calls) / calls * 1e6
                              for name in sorted(calls_of, reverse=bool(turn % 2))}
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
    run = staticmethod(lambda inputs, tactic: None)

    def inputs(self, rows):
        """Activation (m, k), weight, scale vector, and weight scales (list of tensors)."""
        shapes = (rows, 256), (32, 256), (scale_length(rows, 256),), (1, 2)
        return [torch.empty(shape) for shape in shapes]


def drive(tuner, dimension, operator, sizes, tuned=512, buckets=(64, 128, 256, 512), clock=None):
    """Tune an operator at m = `tuned`, then ask for the tactic of each m of `sizes`.

    The constraint spec names `dimension` of the scale vector: 0, or 1 (as for SM100), which it does
    not have. `operator` is a `Paper` or a `scaled_gemm.Operator`; `clock`, from a tactic to its
    time, stands in for the tuner's timing. Returns counts for `fates`, ``tactics`` (m to the one
    chosen, -1 is the default) and the warnings ``said``.
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
    runners, said = [Runner()], []

    def choose(size, tune):
        with tuner.autotune(tune), contextlib.redirect_stderr(io.StringIO()):
            return tuner.AutoTuner.get().choose_one(
                "fp8_block_scaling_gemm", runners, configured, operator.inputs(size))[1]

    def stopwatch(self, runner, inputs, tactic, *_, **__):
        runner(inputs, tactic=tactic)
        return clock(tactic)

    timing_by = {"_profile_single_kernel": stopwatch} if clock else {}
    capturing = (lambda: False) if clock else torch.cuda.is_current_stream_capturing
    heard = lambda text, *given: said.append(text % given)
    with (autotuner.standing(tuner.loaded_with),
          mock.patch.multiple(tuner.AutoTuner, _instance=None, **timing_by),
          mock.patch("torch.cuda.is_current_stream_capturing", capturing),
          mock.patch.object(tuner.logger, "warning", heard)):
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


def fates_chart(fate):
    """How many calls of each tuner got the tuned tactic, the default, an exception (`Chart`)."""
    drawing = px.bar(
        fate, y="tuner", x=["tuned", "default", "exception"], orientation="h",
        color_discrete_sequence=[figures.COLOURS[each] for each in ("blue", "orange", "vermilion")],
        pattern_shape="variable", pattern_shape_sequence=["", "/", "x"],
        labels={"value": "calls after warm-up (count)", "variable": "", "tuner": ""})
    drawing.update_layout(yaxis_autorange="reversed", legend_traceorder="normal")
    tuned = ", ".join(fate["tuner"] + " " + fate["tuned"].astype(str))
    return figures.Chart(drawing, fate, f"Calls that get the tuned tactic after warm-up: {tuned}.")


def costs_chart(cost):
    """The cost of each tuner's choices (columns tuner, m, cost; a ratio) by m (`Chart`)."""
    timed = cost.dropna(subset="cost")
    drawing = px.line(
        timed, x="m", y="cost", color="tuner", symbol="tuner", log_x=True,
        color_discrete_sequence=list(figures.COLOURS.values()),
        labels={"m": "m of the call (rows)", "cost": "time of the chosen tactic / best (ratio)"})
    drawing.update_traces(marker_size=11).update_layout(yaxis_rangemode="tozero")
    most = f"up to {cost['cost'].max():.2g} times the best" if len(timed) else "none was timed"
    return figures.Chart(drawing, cost, f"What each tuner's choice costs, by size of call: {most}.")
