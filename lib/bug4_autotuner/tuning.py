"""What a patch of a tuner does: agreement in bounds, cost of a look-up, and the tactics picked."""

import contextlib
import io
import itertools
import logging
import time
from dataclasses import dataclass

import pandas as pd
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from lib.bug4_autotuner import autotuner


def in_bounds(code, linked=3):
    """Turn bytes into shapes, dynamic and constraint indices that all lie in bounds.

    Negative ones are among them, and specs of up to `linked` linked dimensions.
    """
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


@dataclass(frozen=True)
class Agreement:
    """How many inputs were `compared`, and the first, small, on which keys differ (else empty)."""

    compared: int
    difference: str = ""


def agree(original, *changed, examples=10_000):
    """Hold patched tuners against the original on inputs in bounds (`Agreement`).

    Hypothesis draws them with a fixed seed.
    """
    seen, linked = 0, 3 if autotuner.links(original) else 1

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))
    @given(some.binary(min_size=4, max_size=60))
    def compare(code):
        nonlocal seen
        shapes, dynamic, constraint = drawn = in_bounds(code, linked)
        ours, *theirs = (
            autotuner.find(tuner, shapes, autotuner.config(tuner, dynamic, constraint))
            for tuner in (original, *changed))
        assert not ours.error, f"{drawn}: {ours}"
        assert all((each.value, each.error) == (ours.value, "") for each in theirs), \
            f"{drawn}: {ours} against {theirs}"
        seen += 1

    try:
        compare()
    except AssertionError as error:
        return Agreement(seen, str(error))
    return Agreement(seen)


def uncached(tuner):
    """FlashInfer's look-up below its lru_cache, as a callable of shapes and config."""
    whole = tuner.AutoTuner
    if hasattr(whole, "_find_nearest_profile_cached"):
        inner = whole._find_nearest_profile_cached.__func__.__wrapped__
        return lambda shapes, configured: inner(
            whole, shapes, configured.dynamic_tensor_specs, configured.constraint_specs)
    inner = whole._find_nearest_profile.__func__.__wrapped__
    return lambda shapes, configured: inner(whole, shapes, configured)


def look_up_cost(original, changed, rounds=40, calls=400):
    """Time the look-up of two tuners, taking turns in one process (DataFrame).

    A row for ``cached`` (all calls but the first of a shape) and one for ``computed``: microseconds
    of each (medians), and the ratio of changed over original with its quartiles over the `rounds`.
    """
    shapes = ((300, 4096), (4096, 4096), (300,), (32,), (300, 4096), (1 << 20,))
    indices = [((0,), (-2,))], [(2, 0), (4, -2)]
    tuners, rows = {"original": original, "changed": changed}, []
    for path in ("cached", "computed"):
        timers = {}
        for name, tuner in tuners.items():
            call = tuner.AutoTuner._find_nearest_profile if path == "cached" else uncached(tuner)
            configured = autotuner.config(tuner, *indices)
            timers[name] = lambda call=call, configured=configured: call(shapes, configured)
        samples = {name: [] for name in tuners}
        for turn in range(rounds):
            for name in sorted(tuners, reverse=bool(turn % 2)):
                start = time.perf_counter()
                for _ in range(calls):
                    timers[name]()
                samples[name].append((time.perf_counter() - start) / calls * 1e6)
        took = pd.DataFrame(samples)
        ratio = took["changed"] / took["original"]
        rows.append({"path": path, "original (µs)": took["original"].median(),
                     "changed (µs)": took["changed"].median(), "ratio": ratio.median(),
                     "ratio, lower quartile": ratio.quantile(0.25),
                     "ratio, upper quartile": ratio.quantile(0.75)})
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

    def inputs(self, rows, columns=256):
        """Activation (m, k), weight, scale vector, and weight scales (list of tensors)."""
        scale = torch.empty(scale_length(rows, columns))
        return [torch.empty(rows, columns), torch.empty(32, columns), scale, torch.empty(1, 2)]

    def run(self, inputs, tactic):
        """Do nothing."""


@contextlib.contextmanager
def fresh(tuner, clock=None):
    """A new tuner for the length of a block, and the warnings that it logs (list of str).

    `clock`, from a tactic to its time, takes the place of the tuner's own timing on the GPU.
    """
    def stopwatch(self, runner, inputs, tactic, *_, **__):
        runner(inputs, tactic=tactic)
        return clock(tactic)

    said, whole = [], tuner.AutoTuner
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda entry: said.append(entry.getMessage())
    tuner.logger.addHandler(listener)
    real, capturing = whole._profile_single_kernel, torch.cuda.is_current_stream_capturing
    whole._instance = None
    try:
        if clock:
            whole._profile_single_kernel = stopwatch
            torch.cuda.is_current_stream_capturing = lambda: False
        yield said
    finally:
        whole._profile_single_kernel, torch.cuda.is_current_stream_capturing = real, capturing
        whole._instance = None
        tuner.logger.removeHandler(listener)


def drive(tuner, dimension, operator, sizes, tuned=512, buckets=(64, 128, 256, 512), clock=None):
    """Tune an operator and then ask for the tactics of calls, with the tuner's real code.

    Parameters
    ----------
    dimension : int
        Which one of the scale vector the constraint spec names: 1, as for SM100, which a vector
        does not have, or 0, which fits.
    operator : `Paper` or `scaled_gemm.Operator`
        With ``inputs(m)``, ``valid`` (its tactics) and ``run(inputs, tactic)``.
    sizes : sequence of int
        The m of each call after warm-up, which happens at m = `tuned`, by `clock` (`fresh`).

    Returns
    -------
    dict
        ``tuning``: what warm-up came to, and whether it ``raised``; ``profiled``: launches that it
        timed; of them ``wrong scales`` and ``short scales``, past whose end a kernel reads that
        trusts its shapes; ``tactics``: m to the one chosen (-1: default); ``said``: its warnings.
    """
    autotuner.settle(tuner)
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
        tuning = autotuner.attempt(choose, tuned, True)
        profiled = len(spare)
        tactics = {size: str(autotuner.attempt(choose, size, False)) for size in sizes}
    return {"tuning": str(tuning), "raised": bool(tuning.error), "profiled": profiled,
            "wrong scales": sum(map(bool, spare[:profiled])),
            "short scales": sum(each < 0 for each in spare[:profiled]),
            "tactics": tactics, "said": said}


def warm_up(tuner, dimension, sizes=(300, 400, 511, 512, 64, 100, 600), tuned=512):
    """`drive` an operator of shapes alone, by a clock that finds tactic 1 the fastest of three."""
    return drive(tuner, dimension, Paper(), sizes, tuned, clock={0: 3.0, 1: 1.0, 2: 2.0}.get)


def fates(outcomes):
    """What came of warm-up and of the calls after it, by tuner, from `drive` (DataFrame)."""
    rows = []
    for name, each in outcomes.items():
        got = list(each["tactics"].values())
        tuned, default = sum(map(str.isdigit, got)), got.count("-1")
        rows.append({"tuner": name, "raised": each["raised"],
                     "warm-up ends with": f"{'' if each['raised'] else 'tactic '}{each['tuning']}",
                     "kernels timed": each["profiled"], "with a wrong scale": each["wrong scales"],
                     "with one too short": each["short scales"], "tuned": tuned,
                     "default": default, "exception": len(got) - tuned - default,
                     "warnings": len(each["said"])})
    return pd.DataFrame(rows)
