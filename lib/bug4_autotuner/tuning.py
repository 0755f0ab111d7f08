"""What a patch of the autotuner does: agreement with the original in bounds, cost of a look-up, and which tactics tuning then picks."""

import contextlib
import io
import itertools
import logging
import time

import pandas as pd
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from lib.bug4_autotuner import autotuner
from lib.subjects import patches, wheels


@contextlib.contextmanager
def patched(tree, *names):
    """Load the autotuner of a tree with patches applied to a scratch copy (module); the tree stays as it is.

    Parameters
    ----------
    tree : Path
        An unpacked FlashInfer wheel.
    *names : str
        Files of patches/.
    """
    files = {*(tree / "flashinfer").glob("*.py"), *(tree / autotuner.file_of(tree)).parent.glob("*.py")}
    with wheels.scratch(tree, *(path.relative_to(tree) for path in files)) as copy:
        for each in names:
            patches.Patch(each).apply(copy)
        yield autotuner.load(copy)


def in_bounds(code):
    """Turn bytes into shapes, dynamic and constraint indices that all lie in bounds, negative ones and linked dimensions among them."""
    digits = itertools.chain(code, itertools.repeat(0))
    shapes = tuple(tuple(17 * next(digits) for _ in range(1 + next(digits) % 4)) for _ in range(1 + next(digits) % 6))

    def place():
        index, back, behind = next(digits) % len(shapes), next(digits) % 2, next(digits) % 2
        dim = next(digits) % len(shapes[index])
        return index - back * len(shapes), dim - behind * len(shapes[index])

    dynamic = [tuple(zip(*(place() for _ in range(1 + next(digits) % 3)))) for _ in range(next(digits) % 4)]
    return shapes, dynamic, [place() for _ in range(next(digits) % 4)]


def agree(original, *changed, examples=10_000):
    """Hold patched tuners against the original on inputs in bounds, drawn by hypothesis with a fixed seed.

    Returns
    -------
    int
        How many examples were compared.

    Raises
    ------
    AssertionError
        At the first input on which their keys differ, reduced to a small one.
    """
    seen = 0

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(some.binary(min_size=4, max_size=60))
    def compare(code):
        nonlocal seen
        shapes, dynamic, constraint = drawn = in_bounds(code)
        ours, *theirs = (autotuner.find(tuner, shapes, autotuner.config(tuner, dynamic, constraint)) for tuner in (original, *changed))
        assert ours.error == "" and all(each.value == ours.value and not each.error for each in theirs), f"{drawn}: {ours} against {theirs}"
        seen += 1

    compare()
    return seen


def uncached(tuner):
    """The look-up below its lru_cache, and its arguments after the shapes, as a callable of shapes and config."""
    whole = tuner.AutoTuner
    if hasattr(whole, "_find_nearest_profile_cached"):
        inner = whole._find_nearest_profile_cached.__func__.__wrapped__
        return lambda shapes, configured: inner(whole, shapes, configured.dynamic_tensor_specs, configured.constraint_specs)
    inner = whole._find_nearest_profile.__func__.__wrapped__
    return lambda shapes, configured: inner(whole, shapes, configured)


def cost(original, changed, rounds=40, calls=400):
    """Time the look-up of two tuners, taking turns in one process.

    Returns
    -------
    DataFrame
        A row for ``cached`` (the key is known: every call but the first) and one for ``computed``: microseconds of each tuner
        (medians), and the ratio of changed over original with the quartiles of its `rounds`.
    """
    shapes = ((300, 4096), (4096, 4096), (300,), (32,), (300, 4096), (1 << 20,))
    indices = [((0,), (-2,))], [(2, 0), (4, -2)]
    tuners = {"original": original, "changed": changed}
    rows = []
    for path in ("cached", "computed"):
        timers = {}
        for name, tuner in tuners.items():
            call = tuner.AutoTuner._find_nearest_profile if path == "cached" else uncached(tuner)
            timers[name] = lambda call=call, configured=autotuner.config(tuner, *indices): call(shapes, configured)
        samples = {name: [] for name in tuners}
        for turn in range(rounds):
            for name in sorted(tuners, reverse=bool(turn % 2)):
                start = time.perf_counter()
                for _ in range(calls):
                    timers[name]()
                samples[name].append((time.perf_counter() - start) / calls * 1e6)
        took = pd.DataFrame(samples)
        ratio = took["changed"] / took["original"]
        rows.append({"path": path, "original (µs)": took["original"].median(), "changed (µs)": took["changed"].median(),
                     "ratio": ratio.median(), "ratio, lower quartile": ratio.quantile(0.25), "ratio, upper quartile": ratio.quantile(0.75)})
    return pd.DataFrame(rows)


def stride(rows):
    """Elements between two blocks of k in the 1-D activation scale: the rows, padded to a multiple of 4."""
    return -(-rows // 4) * 4


def scale_length(rows, columns):
    """Elements of the 1-D activation scale of ``fp8_quantize_1x128`` off SM100, as TensorRT-LLM pads it (rows to 4, blocks of 128)."""
    return -(-(stride(rows) * -(-columns // 128) * 4) // 128) * 128 // 4


class Paper:
    """An operator of shapes alone, like TensorRT-LLM's ``fp8_block_scaling_gemm``: three tactics, and nothing is computed."""

    valid = [0, 1, 2]

    def __init__(self, columns=256):
        self.columns = columns

    def inputs(self, rows):
        """Activation (m, k), weight, scale vector, and weight scales (list of tensors)."""
        scale = torch.empty(scale_length(rows, self.columns))
        return [torch.empty(rows, self.columns), torch.empty(32, self.columns), scale, torch.empty(1, 2)]

    def run(self, inputs, tactic):
        """Do nothing."""


@contextlib.contextmanager
def fresh(tuner, clock=None):
    """A new tuner for the length of a block, and the warnings that it logs (list of str); `clock` takes the place of the real timing.

    Parameters
    ----------
    tuner : module
        From `autotuner.load`.
    clock : callable, optional
        From a tactic to its time. Without it the tuner times on the GPU, as it always does.
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
            whole._profile_single_kernel, torch.cuda.is_current_stream_capturing = stopwatch, lambda: False
        yield said
    finally:
        whole._profile_single_kernel, torch.cuda.is_current_stream_capturing = real, capturing
        whole._instance = None
        tuner.logger.removeHandler(listener)


def drive(tuner, dimension, operator, sizes, tuned=512, buckets=(64, 128, 256, 512), clock=None):
    """Tune an operator and then ask for the tactics of calls, with the tuner's real code.

    Its inputs are a (m, k) activation and a scale that is a vector of `scale_length`; its constraint spec names `dimension` of that scale:
    1, as for SM100, which a vector does not have, or 0, which fits.

    Parameters
    ----------
    operator : `Paper` or `scaled_gemm.Operator`
        With ``inputs(m)``, ``valid`` (its tactics) and ``run(inputs, tactic)``.
    sizes : sequence of int
        The m of each call after warm-up, which happens at m = `tuned`.
    clock : callable, optional
        As `fresh` takes it.

    Returns
    -------
    dict
        ``tuning``: what warm-up came to (the tactic, or its exception); ``profiled``: launches that warm-up timed;
        ``wrong scales``: how many of them had a scale of the wrong length, and ``short scales``: one that is too short, past which
        a kernel that trusts its shapes reads; ``tactics``: m to the tactic chosen afterwards (-1: default); ``said``: its warnings.
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

    rule = {0: lambda shapes: scale_length(*shapes[0]), 1: lambda shapes: shapes[0][0]}[dimension]
    configured = tuner.TuningConfig(
        dynamic_tensor_specs=(tuner.DynamicTensorSpec((0,), (0,), buckets, autotuner.power_of_2),),
        constraint_specs=(tuner.ConstraintSpec(2, dimension, rule),), use_cold_l2_cache=not clock)
    runners = [Runner()]

    def choose(size, tune):
        with tuner.autotune(tune), contextlib.redirect_stderr(io.StringIO()):
            return tuner.AutoTuner.get().choose_one("fp8_block_scaling_gemm", runners, configured, operator.inputs(size))[1]

    with fresh(tuner, clock) as said:
        tuning = autotuner.attempt(choose, tuned, True)
        profiled = len(spare)
        tactics = {size: str(autotuner.attempt(choose, size, False)) for size in sizes}
    return {"tuning": str(tuning), "profiled": profiled, "wrong scales": sum(map(bool, spare[:profiled])),
            "short scales": sum(each < 0 for each in spare[:profiled]), "tactics": tactics, "said": said}


def warm_up(tuner, dimension, sizes=(300, 400, 511, 512, 64, 100, 600), tuned=512):
    """`drive` an operator of shapes alone, with a stand-in for the clock that finds tactic 1 the fastest of three."""
    return drive(tuner, dimension, Paper(), sizes, tuned, clock={0: 3.0, 1: 1.0, 2: 2.0}.get)


def fallen_back(tactics):
    """How many of the calls got the default tactic or an exception instead of the tuned one (of `warm_up`'s ``tactics``)."""
    return sum(tactic != "1" for tactic in tactics.values())
