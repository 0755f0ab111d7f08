"""What a FlashInfer tree answers about its MoE back ends on any GPU; run by `gates`, by itself.

``python ask_flashinfer.py OUTPUT TREE OVERLAY CAPABILITY...`` writes JSON. The code that answers is
FlashInfer's; stood in for are torch's compute capability, downloads and the call of the compiler.
"""

import importlib
import inspect
import json
import os
import re
import sys
import tempfile
import tomllib
import types
from pathlib import Path

import torch
from standins import Finder, attempt, missing

FACTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
# In the sources that its generator of CUTLASS kernels writes: types of activations and weights.
MACRO = re.compile(r"INSTANTIATE_TMA_WARP_SPECIALIZED_MOE_GEMM\("
                   r"\s*Sm\d+,\s*(\w+),\s*(\w+),[^;]*\);")


class Built(Exception):
    """What FlashInfer would now compile: its flags for nvcc that name GPU code, or the module."""


def stop(name, *_, **keywords):
    flags = [flag for flag in keywords.get("extra_cuda_cflags") or [] if "gencode" in flag]
    raise Built(" ".join(flags) or name)


def load(tree, overlay):
    """Import fused_moe.core, jit.fused_moe and fused_moe.api (None before 0.7) of a tree."""
    changed = {".".join(path.relative_to(overlay).with_suffix("").parts): path
               for path in overlay.rglob("*.py")}
    sys.meta_path.insert(0, Finder(changed, missing(FACTS["required"])))
    for name in ("flashinfer", "flashinfer.fused_moe"):
        sys.modules[name] = module = types.ModuleType(name)
        module.__path__ = [str(tree / name.replace(".", "/"))]
    core, jit, api = (importlib.import_module(f"flashinfer.{name}")
                      if (tree / f"flashinfer/{name.replace('.', '/')}.py").is_file() else None
                      for name in ("fused_moe.core", "jit.fused_moe", "fused_moe.api"))
    vars(jit).update(dict.fromkeys(FACTS["downloads"], lambda *_, **__: "stood in"))
    jit.gen_jit_spec = stop
    return core, jit, api


def ask(core, jit, api, sm, workspace, answer):
    """Add to an answer all checks for one compute capability, and the kernels that it generates."""
    major, minor = divmod(sm, 10)
    torch.cuda.get_device_capability = lambda device=None: (major, minor)
    core.get_compute_capability = lambda device: (major, minor)
    jit.current_compilation_context = type(jit.current_compilation_context)()

    def row(check, back_end, quantisation, call, *arguments):
        value, said = attempt(inspect.unwrap(call), *arguments)
        answer["rows"].append({"check": check, "back end": back_end, "quantisation": quantisation,
                               "SM": sm, "admitted": bool(value) or said.startswith("Built: "),
                               "said": said.removeprefix("Built: ")})

    for name, operands in FACTS["operands"].items():
        row("is_trtllm_moe_supported", "trtllm-gen", name, core.is_trtllm_moe_supported,
            *(getattr(core.DtypeTrtllmGen, each) for each in operands))
    row("module", "trtllm-gen", "", core.get_trtllm_moe_sm100_module)
    row("module", "CUTLASS", "", core.get_cutlass_fused_moe_module, str(sm))
    for name, kind in vars(api).items() if api else ():
        if isinstance(kind, type) and name.endswith("Config") and hasattr(kind, "supported"):
            row("supported", name, "", kind.supported, sm)
    folder = f"cutlass_instantiations/{sm - (sm == 121)}"
    for path in sorted(workspace.rglob(f"{folder}/**/*.generated.cu")):
        answer["kernels"] += [{"SM": sm, "activation": macro[1], "weight": macro[2],
                               "macro": macro[0]} for macro in MACRO.finditer(path.read_text())]


def main(output, tree, overlay, *capabilities):
    answer = {"rows": [], "kernels": []}
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"FLASHINFER_WORKSPACE_BASE": folder, "FLASHINFER_DISABLE_VERSION_CHECK": "1"}
        os.environ.pop("FLASHINFER_CUDA_ARCH_LIST", None)
        torch.cuda.is_available = lambda: True
        torch.cuda.current_device, torch.cuda.device_count = lambda: 0, lambda: 1
        torch.cuda.get_device_capability = lambda device=None: (12, 1)
        loaded = load(Path(tree), Path(overlay))
        for sm in capabilities:
            ask(*loaded, int(sm), Path(folder), answer)
    Path(output).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
