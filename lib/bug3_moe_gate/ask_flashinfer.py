"""What a FlashInfer tree answers about its MoE back ends on a GPU of any compute capability; run by `gates`, in a process of its own.

``python gates_flashinfer.py TREE OVERLAY OUTPUT CAPABILITY...`` writes JSON to OUTPUT. The code that answers is FlashInfer's: the module
choice with its compiler flags, ``is_trtllm_moe_supported``, the generator of CUTLASS kernels, and (from 0.7 on) the back ends' own
configurations. Only the compute capability that torch reports, the downloads and the call of the compiler are stood in for.
"""

import collections
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import os
import re
import sys
import tempfile
import types
from pathlib import Path

import torch

STAND_INS = ("tvm_ffi", "cudnn", "pynvml", "einops", "ninja", "tabulate", "click", "requests", "tqdm")
OPERANDS = {"NVFP4": ("E2m1", "E2m1"), "MXFP4 × MXFP8": ("MxE2m1", "MxE4m3"), "MXFP4 × BF16": ("MxE2m1", "Bfloat16"),
            "FP8": ("E4m3", "E4m3"), "BF16": ("Bfloat16", "Bfloat16")}
DOWNLOADS = ("get_cubin", "get_artifact", "get_meta_hash", "download_trtllm_headers", "ensure_symlink", "verify_symlinked_headers",
             "write_filtered_metainfo")
MACRO = re.compile(r"INSTANTIATE_TMA_WARP_SPECIALIZED_MOE_GEMM\(\s*Sm(\d+),\s*(\w+),\s*(\w+),\s*(\w+),[^;]*\);")


class StandIn(types.ModuleType):
    """A package that is not installed: a capitalised name is an empty class, any other a decorator that changes nothing."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name[0].isupper():
            return type(name, (), {})
        return lambda *given, **_: given[0] if given and callable(given[0]) else lambda each: each


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds changed files of the tree in the overlay, and a stand-in for each requirement of FlashInfer that is not installed."""

    def __init__(self, overlay):
        self.overlay = overlay

    def find_spec(self, name, path=None, target=None):
        changed = self.overlay / (name.replace(".", "/") + ".py")
        if changed.is_file():
            return importlib.util.spec_from_file_location(name, changed)
        if name.partition(".")[0] not in STAND_INS or importlib.machinery.PathFinder.find_spec(name, path):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


class Built(Exception):
    """What FlashInfer would now compile: the module's name and its flags for nvcc."""


def stop(name, *_, **keywords):
    raise Built(name, keywords.get("extra_cuda_cflags") or [])


def load(tree, overlay):
    """Import fused_moe.core, jit.fused_moe and (where there is one) fused_moe.api of a tree, without what their packages import."""
    sys.meta_path.insert(0, Finder(overlay))
    for name in ("flashinfer", "flashinfer.fused_moe"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(tree / name.replace(".", "/"))]
    core, jit = (importlib.import_module(f"flashinfer.{name}") for name in ("fused_moe.core", "jit.fused_moe"))
    known = (tree / "flashinfer/fused_moe/api.py").is_file()
    for name in DOWNLOADS:
        if hasattr(jit, name):
            setattr(jit, name, lambda *_, **__: "stood in")
    jit.gen_jit_spec = stop
    return core, jit, importlib.import_module("flashinfer.fused_moe.api") if known else None


def attempt(call):
    """Whether a call admits, and what it said: its exception, or the GPU code that nvcc is asked for."""
    try:
        return bool(call()), ""
    except Built as built:
        return True, " ".join(flag for flag in built.args[1] if "gencode" in flag) or built.args[0]
    except Exception as error:
        return False, f"{type(error).__name__}: {error}".splitlines()[0]


def ask(core, jit, api, sm, workspace):
    """All checks for one compute capability (121 for 12.1): rows, and how many CUTLASS kernels are generated for each pair of operands."""
    major, minor = divmod(sm, 10)
    torch.cuda.get_device_capability = lambda device=None: (major, minor)
    core.get_compute_capability = lambda device: (major, minor)
    core.is_trtllm_moe_supported.cache_clear()
    jit.current_compilation_context = type(jit.current_compilation_context)()
    dtype, rows = core.DtypeTrtllmGen, []

    def row(check, back_end, quantisation, call):
        admitted, said = attempt(call)
        rows.append({"check": check, "back end": back_end, "quantisation": quantisation, "SM": sm, "admitted": admitted, "said": said})

    for name, (weight, activation) in OPERANDS.items():
        row("is_trtllm_moe_supported", "trtllm-gen", name,
            lambda weight=weight, activation=activation: core.is_trtllm_moe_supported(getattr(dtype, weight), getattr(dtype, activation)))
    row("module", "trtllm-gen", "", inspect.unwrap(core.get_trtllm_moe_sm100_module))
    row("module", "CUTLASS", "", lambda: inspect.unwrap(core.get_cutlass_fused_moe_module)(str(sm)))
    for name, kind in vars(api).items() if api else ():
        if isinstance(kind, type) and name.endswith("Config") and hasattr(kind, "supported"):
            row("supported", name, "", lambda kind=kind: kind.supported(sm))
    found, sample = collections.Counter(), ""
    for path in sorted(workspace.rglob(f"cutlass_instantiations/{sm - (sm == 121)}/**/*.generated.cu")):
        for macro in MACRO.finditer(path.read_text()):
            found[macro.groups()] += 1
            sample = sample or (macro[0] if {"SafeFP4"} == set(macro.groups()[1:3]) else "")
    kernels = [{"SM": sm, "kernel": int(arch), "activation": activation, "weight": weight, "output": out, "kernels": number}
               for (arch, activation, weight, out), number in found.items()]
    return rows, kernels, sample


def main(tree, overlay, output, *capabilities):
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"FLASHINFER_WORKSPACE_BASE": folder, "FLASHINFER_DISABLE_VERSION_CHECK": "1"}
        os.environ.pop("FLASHINFER_CUDA_ARCH_LIST", None)
        torch.cuda.is_available, torch.cuda.current_device, torch.cuda.device_count = lambda: True, lambda: 0, lambda: 1
        torch.cuda.get_device_capability = lambda device=None: (12, 1)
        loaded = load(Path(tree), Path(overlay))
        answers = [ask(*loaded, int(sm), Path(folder)) for sm in capabilities]
    together = {"rows": [row for rows, _, _ in answers for row in rows], "kernels": [each for _, kernels, _ in answers for each in kernels],
                "samples": {sm: sample for sm, (_, _, sample) in zip(capabilities, answers)}}
    Path(output).write_text(json.dumps(together))


if __name__ == "__main__":
    main(*sys.argv[1:])
