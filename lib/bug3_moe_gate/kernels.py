"""MoE kernels that exist, by back end, quantisation and GPU: shipped as cubins, generated for CUTLASS, or written in CuTe DSL."""

import json
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from lib import cache
from lib.bug3_moe_gate import gates
from lib.errors import CollectionError
from lib.instruments import cubins, nvcc, ptxas, sass, toolchain
from lib.subjects import vendored, wheels

# How a trtllm-gen kernel's name begins, Bmm_<output>_<weights><activations>_, by quantisation; dsFp8 is DeepSeek's scaling by blocks.
SHIPPED = {"NVFP4": r"Bmm_\w+?_E2m1E2m1_", "FP8 block scales": r"Bmm_\w+?_E4m3E4m3_.*_dsFp8_", "MXFP4 × MXFP8": r"Bmm_\w+?_MxE2m1MxE4m3_",
           "MXFP4 × BF16": r"Bmm_\w+?_MxE2m1Bfloat16_"}
# C++ types of activations and weights in CUTLASS's generator, by quantisation. Kernels without TMA for older GPUs are not in its list.
GENERATED = {"NVFP4": ("SafeFP4", "SafeFP4"), "MXFP4 × MXFP8": ("__nv_fp8_e4m3", "SafeFP4")}
# The folders of CuTe DSL sources, and the instruction without which none of them does NVFP4.
WRITTEN = {"CuTe DSL, SM100": ("blackwell", "tcgen05", "tcgen05.mma NVFP4"),
           "CuTe DSL, SM12x": ("blackwell_sm12x", "mxf4nvf4|MmaMXF4NVF4", "mma.sync NVFP4 (block_scale)")}
COLUMNS = ["back end", "quantisation", "SM", "kernels"]


def shipped(inventory, sm=gates.SM):
    """The trtllm-gen MoE kernels of a `cubins.inventory` that each GPU may load (DataFrame: back end, quantisation, SM, kernels)."""
    moe = inventory[inventory["family"].str.contains("MoE")]
    names = moe["member"].str.rpartition("/")[2]
    return pd.DataFrame([("trtllm-gen", quantisation, each, int((names.str.match(pattern) & cubins.loadable(moe, each)).sum()))
                         for quantisation, pattern in SHIPPED.items() for each in sm], columns=COLUMNS)


def generated(kernels, sm=gates.SM):
    """The CUTLASS kernels that FlashInfer generates for each GPU (of `gates.flashinfer`; DataFrame as `shipped`)."""
    counts = kernels.groupby(["activation", "weight", "SM"])["kernels"].sum()
    return pd.DataFrame([("CUTLASS", quantisation, each, int(counts.get((*types, each), 0)))
                         for quantisation, types in GENERATED.items() for each in sm], columns=COLUMNS)


def written(version, sm=gates.SM):
    """The CuTe DSL sources for NVFP4 MoE in a FlashInfer release, for the GPUs whose assembler takes their tensor-core instruction.

    They are compiled where they run, so what is counted is files of source; a folder that the release does not have counts as none.
    """
    root = wheels.source("flashinfer-python", version) / "flashinfer/fused_moe/cute_dsl"
    targets = {f"sm_{each}a": each for each in sm}
    taken = ptxas.families(toolchain.find(), list(targets)).set_index(["family", "target"])["accepted"]
    rows = []
    for back_end, (folder, word, instruction) in WRITTEN.items():
        files = sum(bool(re.search(word, path.read_text())) for path in (root / folder).rglob("*.py"))
        rows += [(back_end, "NVFP4", each, files * bool(taken[instruction, target])) for target, each in targets.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def compiled(version, macro, target):
    """Compile one instance of FlashInfer's grouped launcher to machine code, once for each compiler, release, instance and target.

    Parameters
    ----------
    version : str
        A pinned version of flashinfer-python.
    macro : str
        The instantiation, as the generator writes it.
    target : str
        ``sm_121a``.

    Returns
    -------
    dict
        ``macro``, ``target``, ``bytes`` of the cubin, and ``instructions``: tensor-core mnemonics and their numbers.

    Raises
    ------
    CollectionError
        If there is no such instance, or it does not compile, with the compiler's first error.
    """
    if not macro:
        raise CollectionError(f"FlashInfer {version} generates no NVFP4 kernel for this GPU", "choose SM100, SM103, SM120 or SM121")
    tree, front = wheels.source("flashinfer-python", version), nvcc.of_flashinfer(version, target)
    unit = f'#include "{Path(vendored.LAUNCHER).name}"\n{vendored.NAMESPACE}{macro}\n}}}}}}\n'

    def build(folder):
        # FlashInfer compiles its kernels as C++17; as C++20 this one does not compile
        options = ["-std=c++17", "-include", "cmath", *(f"-D{name}" for name in vendored.DEFINES)]
        status, binary, said = front.compile(unit, "cubin", *options, more=vendored.launcher_include(tree))
        if status:
            first = (re.findall(r"error: (.*)", said) or [said[:300]])[0]
            raise CollectionError(f"the kernel does not compile for {target}: {first}", "compare the target with the SM in the macro")
        counts = sum((Counter(ops) for ops in sass.opcodes(toolchain.find(), binary).values()), Counter())
        (folder / "kernel.json").write_text(json.dumps({"bytes": len(binary), "instructions": counts}))

    key = {**front.key, "unit": unit, "module": Path(__file__).read_text()}
    found = json.loads((cache.entry("grouped", key, build) / "kernel.json").read_text())
    return {"macro": " ".join(macro.split()), "target": target} | found
