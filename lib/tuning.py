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

from . import autotuner, patches, subjects


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
    with subjects.scratch(tree, *(path.relative_to(tree) for path in files)) as copy:
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


def scale_length(rows, columns):
    """Elements of the 1-D activation scale of ``fp8_quantize_1x128`` off SM100, as TensorRT-LLM pads it (rows to 4, blocks of 128)."""
    blocks = -(-columns // 128)
    return -(-(-(-rows // 4) * 4 * blocks * 4) // 128) * 128 // 4


def warm_up(tuner, dimension, sizes=(300, 400, 511, 512, 64, 100, 600), tuned=512, columns=256):
    """Tune an operator like TensorRT-LLM's ``fp8_block_scaling_gemm`` and then call it, with the tuner's real code and a stand-in for the clock.

    Its inputs are a (m, k) activation and a scale that is a vector of `scale_length`; its constraint spec names `dimension` of that scale:
    1, as for SM100, which a vector does not have, or 0, which fits. Tactic 1 is the fastest of three.

    Returns
    -------
    dict
        ``tuning``: what warm-up at m = `tuned` came to (the tactic, or its exception); ``profiled``: calls of the kernel in warm-up;
        ``wrong scales``: how many of them had a scale of the wrong length; ``tactics``: m to the tactic chosen afterwards (-1: default);
        ``said``: the warnings that it logged.
    """
    seen = []

    class Runner(tuner.TunableRunner):
        __hash__ = object.__hash__

        def get_valid_tactics(self, inputs, profile):
            return [0, 1, 2]

        def forward(self, inputs, tactic=-1, do_preparation=False, **keywords):
            activation, _, scale, _ = inputs
            seen.append(scale.numel() == scale_length(*activation.shape))

    def stopwatch(self, runner, inputs, tactic, *_, **__):
        runner(inputs, tactic=tactic)
        return {0: 3.0, 1: 1.0, 2: 2.0}[tactic]

    rule = {0: lambda shapes: scale_length(*shapes[0]), 1: lambda shapes: shapes[0][0]}[dimension]
    configured = tuner.TuningConfig(
        dynamic_tensor_specs=(tuner.DynamicTensorSpec((0,), (0,), (64, 128, 256, 512), autotuner.power_of_2),),
        constraint_specs=(tuner.ConstraintSpec(2, dimension, rule),))
    runners = [Runner()]

    def choose(size, tune):
        inputs = [torch.empty(size, columns), torch.empty(32, columns), torch.empty(scale_length(size, columns)), torch.empty(1, 2)]
        with tuner.autotune(tune), contextlib.redirect_stderr(io.StringIO()):
            return tuner.AutoTuner.get().choose_one("fp8_block_scaling_gemm", runners, configured, inputs)[1]

    said = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda entry: said.append(entry.getMessage())
    tuner.logger.addHandler(listener)
    real, capturing = tuner.AutoTuner._profile_single_kernel, torch.cuda.is_current_stream_capturing
    tuner.AutoTuner._instance = None
    try:
        tuner.AutoTuner._profile_single_kernel, torch.cuda.is_current_stream_capturing = stopwatch, lambda: False
        tuning = autotuner.attempt(choose, tuned, True)
        profiled, right = len(seen), sum(seen)
        tactics = {size: str(autotuner.attempt(choose, size, False)) for size in sizes}
    finally:
        tuner.AutoTuner._profile_single_kernel, torch.cuda.is_current_stream_capturing = real, capturing
        tuner.AutoTuner._instance = None
        tuner.logger.removeHandler(listener)
    return {"tuning": str(tuning), "profiled": profiled, "wrong scales": profiled - right, "tactics": tactics, "said": said}


def fallen_back(tactics):
    """How many of the calls got the default tactic or an exception instead of the tuned one (of `warm_up`'s ``tactics``)."""
    return sum(tactic != "1" for tactic in tactics.values())
