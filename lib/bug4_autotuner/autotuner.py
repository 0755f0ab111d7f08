"""An autotuner as shipped, FlashInfer's or TensorRT-LLM's, on a CPU: loaded, patched, called."""

import ast
import contextlib
import importlib.util
import inspect
import logging
import sys
import tomllib
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import MagicMock

import pandas as pd
import torch

from lib.errors import CollectionError
from lib.subjects import patches, vendored

FILES = {"flashinfer": vendored.AUTOTUNERS, "tensorrt_llm": ("tensorrt_llm/_torch/autotuner.py",)}
OPERATORS = "tensorrt_llm/_torch/custom_ops/torch_custom_ops.py"
SPEC = "get_fp8_block_scaling_gemm_constraint_spec"
CALLED = {"AutoTuner", "TuningConfig", "DynamicTensorSpec", "ConstraintSpec"}
KINDS = ("published", "skip-both", "revised")


def file_of(tree, package="flashinfer"):
    """The path of a package's autotuner.py relative to a tree (str), or None.

    TensorRT-LLM's is also looked for anywhere below ``_torch``. A file without the classes that are
    called here is none: TensorRT-LLM 0.19 and before had dicts where later there are specs.
    """
    named = [Path(tree, name) for name in FILES[package]] if tree else []
    if tree and package == "tensorrt_llm":
        named += sorted(Path(tree, "tensorrt_llm/_torch").rglob("autotuner.py"))
    found = (path for path in named if path.is_file() and classes(path) >= CALLED)
    return next((str(path.relative_to(tree)) for path in found), None)


def classes(file):
    """The classes that a Python file defines at its top (set of str); none if it has errors."""
    parsed = attempt(ast.parse, file.read_text(errors="replace")).value
    return {node.name for node in getattr(parsed, "body", ()) if isinstance(node, ast.ClassDef)}


def own(tree):
    """TensorRT-LLM's tuner in a tree (module); or None, and why it is not asked (str)."""
    if not tree:
        return None, "TensorRT-LLM is not here; as read, its look-up has the same two loops " \
                     "without a check"
    if not file_of(tree, "tensorrt_llm"):
        return None, f"The TensorRT-LLM at hand has no {FILES['tensorrt_llm'][0]} with specs"
    tuner = attempt(load, tree, "tensorrt_llm")
    asked = tuner if tuner.error else attempt(
        lambda: [survey(tuner.value, call) for call in (find, generate)])
    why = f"The tuner of the TensorRT-LLM at hand cannot be asked here: {asked.error}"
    return (None, why) if asked.error else (tuner.value, "")


def power_of_2(number):
    """The largest power of two that is at most `number` (0 for 0): the bucket rule of most ops."""
    return 1 << (number.bit_length() - 1) if number else 0


def forget(*packages):
    """Take packages with all their modules out of ``sys.modules``; returns them (dict)."""
    names = [name for name in sys.modules if name.partition(".")[0] in packages]
    return {name: sys.modules.pop(name) for name in names}


@contextlib.contextmanager
def standing(modules):
    """Modules in their packages' place in ``sys.modules`` for a block; what it imports is added."""
    packages = {name.partition(".")[0] for name in modules}
    held = forget(*packages)
    sys.modules.update(modules)
    try:
        yield
    finally:
        modules.update(forget(*packages))
        sys.modules.update(held)


def load(tree, package="flashinfer", behind=()):
    """Import autotuner.py of a tree as it is (module; ``loaded_with`` is for `standing`).

    Stand-ins take the place of its parent packages; on a GPU FlashInfer's own timing works. Other
    modules are also taken from the trees `behind`. CollectionError if `tree` has no such file.
    """
    if not (file := file_of(tree, package)):
        raise CollectionError(f"{tree} has no {' or '.join(FILES[package])}",
                              "name a tree that has it: an unpacked wheel, or a checkout")
    name, logger = file.removesuffix(".py").replace("/", "."), logging.getLogger(package)
    logger.addHandler(logging.NullHandler())
    logger.warning_once = lambda said, **_: logger.warning(said)
    inner = [f"{package}.jit"] if package == "flashinfer" else [
        str(each).replace("/", ".") for each in Path(file).parents if each.name]
    given = {folder: {"__path__": [str(Path(each, folder.replace(".", "/")))
                                   for each in (tree, *behind)]} for folder in (package, *inner)}
    if package == "flashinfer":  # its delay of a stream, in microseconds: at 3 GHz, or longer
        wait = {"delay_kernel": lambda time: torch.cuda._sleep(3000 * time)}
        given |= {"flashinfer.jit.core": {}, "flashinfer.tllm_utils": wait,
                  "flashinfer.utils": {"next_positive_power_of_2": power_of_2,
                                       "is_confidential_compute": lambda *_: False,
                                       "get_globaltimer_kernel": None}}
    else:
        anything = {"__getattr__": lambda name: MagicMock(name=name)}
        given |= dict.fromkeys(needs(Path(tree, file), name), anything)
    modules = {module: types.ModuleType(module) for module in given}
    for module, values in given.items():
        vars(modules[module]).update(values | {"logger": logger})
    with standing(modules):
        tuner = importlib.import_module(name)
    tuner.loaded_with = modules
    return tuner


def needs(file, module):
    """What a file imports of its package below the top, or of packages not here (set of str)."""
    (package, _, _), found = module.partition("."), set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            found.add(importlib.util.resolve_name(name, module.rpartition(".")[0]))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found - {package} if (top := name.partition(".")[0]) == package
            or top not in sys.modules and not importlib.util.find_spec(top)}


def fitting(tree, package="flashinfer"):
    """The patch of each of `KINDS` that fits a tree (dict of kind to file name), if any does."""
    product = package.replace("_", "-")
    found = patches.fitting(tree, f"04-autotuner.*.{product}*") if file_of(tree, package) else {}
    return {kind: found[kind] for kind in KINDS if kind in found}


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
    """What a call did: its value, or its exception in a line, and the frame that raised it."""

    value: object = None
    error: str = ""
    frame: traceback.FrameSummary | None = None
    raised: Exception | None = None

    def __str__(self):
        return self.error or str(self.value)


def attempt(call, *arguments, **keywords):
    """Call, and keep what came of it (`Outcome`), whatever it raised."""
    try:
        return Outcome(value=call(*arguments, **keywords))
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(error=said, frame=frame, raised=error)


def tuples(value):
    """A value with all its lists as tuples, so that it can be hashed."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value


SHAPES = ((300, 64), (64, 32), (96,))  # those and the other fields, where cases.toml has none
USUAL = {"shapes": SHAPES, "dynamic": (), "constraint": (), "cap": None, "account": False}
CASES = {name: types.SimpleNamespace(**USUAL | {key: tuples(each[key]) for key in each}) for name,
         each in tomllib.loads(Path(__file__).with_name("cases.toml").read_text()).items()}


def links(tuner):
    """Whether a dynamic spec of a tuner may link several dimensions (bool)."""
    return tuner.DynamicTensorSpec.__annotations__["input_idx"] not in (int, "int")


def config(tuner, dynamic=(), constraint=(), cap=None):
    """A TuningConfig from indices as cases.toml has them."""
    index = (lambda each: each) if links(tuner) else (lambda each: each[0])
    return tuner.TuningConfig(
        dynamic_tensor_specs=tuple(
            tuner.DynamicTensorSpec(index(inputs), index(dims), (1, 2, 4), power_of_2)
            for inputs, dims in dynamic),
        constraint_specs=tuple(tuner.ConstraintSpec(number, dim, lambda shapes: shapes[0][0])
                               for number, dim in constraint),
        **({"tune_max_num_tokens": cap} if cap else {}))


def find(tuner, shapes, configured):
    """Call ``_find_nearest_profile``: the key under which a choice is cached (`Outcome`)."""
    call = tuner.AutoTuner._find_nearest_profile
    if "dynamic_tensor_specs" not in inspect.signature(call).parameters:
        return attempt(call, shapes, configured)
    return attempt(call, shapes, configured.dynamic_tensor_specs, configured.constraint_specs,
                   tune_max_num_tokens=configured.tune_max_num_tokens)


def generate(tuner, shapes, configured):
    """Have warm-up build its profiles for tensors of these shapes, (0,) for None (`Outcome`)."""
    inputs = [None if tuple(shape) == (0,) else torch.empty(shape) for shape in shapes]
    with standing(tuner.loaded_with):
        whole = tuner.AutoTuner()
        build = getattr(whole, "_optimization_profiles", None)
        return attempt(build or whole._generate_optimization_profiles, configured, inputs)


def survey(tuner, call=find, cases=CASES):
    """What each case does to a function of a tuner: ``ok`` or the exception (DataFrame)."""
    rows, capped = [], hasattr(tuner.TuningConfig, "tune_max_num_tokens")
    for name, case in cases.items():
        linked = any(len(inputs) > 1 for inputs, _ in case.dynamic)
        if linked and not links(tuner) or case.cap and not capped:
            continue
        outcome = call(tuner, case.shapes, config(tuner, case.dynamic, case.constraint, case.cap))
        rows.append({"case": name, "shapes": str(case.shapes), "dynamic": str(list(case.dynamic)),
                     "constraint": str(list(case.constraint)), "outcome": outcome.error or "ok",
                     "line": outcome.frame.lineno if outcome.error else "",
                     "code": outcome.frame.line if outcome.error else "",
                     "account": case.account})
    return pd.DataFrame(rows)


def raising(tuners):
    """In how many cases look-up and warm-up of each tuner raise, and the account's (DataFrame)."""
    def row(name, tuner):
        look_up, warm_up = survey(tuner), survey(tuner, generate)
        failed, theirs = look_up["outcome"] != "ok", look_up["account"]
        return {"tuner": name, "look-up raises": failed.sum(),
                "warm-up raises": (warm_up["outcome"] != "ok").sum(),
                "account's cases": theirs.sum(), "account's cases raise": (failed & theirs).sum()}
    return pd.DataFrame([row(*each) for each in tuners.items()])


def spec(sm, tree=None):
    """Which dimension of the scales the tree's own function names, or the rule as read (int)."""
    file = Path(tree or "", OPERATORS)
    body = ast.parse(file.read_text()).body if tree and file.is_file() else ()
    wanted = [node for node in body
              if isinstance(node, ast.FunctionDef) and node.name.strip("_") == SPEC]
    if not wanted:
        return int(sm >= 100)
    for node in wanted:
        node.decorator_list = []  # a cache
    used = {each.id for node in wanted for each in ast.walk(node) if isinstance(each, ast.Name)}
    names = dict.fromkeys(used, MagicMock()) | {
        "ConstraintSpec": lambda index, dim, rule: dim, "get_sm_version": lambda: sm}
    exec(compile(ast.Module(wanted, []), OPERATORS, "exec"), names)
    return names[SPEC]()[0]


def replay(tuner, tree=None):
    """Have a tuner look up the GEMM with each architecture's scales and spec (DataFrame)."""
    rows = []
    for sm in (90, 100, 103, 120, 121):
        # As fp8Quantize.cpp was read; SM120, and no other, is sent to another quantiser.
        rank, named = 2 if sm in (100, 103, 120) else 1, spec(sm, tree)
        shapes = (300, 256), (32, 256), (96, 4)[:rank]
        outcome = find(tuner, shapes, config(tuner, constraint=[(2, named)]))
        rows.append({"SM": sm, "scales have": f"{rank} dimensions",
                     "the spec names": f"dimension {named}", "outcome": outcome.error or "ok",
                     "rank": rank})
    return pd.DataFrame(rows)
