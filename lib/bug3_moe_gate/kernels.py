"""MoE kernels that exist: shipped as cubins, generated for CUTLASS, or written in CuTe DSL."""

import re
from collections import Counter
from pathlib import Path

import pandas as pd

from lib import cache
from lib.bug3_moe_gate.gates import BACK_ENDS, SM
from lib.errors import CollectionError
from lib.instruments import cubins, nvcc, ptxas, sass, toolchain
from lib.subjects import vendored, wheels

MOE = cubins.FAMILIES["batched_gemm"]


def existing(inventory, generated, version):
    """Count the kernels that there are for each GPU (DataFrame).

    Counted are the trtllm-gen kernels of a `cubins.inventory` that a GPU may load; the CUTLASS
    kernels that `gates.flashinfer` tells; and the NVFP4 sources in CuTe DSL of a flashinfer-python
    `version`, as files, for the GPUs whose assembler takes the instruction that they multiply with.
    """
    moe, rows = inventory[inventory["family"] == MOE], []
    names = moe["member"].str.rpartition("/")[2]
    counts = generated.groupby(["activation", "weight", "SM"]).size()
    root = wheels.source("flashinfer-python", version) / vendored.CUTE_DSL_MOE
    families = ptxas.families(toolchain.find(), [f"sm_{sm}a" for sm in SM])
    taken = families.set_index(["family", "target"])["accepted"]
    for quantisation, pattern in BACK_ENDS["shipped"].items():
        rows += [("trtllm-gen", quantisation, sm,
                  int((names.str.match(pattern) & cubins.loadable(moe, sm)).sum())) for sm in SM]
    for quantisation, types in BACK_ENDS["generated"].items():
        rows += [("CUTLASS", quantisation, sm, int(counts.get((*types, sm), 0))) for sm in SM]
    for back_end, each in BACK_ENDS["written"].items():
        files = sum(bool(re.search(each["word"], path.read_text()))
                    for path in (root / each["folder"]).rglob("*.py"))
        rows += [(back_end, "NVFP4", sm, files * bool(taken[each["instruction"], f"sm_{sm}a"]))
                 for sm in SM]
    return pd.DataFrame(rows, columns=["back end", "quantisation", "SM", "kernels"])


def compiled(version, generated, target):
    """Compile the first NVFP4 kernel that `gates.flashinfer` tells for a target, such as sm_121a.

    Returns a dict: ``macro``, ``target``, ``bytes`` of the cubin and ``instructions``, tensor-core
    mnemonics with their numbers. Raises CollectionError if there is no such kernel, or it does not
    compile, with the compiler's first error.
    """
    nvfp4 = (generated[["activation", "weight"]] == BACK_ENDS["generated"]["NVFP4"]).all(axis=1)
    fitting = generated.loc[nvfp4 & (generated["SM"] == int(target[3:].rstrip("af"))), "macro"]
    if fitting.empty:
        raise CollectionError(f"FlashInfer {version} generates no NVFP4 kernel for this GPU",
                              "choose SM100, SM103, SM120 or SM121")
    macro = fitting.iloc[0]
    tree, front = wheels.source("flashinfer-python", version), nvcc.of_flashinfer(version, target)
    unit = f'#include "{Path(vendored.LAUNCHER).name}"\n{vendored.NAMESPACE}{macro}\n}}}}}}\n'

    def ask(_):
        # FlashInfer compiles its kernels as C++17; as C++20 this one does not compile.
        options = ["-std=c++17", "-include", "cmath", *(f"-D{name}" for name in vendored.DEFINES)]
        status, binary, said = front.compile(unit, "cubin", *options,
                                             more=vendored.launcher_include(tree))
        if status:
            raise CollectionError(
                f"the kernel does not compile for {target}: {nvcc.first_error(said)}",
                "compare the target with the SM in the macro")
        counts = (Counter(ops) for ops in sass.opcodes(toolchain.find(), binary).values())
        return {"bytes": len(binary), "instructions": sum(counts, Counter())}

    answer = cache.remember("grouped", front.key | {"unit": unit}, ask).value
    return {"macro": " ".join(macro.split()), "target": target} | answer
