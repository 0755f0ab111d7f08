"""What a TensorRT-LLM tree answers about its MoE back ends on any GPU; run by `gates`, by itself.

``python ask_tensorrt_llm.py TREE OUTPUT CAPABILITY...`` writes JSON to OUTPUT. The tree's own are
the files of OWN in its MoE folder, its model_config.py, and the predicates ``is_...`` of its
_utils.py; every other module is a stand-in, so that neither the package nor a GPU is needed. The
files may be excerpts. Asked is one layer of Qwen3-30B-A3B's size on one GPU with FlashInfer.
"""

import ast
import dataclasses
import importlib
import inspect
import json
import sys
import typing
from pathlib import Path
from types import SimpleNamespace

import torch
from standins import Finder, Thing, attempt, missing

TOP = "tensorrt_llm._torch"
FOLDERS = ("modules/fused_moe", "moe/fused_moe")  # until August 2026, and since
OWN = ("create_moe", "moe_resolution", "impl_contract", "activation", "fused_moe_trtllm_gen",
       "fused_moe_cute_dsl", "fused_moe_cute_dsl_b12x", "fused_moe_cutlass", "trtllm_gen/*")
CONFIG = f"{TOP}.model_config_itself"  # the others see a stand-in for model_config
CLASSES = {"TRTLLM": "TRTLLMGenFusedMoE", "CUTEDSL": "CuteDslFusedMoE",
           "CUTEDSL, B12X": "CuteDslB12xFusedMoE", "CUTLASS": "CutlassFusedMoE",
           "TRITON": "TritonFusedMoE"}
QUANTISATIONS = {"NVFP4": "NVFP4", "FP8 block scales": "FP8_BLOCK_SCALES",
                 "MXFP4 × MXFP8": "W4A8_MXFP4_MXFP8", "MXFP4 × BF16": "W4A16_MXFP4"}
# What is asked for, for which model, and that model's architecture.
REQUESTS = (("AUTO", "MiniMax M2", "MiniMaxM2ForCausalLM"),
            ("AUTO", "GPT-OSS", "GptOssForCausalLM"),
            *((name, "any", "MiniMaxM2ForCausalLM") for name in ("TRTLLM", "CUTEDSL", "CUTLASS")))
SIZES = {"hidden_size": 2048, "intermediate_size": 768, "num_experts": 128, "top_k": 8}
LAYOUTS = ("no can_implement", "can_implement(quant_algo)", "can_implement(problem, deployment)")
REFUSALS = ("NotImplementedError", "ValueError")  # another exception is our fault, or an excerpt's
NO_ANSWER = "gives no answer in this tree"


class Names(type):
    """Stands in for the enumeration of quantisations: by attribute or value, a str with a name."""

    def __getattr__(cls, name):
        if not name.isupper():
            raise AttributeError(name)
        value = type("Name", (str,), {"name": name, "value": name})(name)
        setattr(cls, name, value)
        return value

    def __call__(cls, name):
        return getattr(cls, str(name))


class QuantAlgo(metaclass=Names):
    pass


class Tree:
    """A tree's own modules, importable in this process under their names.

    Attributes
    ----------
    sm : int
        What ``get_sm_version`` answers.
    said : list of str
        The warnings of the tree's logger.
    """

    def __init__(self, root):
        self.sm, self.said, top = 0, [], root / TOP.replace(".", "/")
        self.folder = next((each for each in FOLDERS if (top / each).is_dir()), FOLDERS[0])
        files = [file for name in OWN for file in sorted((top / self.folder).glob(f"{name}.py"))]
        self.own = {".".join((TOP, *file.relative_to(top).with_suffix("").parts)): file
                    for file in files}
        if (top / "model_config.py").is_file():
            self.own[CONFIG] = top / "model_config.py"
        self.homes, self.asked_with, wanted = {}, [], {"tensorrt_llm"}
        for name, file in self.own.items():
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef | ast.FunctionDef):
                    self.homes[node.name] = name
                    if node.name == "can_implement":
                        self.asked_with.append({each.arg for each in node.args.args})
                elif isinstance(node, ast.Import):
                    wanted |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    wanted.add(node.module.partition(".")[0])
        quiet = ("info", "info_once", "debug", "warning_once", "error")
        logger = SimpleNamespace(**dict.fromkeys(quiet, lambda *_, **__: None),
                                 warning=lambda text, *_, **__: self.said.append(text))
        self.given = {"QuantAlgo": QuantAlgo, "_reject": self.reject, "NO_FALLBACK_BACKENDS": (),
                      "_warn_and_return": lambda reason: (False, reason), "logger": logger}
        self.given |= self.predicates(root / "tensorrt_llm/_utils.py")
        if "MoEEligibility" not in self.homes:
            admitted = SimpleNamespace(eligible=True, detail="")
            self.given["MoEEligibility"] = SimpleNamespace(ok=lambda: admitted)
        absent = {"tensorrt_llm", *missing(wanted - set(sys.stdlib_module_names))}
        sys.meta_path.insert(0, Finder(self.own, absent, self.given, self.look_up))

    @property
    def layout(self):
        """Which of LAYOUTS the tree has."""
        newest = any("quant_algo" not in names for names in self.asked_with)
        return LAYOUTS[2 if newest else bool(self.asked_with)]

    def predicates(self, file):
        """The functions ``is_...`` of _utils.py, as they are; without it one of ours."""
        given = {"get_sm_version": lambda: self.sm, "lru_cache": lambda *_, **__: lambda call: call,
                 "is_sm_100f": lambda sm=None: (sm or self.sm) in (100, 103)}
        for node in ast.parse(file.read_text()).body if file.is_file() else ():
            asks = isinstance(node, ast.FunctionDef) and node.name.startswith("is_")
            if asks and "get_sm_version" in ast.unparse(node):
                node.decorator_list, node.returns = [], None
                for argument in node.args.args:
                    argument.annotation = None
                exec(compile(ast.Module([node], []), str(file), "exec"), given)
        return {name: value for name, value in given.items() if not name.startswith("__")}

    def look_up(self, name):
        """What a name means that an excerpt uses and does not import."""
        if name in self.homes:
            return self.its(name)
        return self.given.get(name, getattr(typing, name, None) or getattr(Thing, name))

    def its(self, name):
        """A class or function that the tree's own modules define.

        Raises ModuleNotFoundError if none does.
        """
        if name not in self.homes:
            raise ModuleNotFoundError(f"this tree has no {name}")
        return getattr(importlib.import_module(self.homes[name]), name)

    def reject(self, reason, detail=""):
        """As the tree's interface.py rejects."""
        if "MoEEligibility" in self.homes:
            return self.its("MoEEligibility").no(reason, detail)
        return SimpleNamespace(eligible=False, detail=detail)

    def made(self, name, **known):
        """An object of one of the contract's classes, or a stand-in with these fields."""
        if name not in self.homes:
            return SimpleNamespace(**known)
        fields = [field for field in dataclasses.fields(self.its(name)) if field.init]
        required = [field.name for field in fields if field.default is dataclasses.MISSING
                    and field.default_factory is dataclasses.MISSING]
        chosen = {field.name: known[field.name] for field in fields if field.name in known}
        return self.its(name)(**dict.fromkeys(required, Thing()) | chosen)

    def question(self, algorithm):
        """What can_implement is asked about: a MoEProblem and a MoEDeployment."""
        layer = {"quant": algorithm, "quant_algo": getattr(QuantAlgo, algorithm), "bias": False,
                 "dtype_act": torch.bfloat16, "swiglu_gptoss_style": False} | SIZES
        machine = self.made("MoEEnvironment", sm=self.sm, available_deps=("flashinfer",),
                            env_flags=())
        alone = dict.fromkeys(("ep_size", "tp_size", "parallel_size", "cluster_size"), 1)
        off = dict.fromkeys(("use_dp", "eplb_enabled", "moe_lora_enabled", "smart_router"), False)
        return self.made("MoEProblem", **layer), self.made(
            "MoEDeployment", num_slots=SIZES["num_experts"], env=machine, **alone, **off)

    def implements(self, kind, algorithm):
        """Whether a class's can_implement admits (None if it does not tell), and why not."""
        def ask():
            if "quant_algo" in inspect.signature(kind.can_implement).parameters:
                return kind.can_implement(getattr(QuantAlgo, algorithm),
                                          dtype_activation=torch.bfloat16)
            return kind.can_implement(*self.question(algorithm))

        answer, said = attempt(ask)
        if isinstance(answer, tuple) and len(answer) == 2:
            return bool(answer[0]), answer[1] or ""
        if isinstance(getattr(answer, "eligible", None), bool):
            return answer.eligible, answer.detail
        return None, said or f"{kind.__name__}.can_implement {NO_ANSWER}"

    def constructs(self, kind, config):
        """Whether a class's constructor lets this SM through, and what it said if not."""
        built = SimpleNamespace(quant_config=config, skip_create_weights_in_init=True)
        given = {"routing_method": Thing(), "num_experts": 8, "hidden_size": 256,
                 "intermediate_size": 256, "dtype": torch.bfloat16, "model_config": built,
                 "without_comm": True}
        names = inspect.signature(kind.__init__).parameters
        whole = any(each.kind is each.VAR_KEYWORD for each in names.values())
        said = attempt(lambda: kind(**{name: value for name, value in given.items()
                                       if whole or name in names}))[1]
        refused = said.startswith(REFUSALS) and "SM" in said
        return not refused, said if refused else ""

    def chosen(self, requested, architecture, algorithm):
        """The class that a request leads to: the tree's resolve_moe_backend, then its choice."""
        name = requested
        if requested == "AUTO" or "ModelConfig" in self.homes:
            name = self.its("ModelConfig").resolve_moe_backend(requested, architecture)
        model = SimpleNamespace(moe_backend=name, quant_config=quantised(algorithm),
                                pretrained_config=None)
        problem, machine = self.question(algorithm)
        if "resolve_moe_cls" in self.homes:
            return self.its("resolve_moe_cls")(model, problem=problem, deployment=machine)
        if "_candidates_for" not in self.homes:
            return self.its("get_moe_cls")(model)
        for kind in self.its("_candidates_for")(name):  # an excerpt: the first that admits
            admitted, said = self.implements(kind, algorithm)
            if admitted is None:
                raise LookupError(said)
            if admitted:
                return kind
        raise ValueError(f"no candidate of {name} serves this layer")

    def route(self, requested, model, architecture):
        """A row: which back end serves a request for NVFP4, or that it is refused."""
        self.said.clear()
        kind, said = attempt(lambda: self.chosen(requested, architecture, "NVFP4"))
        error, reached = said.partition(":")[0], "not asked"
        refused = True if error in REFUSALS else None
        if kind is not None:
            through, said = self.constructs(kind, quantised("NVFP4"))
            refused, error = not through, said.partition(":")[0]
            names = {name: back_end for back_end, name in CLASSES.items()}
            reached = names.get(kind.__name__, kind.__name__)
        return {"requested": requested, "model": model, "SM": self.sm, "refused": refused,
                "reached": error if refused else reached, "said": said or " ".join(self.said)}


def quantised(algorithm):
    """A quantisation configuration for which only ``has_<algorithm>`` is true."""
    true = (f"has_{algorithm.lower()}", "has_any_quant")
    mode = type("Mode", (), {"__getattr__": lambda self, name: lambda *_, **__: name in true})()
    return SimpleNamespace(quant_mode=mode, layer_quant_mode=mode,
                           quant_algo=getattr(QuantAlgo, algorithm))


def main(root, output, *capabilities):
    torch.compile = lambda *_, **__: lambda call: call
    tree, rows, routes = Tree(Path(root)), [], []

    def row(check, back_end, quantisation, answer):
        rows.append({"check": check, "back end": back_end, "quantisation": quantisation,
                     "SM": tree.sm, "admitted": answer[0], "said": answer[1]})

    for tree.sm in map(int, capabilities):
        for back_end, name in CLASSES.items():
            kind, said = attempt(lambda name=name: tree.its(name))
            if kind is None and name not in tree.homes:
                continue
            for quantisation, algorithm in QUANTISATIONS.items():
                row("can_implement", back_end, quantisation,
                    tree.implements(kind, algorithm) if kind else (None, said))
            row("constructor", back_end, "",
                tree.constructs(kind, quantised("NVFP4")) if kind else (None, said))
        routes += [tree.route(*request) for request in REQUESTS]
    answer = {"layout": tree.layout, "rows": rows, "routes": routes}
    Path(output).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
