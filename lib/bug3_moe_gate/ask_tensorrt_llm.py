"""What a TensorRT-LLM tree answers about its MoE back ends on a GPU of any compute capability; run by `gates`, in a process of its own.

``python gates_tensorrt_llm.py TREE OUTPUT CAPABILITY...`` writes JSON to OUTPUT. Only the files of MODULES are the tree's own, with the
predicates ``is_...`` of its ``_utils.py``; every other module is a stand-in, so that neither the package nor a GPU is needed.
"""

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import sys
import types
from pathlib import Path

import torch

MOE = "tensorrt_llm._torch.modules.fused_moe"
BACK_ENDS = {"TRTLLM": (f"{MOE}.fused_moe_trtllm_gen", "TRTLLMGenFusedMoE"), "CUTEDSL": (f"{MOE}.fused_moe_cute_dsl", "CuteDslFusedMoE"),
             "CUTLASS": (f"{MOE}.fused_moe_cutlass", "CutlassFusedMoE")}
CHOICE, CONFIG = f"{MOE}.create_moe", "tensorrt_llm._torch.model_config_itself"  # the others see a stand-in for model_config
MODULES = {name: name.replace(".", "/").removesuffix("_itself") + ".py"
           for name in (CHOICE, CONFIG, *(module for module, _ in BACK_ENDS.values()))}
QUANTISATIONS = {"NVFP4": "NVFP4", "FP8 block scales": "FP8_BLOCK_SCALES", "MXFP4 × MXFP8": "W4A8_MXFP4_MXFP8",
                 "MXFP4 × BF16": "W4A16_MXFP4"}
REQUESTS = (("AUTO", "MiniMaxM2ForCausalLM"), ("AUTO", "GptOssForCausalLM"), ("TRTLLM", "MiniMaxM2ForCausalLM"),
            ("CUTEDSL", "MiniMaxM2ForCausalLM"), ("CUTLASS", "MiniMaxM2ForCausalLM"))


class Any(type):
    """A class that has every attribute (each another such class), and can be a base, a decorator or a default."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = Any(name, (Thing,), {})
        setattr(cls, name, made)
        return made


class Thing(metaclass=Any):
    def __new__(cls, *given, **_):
        if cls.__init__ is Thing.__init__ and len(given) == 1 and inspect.isroutine(given[0]):
            return given[0]
        return super().__new__(cls)

    def __init__(self, *_, **__):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Thing()

    def __call__(self, *given, **_):
        return given[0] if len(given) == 1 and (inspect.isroutine(given[0]) or isinstance(given[0], type)) else Thing()

    def __bool__(self):
        return False


class Names(type):
    """Stands in for the enumeration of quantisations: each attribute is an object of its own with a name."""

    def __getattr__(cls, name):
        if not name.isupper():
            raise AttributeError(name)
        value = type("Name", (str,), {"name": name})(name)
        setattr(cls, name, value)
        return value


class QuantAlgo(metaclass=Names):
    pass


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds MODULES in the tree, and a stand-in for the rest of TensorRT-LLM and for what is not installed."""

    def __init__(self, tree, given):
        self.tree, self.given = tree, given
        nodes = [node for file in MODULES.values() if (tree / file).is_file() for node in ast.walk(ast.parse((tree / file).read_text()))]
        wanted = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        wanted |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        tops = {name.partition(".")[0] for name in wanted} - set(sys.stdlib_module_names)
        self.missing = {name for name in tops if not importlib.machinery.PathFinder.find_spec(name)}

    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            if not (self.tree / MODULES[name]).is_file():
                raise ModuleNotFoundError(f"this revision has no {MODULES[name]}", name=name)
            return importlib.util.spec_from_file_location(name, self.tree / MODULES[name])
        if name.partition(".")[0] in {"tensorrt_llm", *self.missing}:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: getattr(Thing, name)
        module.__dict__.update(self.given)
        return module

    def exec_module(self, module):
        pass


def predicates(tree, asked):
    """The functions ``is_...`` of the tree's _utils.py, as they are; `asked` holds the SM that ``get_sm_version`` answers."""
    given = {"get_sm_version": lambda: asked["SM"], "lru_cache": lambda *_, **__: lambda call: call}
    file = tree / "tensorrt_llm/_utils.py"
    for node in ast.parse(file.read_text()).body if file.is_file() else ():
        if isinstance(node, ast.FunctionDef) and node.name.startswith("is_") and "get_sm_version" in ast.unparse(node):
            node.decorator_list, node.returns = [], None
            for argument in node.args.args:
                argument.annotation = None
            exec(compile(ast.Module([node], []), str(file), "exec"), given)
    return {name: value for name, value in given.items() if not name.startswith("__")}


def quantised(algorithm):
    """A quantisation configuration for which only ``has_<algorithm>`` is true."""
    mode = type("Mode", (), {"__getattr__": lambda self, name: lambda *_, **__: name in (f"has_{algorithm.lower()}", "has_any_quant")})()
    return types.SimpleNamespace(quant_mode=mode, layer_quant_mode=mode, quant_algo=getattr(QuantAlgo, algorithm))


def attempt(call):
    """What a call returned, or its exception in one line."""
    try:
        return call(), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}".splitlines()[0]


def implement(back_end, quantisation):
    """Whether a back end's can_implement admits, and why not; admitted is None where it could not be asked."""
    module, name = BACK_ENDS[back_end]

    def ask():
        kind = getattr(importlib.import_module(module), name)
        return kind.can_implement(getattr(QuantAlgo, QUANTISATIONS[quantisation]), dtype_activation=torch.bfloat16)

    answer, said = attempt(ask)
    if isinstance(answer, tuple) and len(answer) == 2:
        return bool(answer[0]), answer[1] or ""
    return None, said or "it answers in another form"


def route(requested, model, quantisation):
    """Which class serves a request: ModelConfig.resolve_moe_backend, then get_moe_cls, then the constructor's own check of the SM."""
    config = quantised(QUANTISATIONS[quantisation])

    def choose():
        resolve = getattr(importlib.import_module(CONFIG).ModelConfig, "resolve_moe_backend", lambda name, _: name)
        return importlib.import_module(CHOICE).get_moe_cls(types.SimpleNamespace(
            moe_backend=resolve(requested, model), quant_config=config, pretrained_config=None))

    kind, said = attempt(choose)
    if kind is None:
        return "", said
    built = types.SimpleNamespace(quant_config=config, skip_create_weights_in_init=True)
    said = attempt(lambda: kind(routing_method=Thing(), num_experts=8, hidden_size=256, intermediate_size=256, dtype=torch.bfloat16,
                                model_config=built, without_comm=True))[1]
    refused = said.startswith(("NotImplementedError", "ValueError")) and "SM" in said
    return ("", said) if refused else (kind.__name__, "")


def main(tree, output, *capabilities):
    asked, said = {"SM": 0}, []
    logger = types.SimpleNamespace(**dict.fromkeys(("info", "info_once", "debug", "warning_once", "error"), lambda *_, **__: None),
                                   warning=lambda text, *_, **__: said.append(text))
    given = {"QuantAlgo": QuantAlgo, "logger": logger, "_warn_and_return": lambda reason: (False, reason)}
    sys.meta_path.insert(0, Finder(Path(tree), given | predicates(Path(tree), asked)))
    torch.compile = lambda *_, **__: lambda call: call
    gates, routes = [], []
    for asked["SM"] in map(int, capabilities):
        for back_end in BACK_ENDS:
            for quantisation in QUANTISATIONS:
                admitted, reason = implement(back_end, quantisation)
                gates.append({"check": "can_implement", "back end": back_end, "quantisation": quantisation, "SM": asked["SM"],
                              "admitted": admitted, "said": reason})
        for requested, model in REQUESTS:
            said.clear()
            reached, error = route(requested, model, "NVFP4")
            routes.append({"requested": requested, "model": model, "SM": asked["SM"], "reached": reached, "said": error or " ".join(said)})
    Path(output).write_text(json.dumps({"rows": gates, "routes": routes}))


if __name__ == "__main__":
    main(*sys.argv[1:])
