"""MoE kernels that exist: shipped as cubins, generated for CUTLASS, or written in CuTe DSL."""

import re
from collections import Counter
from pathlib import Path

import pandas as pd

from lib import cache
from lib.bug3_moe_gate import gates
from lib.errors import CollectionError
from lib.instruments import cubins, nvcc, ptxas, sass, toolchain
from lib.subjects import vendored, wheels

MOE = cubins.FAMILIES["batched_gemm"]
# How a trtllm-gen kernel's name begins, Bmm_<output>_<weights><activations>_, by quantisation;
# dsFp8 is DeepSeek's scaling by blocks.
SHIPPED = {"NVFP4": r"Bmm_\w+?_E2m1E2m1_", "FP8 block scales": r"Bmm_\w+?_E4m3E4m3_.*_dsFp8_",
           "MXFP4 × MXFP8": r"Bmm_\w+?_MxE2m1MxE4m3_",
           "MXFP4 × BF16": r"Bmm_\w+?_MxE2m1Bfloat16_"}
# C++ types of activations and weights in CUTLASS's generator, by quantisation. Kernels without TMA
# for older GPUs are not in its list.
GENERATED = {"NVFP4": ("SafeFP4", "SafeFP4"), "MXFP4 × MXFP8": ("__nv_fp8_e4m3", "SafeFP4")}
# The folders of CuTe DSL sources, a word of those for NVFP4, and the instruction that they need.
WRITTEN = {"CuTe DSL, SM100": ("blackwell", "tcgen05", "tcgen05.mma NVFP4"),
           "CuTe DSL, SM12x": ("blackwell_sm12x", "mxf4nvf4|MmaMXF4NVF4",
                               "mma.sync NVFP4 (block_scale)")}
COLUMNS = ["back end", "quantisation", "SM", "kernels"]


def existing(inventory, generated, version, sm=gates.SM):
    """Count the kernels of each back end that there are for each GPU.

    Parameters
    ----------
    inventory : DataFrame
        Of `cubins.inventory`: the trtllm-gen kernels that a GPU may load are counted.
    generated : DataFrame
        Of `gates.flashinfer`: the CUTLASS kernels of its generator are counted.
    version : str
        Of flashinfer-python: its CuTe DSL sources for NVFP4 are counted as files, for the GPUs
        whose assembler takes the tensor-core instruction that they are written in.

    Returns
    -------
    DataFrame
        back end, quantisation, SM, kernels.
    """
    moe = inventory[inventory["family"] == MOE]
    names = moe["member"].str.rpartition("/")[2]
    rows = [("trtllm-gen", quantisation, each,
             int((names.str.match(pattern) & cubins.loadable(moe, each)).sum()))
            for quantisation, pattern in SHIPPED.items() for each in sm]
    counts = generated.groupby(["activation", "weight", "SM"])["kernels"].sum()
    rows += [("CUTLASS", quantisation, each, int(counts.get((*types, each), 0)))
             for quantisation, types in GENERATED.items() for each in sm]
    root = wheels.source("flashinfer-python", version) / vendored.CUTE_DSL_MOE
    families = ptxas.families(toolchain.find(), [f"sm_{each}a" for each in sm])
    taken = families.set_index(["family", "target"])["accepted"]
    for back_end, (folder, word, instruction) in WRITTEN.items():
        sources = [path.read_text() for path in (root / folder).rglob("*.py")]
        files = sum(bool(re.search(word, source)) for source in sources)
        rows += [(back_end, "NVFP4", each, files * bool(taken[instruction, f"sm_{each}a"]))
                 for each in sm]
    return pd.DataFrame(rows, columns=COLUMNS)


def compiled(version, macro, target):
    """Compile one instance of FlashInfer's grouped launcher to machine code.

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
        ``macro``, ``target``, ``bytes`` of the cubin, ``instructions``: tensor-core mnemonics and
        their numbers.

    Raises
    ------
    CollectionError
        If there is no such instance, or it does not compile, with the compiler's first error.
    """
    if not macro:
        raise CollectionError(f"FlashInfer {version} generates no NVFP4 kernel for this GPU",
                              "choose SM100, SM103, SM120 or SM121")
    tree, front = wheels.source("flashinfer-python", version), nvcc.of_flashinfer(version, target)
    unit = f'#include "{Path(vendored.LAUNCHER).name}"\n{vendored.NAMESPACE}{macro}\n}}}}}}\n'

    def ask(_):
        # FlashInfer compiles its kernels as C++17; as C++20 this one does not compile.
        options = ["-std=c++17", "-include", "cmath", *(f"-D{name}" for name in vendored.DEFINES)]
        status, binary, said = front.compile(unit, "cubin", *options,
                                             more=vendored.launcher_include(tree))
        if status:
            first = nvcc.first_error(said)
            raise CollectionError(f"the kernel does not compile for {target}: {first}",
                                  "compare the target with the SM in the macro")
        counts = (Counter(ops) for ops in sass.opcodes(toolchain.find(), binary).values())
        return {"bytes": len(binary), "instructions": sum(counts, Counter())}

    answer = cache.remember("grouped", front.key | {"unit": unit}, ask)
    return {"macro": " ".join(macro.split()), "target": target} | answer.value
