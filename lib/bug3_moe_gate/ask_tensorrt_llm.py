"""What a TensorRT-LLM tree answers about its MoE back ends on any GPU; run by `gates`, by itself.

``python ask_tensorrt_llm.py OUTPUT TREE COPY CAPABILITY...`` writes JSON. Its own are the files of
OWN (or excerpts), model_config.py and the ``is_...`` of _utils.py; the rest are stand-ins.
"""

import __future__

import ast
import dataclasses
import importlib
import inspect
import json
import sys
import tomllib
import typing
from pathlib import Path
from types import SimpleNamespace

import torch
from standins import Finder, Thing, attempt, missing

TOP = "tensorrt_llm._torch"
CONFIG = f"{TOP}.model_config_itself"  # the others see a stand-in for model_config
FACTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
FOLDERS, OWN, LAYOUTS, REQUESTS, CLASSES, QUANTISATIONS = (FACTS[name] for name in (
    "folders", "own", "layouts", "requests", "classes", "quantisations"))
LATER = __future__.annotations.compiler_flag  # annotations are not evaluated
REFUSALS = ("NotImplementedError", "ValueError")  # another exception is our fault, or an excerpt's


class Names(type):
    """Of a class that stands in for an enumeration: any name in capitals is one of its values."""

    def __getattr__(cls, name):
        if not name.isupper():
            raise AttributeError(name)
        return cls(name)


class QuantAlgo(str, metaclass=Names):
    name = value = property(str)


@dataclasses.dataclass
class Eligibility:
    """Stands in for MoEEligibility, where the module that defines it is not here."""

    eligible: bool = True
    detail: str = ""
    ok = classmethod(lambda cls: cls())
    no = classmethod(lambda cls, reason, detail="": cls(False, detail))


class Tree:
    """A tree's own modules, importable here; its GPU is an `sm`, its warnings are `said`."""

    def __init__(self, root):
        self.sm, self.said, top = 0, [], root / TOP.replace(".", "/")
        folder = next((top / each for each in FOLDERS if (top / each).is_dir()), top / FOLDERS[0])
        files = [file for name in OWN for file in sorted(folder.glob(f"{name}.py"))]
        self.own = {".".join((TOP, *file.relative_to(top).with_suffix("").parts)): file
                    for file in files}
        if (top / "model_config.py").is_file():
            self.own[CONFIG] = top / "model_config.py"
        self.homes, asked_with, wanted = {}, [], {"tensorrt_llm"}
        for name, file in self.own.items():
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef | ast.FunctionDef):
                    self.homes[node.name] = name
                    if node.name == "can_implement":
                        asked_with.append("quant_algo" in ast.unparse(node.args))
                elif isinstance(node, ast.Import):
                    wanted |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    wanted.add(node.module.partition(".")[0])
        self.layout = LAYOUTS[bool(asked_with) if all(asked_with) else 2]
        logger = Thing()
        logger.warning = lambda text, *_, **__: self.said.append(text)
        self.given = {
            "QuantAlgo": QuantAlgo, "NO_FALLBACK_BACKENDS": (), "logger": logger,
            "_warn_and_return": lambda reason: (False, reason),
            "_reject": lambda reason, detail="": self.look_up("MoEEligibility").no(reason, detail),
            **({} if "MoEEligibility" in self.homes else {"MoEEligibility": Eligibility}),
            **self.predicates(root / "tensorrt_llm/_utils.py")}
        absent = {"tensorrt_llm", *missing(wanted - set(sys.stdlib_module_names))}
        sys.meta_path.insert(0, Finder(self.own, absent, self.given, self.look_up))

    def predicates(self, file):
        """The functions ``is_...`` of _utils.py, as they are; without it one of ours."""
        given = {"get_sm_version": lambda: self.sm,
                 "is_sm_100f": lambda sm=None: (sm or self.sm) in (100, 103)}
        for node in ast.parse(file.read_text()).body if file.is_file() else ():
            asks = isinstance(node, ast.FunctionDef) and node.name.startswith("is_")
            if asks and "get_sm_version" in ast.unparse(node):
                node.decorator_list = []
                exec(compile(ast.Module([node], []), file, "exec", LATER), given)
        return {name: value for name, value in given.items() if not name.startswith("__")}

    def look_up(self, name):
        """What a name means that an excerpt uses and does not import."""
        if name in self.homes:
            return self.its(name)
        return self.given.get(name, getattr(typing, name, None) or getattr(Thing, name))

    def its(self, name):
        """A class or function that the tree's own modules define (else ModuleNotFoundError)."""
        if name not in self.homes:
            raise ModuleNotFoundError(f"this tree has no {name}")
        return getattr(importlib.import_module(self.homes[name]), name)

    def made(self, name, **known):
        """An object of one of the contract's classes, or a stand-in with these fields."""
        if name not in self.homes:
            return SimpleNamespace(**known)
        kind, unset = self.its(name), dataclasses.MISSING
        given = {field.name: known.get(field.name, Thing()) for field in dataclasses.fields(kind)
                 if field.init and (field.name in known
                                    or field.default is field.default_factory is unset)}
        return kind(**given)

    def question(self, algorithm):
        """What can_implement is asked about: a MoEProblem and a MoEDeployment."""
        machine = self.made("MoEEnvironment", sm=self.sm, available_deps=("flashinfer",),
                            env_flags=())
        problem = self.made("MoEProblem", quant=algorithm, quant_algo=QuantAlgo(algorithm),
                            dtype_act=torch.bfloat16, **FACTS["problem"])
        return problem, self.made("MoEDeployment", env=machine, **FACTS["deployment"])

    def implements(self, kind, algorithm):
        """Whether a class's can_implement admits (None if it does not tell), and why not."""
        def ask():
            if "quant_algo" in inspect.signature(kind.can_implement).parameters:
                return kind.can_implement(QuantAlgo(algorithm), dtype_activation=torch.bfloat16)
            return kind.can_implement(*self.question(algorithm))

        answer, said = attempt(ask)
        if isinstance(answer, tuple) and len(answer) == 2:
            return bool(answer[0]), answer[1] or ""
        if isinstance(getattr(answer, "eligible", None), bool):
            return answer.eligible, answer.detail
        return None, said or f"{kind.__name__}.can_implement gives no answer in this tree"

    def constructs(self, kind, algorithm):
        """Whether a class's constructor lets this SM through, and what it said if not."""
        built = SimpleNamespace(quant_config=quantised(algorithm), skip_create_weights_in_init=True)
        given = {"routing_method": Thing(), "num_experts": 8, "hidden_size": 256,
                 "intermediate_size": 256, "dtype": torch.bfloat16, "model_config": built,
                 "without_comm": True}
        names = inspect.signature(kind.__init__).parameters
        if not any(each.kind is each.VAR_KEYWORD for each in names.values()):
            given = {name: given[name] for name in given.keys() & names.keys()}
        said = attempt(lambda: kind(**given))[1]
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
        kind, said = attempt(self.chosen, requested, architecture, "NVFP4")
        error, reached = said.partition(":")[0], "not asked"
        refused = True if error in REFUSALS else None
        if kind is not None:
            through, said = self.constructs(kind, "NVFP4")
            refused, error = not through, said.partition(":")[0]
            reached = next((back_end for back_end, name in CLASSES.items()
                            if name == kind.__name__), kind.__name__)
        return {"requested": requested, "model": model, "SM": self.sm, "refused": refused,
                "reached": error if refused else reached, "said": said or " ".join(self.said)}


def quantised(algorithm):
    """A quantisation configuration for which only ``has_<algorithm>`` is true."""
    true = (f"has_{algorithm.lower()}", "has_any_quant")
    mode = type("Mode", (), {"__getattr__": lambda self, name: lambda *_, **__: name in true})()
    return SimpleNamespace(quant_mode=mode, layer_quant_mode=mode, quant_algo=QuantAlgo(algorithm))


def main(output, _, root, *capabilities):
    torch.compile = lambda *_, **__: lambda call: call
    tree, rows, routes = Tree(Path(root)), [], []
    for tree.sm in map(int, capabilities):
        for back_end, name in CLASSES.items():
            if name not in tree.homes:
                continue
            kind, said = attempt(tree.its, name)
            checks = [("can_implement", *each, tree.implements) for each in QUANTISATIONS.items()]
            if kind and "__init__" in vars(kind):  # an inherited constructor is no check of its own
                checks.append(("constructor", "", "NVFP4", tree.constructs))
            for check, quantisation, algorithm, ask in checks:
                admitted, told = ask(kind, algorithm) if kind else (None, said)
                rows.append({"check": check, "back end": back_end, "quantisation": quantisation,
                             "SM": tree.sm, "admitted": admitted, "said": told})
        routes += [tree.route(*request) for request in REQUESTS]
    Path(output).write_text(json.dumps({"layout": tree.layout, "rows": rows, "routes": routes}))


if __name__ == "__main__":
    main(*sys.argv[1:])
