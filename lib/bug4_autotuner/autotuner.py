"""An autotuner as shipped, FlashInfer's or TensorRT-LLM's, on a CPU: loaded, patched, called."""

import ast
import importlib.util
import inspect
import logging
import sys
import traceback
import types
from dataclasses import dataclass, fields
from pathlib import Path
from unittest.mock import MagicMock

import pandas as pd
import torch

from lib.errors import CollectionError
from lib.subjects import patches, tensorrt_llm, vendored

FILES = {"flashinfer": vendored.AUTOTUNERS, "tensorrt_llm": ("tensorrt_llm/_torch/autotuner.py",)}
AS_READ = f"{tensorrt_llm.REPOSITORY}/blob/{tensorrt_llm.REVISION}/{FILES['tensorrt_llm'][0]}"
KINDS = ("published", "skip-both", "revised")


def file_of(tree, package="flashinfer"):
    """The path of a package's autotuner.py relative to a tree (str); None if it has none."""
    return next((name for name in FILES[package] if tree and Path(tree, name).is_file()), None)


def power_of_2(number):
    """The largest power of two that is at most `number` (0 for 0): the bucket rule of most ops."""
    return 1 << (number.bit_length() - 1) if number else 0


def delay(microseconds):
    """Keep the GPU busy for so long at 3 GHz, or longer, as FlashInfer's compiled kernel does."""
    torch.cuda._sleep(3000 * microseconds)


def stand_in(name, **attributes):
    """Put a module of ours into ``sys.modules``."""
    module = sys.modules[name] = types.ModuleType(name)
    module.__dict__.update(attributes)


def forget(package="flashinfer"):
    """Take a package and its stand-ins out of ``sys.modules``; returns them (dict)."""
    names = [name for name in sys.modules if name.partition(".")[0] == package]
    return {name: sys.modules.pop(name) for name in names}


def settle(tuner):
    """Put the modules that a tuner of FlashInfer was loaded with back into ``sys.modules``."""
    if held := getattr(tuner, "loaded_with", None):
        forget()
        sys.modules.update(held)


def load(tree, package="flashinfer", behind=()):
    """Import autotuner.py of a tree as it is (module).

    Its parent packages would import compiled parts, so stand-ins take their place. FlashInfer's
    stay in ``sys.modules`` (`settle`): some functions import from them when called, and on a GPU
    its own timing works. TensorRT-LLM's are taken back, so that the package can still be imported.

    `tree` (Path) has ``flashinfer/`` or ``tensorrt_llm/`` in it; `behind` are trees to take other
    modules of the package from. CollectionError if the tree has no such file.
    """
    if not (file := file_of(tree, package)):
        raise CollectionError(f"{tree} has no {' or '.join(FILES[package])}",
                              "name a tree that has it: an unpacked wheel, or a checkout")
    name, held = file.removesuffix(".py").replace("/", "."), forget(package)
    logger = logging.getLogger("flashinfer.jit" if package == "flashinfer" else package)
    logger.addHandler(logging.NullHandler())
    for folder in (package, f"{package}.jit", f"{package}._torch"):
        places = [str(Path(each, folder.replace(".", "/"))) for each in (tree, *behind)]
        stand_in(folder, __path__=places)
    if package == "flashinfer":
        stand_in("flashinfer.jit.core", logger=logger)
        stand_in("flashinfer.tllm_utils", delay_kernel=delay)
        stand_in("flashinfer.utils", next_positive_power_of_2=power_of_2,
                 is_confidential_compute=lambda *_: False, get_globaltimer_kernel=None)
        tuner = importlib.import_module(name)
        tuner.loaded_with = forget()
        settle(tuner)
        return tuner
    logger.warning_once = lambda said, **_: logger.warning(said)
    needed = needs(Path(tree, file), name)
    try:
        for module, names in needed.items():
            stand_in(module, **{each: MagicMock(name=each) for each in names} | {"logger": logger})
        return importlib.import_module(name)
    finally:
        for module in {*needed, *forget(package)} & sys.modules.keys():
            del sys.modules[module]
        sys.modules.update(held)


def needs(file, module):
    """What a file imports of its package below the top, or of packages not here (dict to names)."""
    package, found = module.partition(".")[0], {}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            parent = module.rsplit(".", node.level)[0] if node.level else ""
            name = ".".join(filter(None, (parent, node.module)))
            found.setdefault(name, []).extend(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            found |= {alias.name: [] for alias in node.names if alias.name not in found}
    tops = {name: name.partition(".")[0] for name in found if name != package}
    return {name: found[name] for name, top in tops.items()
            if top == package or top not in sys.modules and not importlib.util.find_spec(top)}


def fitting(tree, package="flashinfer"):
    """The patch of each of `KINDS` that fits a tree (dict of kind to file name), if any does."""
    named = [(kind, patches.Patch(path)) for kind in KINDS if file_of(tree, package)
             for path in sorted(patches.FOLDER.glob(f"04-autotuner.{kind}.*.diff"))]
    return {kind: patch.path.name for kind, patch in named
            if patch.files[0].startswith(f"{package}/") and patch.state(tree) == patches.READY}


def patched(tree, *names, package="flashinfer"):
    """Load the autotuner of a tree with patches applied to a scratch copy (module)."""
    beside = Path(tree, file_of(tree, package)).parent.glob("*.py")
    files = [str(path.relative_to(tree)) for path in beside]
    with patches.patched(tree, *names, files=files) as copy:
        return load(copy, package, behind=[tree])


def tuners(tree, package="flashinfer"):
    """The tuner of a tree as shipped (``original``) and under each patch that fits (dict)."""
    return {"original": load(tree, package)} | {
        kind.replace("-", " "): patched(tree, name, package=package)
        for kind, name in fitting(tree, package).items()}


@dataclass(frozen=True)
class Outcome:
    """What a call did: its value, or its exception with the line that raised it."""

    value: object = None
    error: str = ""
    where: str = ""
    line: int = 0
    code: str = ""

    def __str__(self):
        return self.error or str(self.value)


def attempt(call, *arguments, **keywords):
    """Call, and keep what came of it (`Outcome`), whatever it raised."""
    try:
        return Outcome(value=call(*arguments, **keywords))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(error=f"{type(error).__name__}: {error}", where=last.name,
                       line=last.lineno, code=last.line)


@dataclass(frozen=True)
class Case:
    """Shapes and specs to call a tuner with."""

    shapes: tuple
    dynamic: list  # input and dimension indices of each spec; several are linked dimensions
    constraint: list  # input and dimension index of each spec
    cap: int | None = None  # tune_max_num_tokens, which TensorRT-LLM alone has
    account: bool = False  # one of the account's eight


SHAPES = ((300, 64), (64, 32), (96,))
CASES = {
    "in bounds": Case(SHAPES, [((0,), (0,))], [(1, 0)], account=True),
    "dynamic spec, input index past the end": Case(SHAPES, [((3,), (0,))], [], account=True),
    "dynamic spec, dimension index past the end": Case(SHAPES, [((2,), (1,))], [], account=True),
    "dynamic spec, dimension -2 of a vector": Case(SHAPES, [((2,), (-2,))], []),
    "constraint spec, input index past the end": Case(SHAPES, [], [(3, 0)], account=True),
    "constraint spec, dimension index past the end": Case(SHAPES, [], [(2, 1)], account=True),
    "constraint spec, dimension -2 of a vector": Case(SHAPES, [], [(2, -2)]),
    "no shapes at all, dynamic spec": Case((), [((0,), (0,))], [], account=True),
    "no shapes at all, constraint spec": Case((), [], [(0, 0)]),
    "scalar tensor, dynamic spec": Case(((),), [((0,), (0,))], []),
    "scalar tensor, constraint spec": Case(((),), [], [(0, 0)]),
    "None input, dynamic spec on dimension 1": Case(((0,),), [((0,), (1,))], []),
    "None input, constraint spec on dimension 1": Case(((300, 64), (0,)), [], [(1, 1)]),
    "linked dimensions, second input past the end": Case(SHAPES, [((0, 3), (0, 0))], []),
    "linked dimensions, second dimension past the end": Case(SHAPES, [((0, 2), (0, 1))], []),
    "mixed: one spec in bounds, one out": Case(
        SHAPES, [((0,), (0,))], [(1, 0), (2, 1)], account=True),
    "with a cap on tokens, dimension index past the end": Case(
        SHAPES, [((2,), (1,))], [], cap=128, account=True),
}


def links(tuner):
    """Whether a dynamic spec of a tuner may link several dimensions (bool)."""
    kinds = {each.name: each.type for each in fields(tuner.DynamicTensorSpec)}
    return kinds["input_idx"] not in (int, "int")


def caps(tuner):
    """Whether a tuner has a cap on tokens (bool)."""
    return "tune_max_num_tokens" in {each.name for each in fields(tuner.TuningConfig)}


def config(tuner, dynamic=(), constraint=(), cap=None, buckets=(1, 2, 4), rule=power_of_2):
    """A TuningConfig from indices as `Case` has them; `rule` is from a size to its bucket."""
    index = (lambda each: each) if links(tuner) else (lambda each: each[0])
    return tuner.TuningConfig(
        dynamic_tensor_specs=tuple(
            tuner.DynamicTensorSpec(index(inputs), index(dims), buckets, rule)
            for inputs, dims in dynamic),
        constraint_specs=tuple(tuner.ConstraintSpec(number, dim, lambda shapes: shapes[0][0])
                               for number, dim in constraint),
        **({"tune_max_num_tokens": cap} if cap else {}))


def find(tuner, shapes, configured):
    """Call ``_find_nearest_profile``: the key under which a choice is cached (`Outcome`)."""
    call, shapes = tuner.AutoTuner._find_nearest_profile, tuple(map(tuple, shapes))
    if "dynamic_tensor_specs" not in inspect.signature(call).parameters:
        return attempt(call, shapes, configured)
    return attempt(call, shapes, configured.dynamic_tensor_specs, configured.constraint_specs,
                   tune_max_num_tokens=configured.tune_max_num_tokens)


def generate(tuner, shapes, configured):
    """Have warm-up build its profiles for tensors of these shapes, (0,) for None (`Outcome`)."""
    settle(tuner)
    inputs = [None if tuple(shape) == (0,) else torch.empty(shape) for shape in shapes]
    whole = tuner.AutoTuner()
    build = getattr(whole, "_optimization_profiles", None) or whole._generate_optimization_profiles
    return attempt(build, configured, inputs)


def survey(tuner, call=find, cases=CASES):
    """What each case that a tuner can be given does to one of its functions (DataFrame).

    The outcome is ``ok`` or the exception, with the line that raised it.
    """
    rows = []
    for name, case in cases.items():
        linked = any(len(inputs) > 1 for inputs, _ in case.dynamic)
        if linked and not links(tuner) or case.cap and not caps(tuner):
            continue
        outcome = call(tuner, case.shapes, config(tuner, case.dynamic, case.constraint, case.cap))
        rows.append({"case": name, "shapes": str(case.shapes), "dynamic": str(case.dynamic),
                     "constraint": str(case.constraint), "outcome": outcome.error or "ok",
                     "line": outcome.line or "", "code": outcome.code, "account": case.account})
    return pd.DataFrame(rows)


def raising(tuners):
    """In how many cases look-up and warm-up of each tuner raise, and the account's (DataFrame)."""
    rows = []
    for name, tuner in tuners.items():
        look_up, warm_up = survey(tuner), survey(tuner, generate)
        failed = look_up["outcome"] != "ok"
        rows.append({"tuner": name, "look-up raises": failed.sum(),
                     "warm-up raises": (warm_up["outcome"] != "ok").sum(),
                     "account's cases": look_up["account"].sum(),
                     "account's cases raise": (failed & look_up["account"]).sum()})
    return pd.DataFrame(rows)
