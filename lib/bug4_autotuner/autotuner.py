"""FlashInfer's autotuner, unmodified, on a CPU: loaded from a tree, called with any spec and shape, and watched where it fails."""

import importlib
import logging
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from lib.subjects import vendored


def file_of(tree):
    """The path of autotuner.py in a FlashInfer tree, relative to it: a module in 0.6, inside a package from 0.7 on."""
    return next(name for name in vendored.AUTOTUNERS if Path(tree, name).is_file())


def power_of_2(number):
    """The largest power of two that is at most `number` (and 0 for 0): the bucket rule that most of FlashInfer's ops use."""
    return 1 << (number.bit_length() - 1) if number else 0


def delay(microseconds):
    """Keep the GPU busy for at least so long: torch's spin stands in for FlashInfer's compiled kernel, which hides the cost of launching.

    A GPU of 3 GHz makes 3,000 cycles in a microsecond; a slower one waits longer, which harms nothing.
    """
    torch.cuda._sleep(3000 * microseconds)


def forget():
    """Take FlashInfer and its stand-ins out of ``sys.modules``, so that the next import is a fresh one; who holds a module keeps it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "flashinfer"]:
        del sys.modules[name]


def load(tree):
    """Import autotuner.py from a FlashInfer tree as it is (module).

    Its parent packages would import CUDA bindings, so stand-ins take their place in ``sys.modules`` (and stay: some functions
    import from them when called); the files below them are the tree's own. On a GPU the tuner's own timing works: it uses CUDA events,
    and of the stand-ins `delay` alone (the other clock, ``get_globaltimer_kernel``, is for confidential computing).

    Parameters
    ----------
    tree : Path
        A folder with ``flashinfer/`` in it: an unpacked wheel, or a patched copy of the files that it needs.
    """
    forget()

    def stub(name, **attributes):
        module = sys.modules[name] = types.ModuleType(name)
        module.__dict__.update(attributes)

    root, logger = Path(tree, "flashinfer"), logging.getLogger("flashinfer.jit")
    logger.addHandler(logging.NullHandler())
    stub("flashinfer", __path__=[str(root)])
    stub("flashinfer.jit", __path__=[str(root / "jit")])
    stub("flashinfer.jit.core", logger=logger)
    stub("flashinfer.tllm_utils", delay_kernel=delay)
    stub("flashinfer.utils", next_positive_power_of_2=power_of_2, is_confidential_compute=lambda *_: False, get_globaltimer_kernel=None)
    return importlib.import_module(file_of(tree).removesuffix(".py").replace("/", "."))


@dataclass(frozen=True)
class Outcome:
    """What a call did: its value, or its exception with the line that raised it (file name, number, text)."""

    value: object = None
    error: str = ""
    where: str = ""
    line: int = 0
    code: str = ""

    def __str__(self):
        return self.error or str(self.value)


def attempt(call, *arguments):
    """Call, and keep what came of it (`Outcome`), whatever it raised."""
    try:
        return Outcome(value=call(*arguments))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(error=f"{type(error).__name__}: {error}", where=last.name, line=last.lineno, code=last.line)


def config(tuner, dynamic=(), constraint=(), buckets=(1, 2, 4), rule=power_of_2):
    """A TuningConfig from indices.

    Parameters
    ----------
    tuner : module
        From `load`.
    dynamic : sequence of (tuple of int, tuple of int)
        Input and dimension indices of each DynamicTensorSpec; more than one of each are linked dimensions.
    constraint : sequence of (int, int)
        Input and dimension index of each ConstraintSpec.
    buckets : tuple of int
        What the tuner profiles.
    rule : callable
        From a size to its bucket.
    """
    return tuner.TuningConfig(
        dynamic_tensor_specs=tuple(tuner.DynamicTensorSpec(inputs, dims, buckets, rule) for inputs, dims in dynamic),
        constraint_specs=tuple(tuner.ConstraintSpec(index, dim, lambda shapes: shapes[0][0]) for index, dim in constraint))


def find(tuner, shapes, configured):
    """Call ``_find_nearest_profile``: the key under which a choice is cached for these shapes (`Outcome`)."""
    return attempt(tuner.AutoTuner._find_nearest_profile, tuple(map(tuple, shapes)), configured)


def generate(tuner, shapes, configured):
    """Call ``_generate_optimization_profiles``, as warm-up does, on tensors of these shapes; (0,) stands for a None input (`Outcome`)."""
    inputs = [None if tuple(shape) == (0,) else torch.empty(shape) for shape in shapes]
    return attempt(tuner.AutoTuner()._generate_optimization_profiles, configured, inputs)


SHAPES = ((300, 64), (64, 32), (96,))
CASES = {
    "in bounds": (SHAPES, [((0,), (0,))], [(1, 0)]),
    "dynamic spec, input index past the end": (SHAPES, [((3,), (0,))], []),
    "dynamic spec, dimension index past the end": (SHAPES, [((2,), (1,))], []),
    "dynamic spec, dimension -2 of a vector": (SHAPES, [((2,), (-2,))], []),
    "constraint spec, input index past the end": (SHAPES, [], [(3, 0)]),
    "constraint spec, dimension index past the end": (SHAPES, [], [(2, 1)]),
    "constraint spec, dimension -2 of a vector": (SHAPES, [], [(2, -2)]),
    "no shapes at all, dynamic spec": ((), [((0,), (0,))], []),
    "no shapes at all, constraint spec": ((), [], [(0, 0)]),
    "scalar tensor, dynamic spec": (((),), [((0,), (0,))], []),
    "scalar tensor, constraint spec": (((),), [], [(0, 0)]),
    "None input, dynamic spec on dimension 1": (((0,),), [((0,), (1,))], []),
    "None input, constraint spec on dimension 1": (((300, 64), (0,)), [], [(1, 1)]),
    "linked dimensions, second input past the end": (SHAPES, [((0, 3), (0, 0))], []),
    "linked dimensions, second dimension past the end": (SHAPES, [((0, 2), (0, 1))], []),
    "mixed: one spec in bounds, one out": (SHAPES, [((0,), (0,))], [(1, 0), (2, 1)]),
}


def survey(tuner, call=find, cases=CASES):
    """What each case does to one of the tuner's functions (DataFrame: case, shapes, dynamic, constraint, outcome, line, code)."""
    rows = []
    for name, (shapes, dynamic, constraint) in cases.items():
        outcome = call(tuner, shapes, config(tuner, dynamic, constraint))
        rows.append({"case": name, "shapes": str(shapes), "dynamic": str(dynamic), "constraint": str(constraint),
                     "outcome": outcome.error or "ok", "line": outcome.line or "", "code": outcome.code})
    return pd.DataFrame(rows)
