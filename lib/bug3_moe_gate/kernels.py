"""MoE kernels: those that exist for a GPU, one compiled, and the one that a runner picks."""

import csv
import io
import re
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

from lib import cache
from lib.bug3_moe_gate.gates import BACK_ENDS, SM
from lib.errors import CollectionError
from lib.instruments import cubins, nvcc, ptxas, sass, toolchain
from lib.subjects import patches, vendored, wheels

MOE = cubins.FAMILIES["batched_gemm"]
UNIT, STUBS = (Path(__file__).with_name(name) for name in ("runner.cpp", "stubs"))
# FlashInfer's jit/fused_moe.py compiles the runner with these; the path only names the cubin.
MACROS = ("-DTLLM_GEN_EXPORT_INTERFACE", "-DTLLM_GEN_EXPORT_FLASHINFER", "-DTLLM_ENABLE_CUDA",
          "-DENABLE_BF16", "-DENABLE_FP8", "-DENABLE_FP4", '-DTLLM_GEN_GEMM_CUBIN_PATH=""')
# Qwen3-30B-A3B: https://huggingface.co/Qwen/Qwen3-30B-A3B/blob/main/config.json
LAYER = {"tokens": 8, "top": 8, "experts": 128, "hidden": 2048, "intermediate": 768}
PICK = ("SM", "tile", "candidates", "index", "target", "kernel", "said")


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
    mnemonics with their numbers. An error if there is none or, with the first one, it fails.
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
        counts = sass.total(sass.opcodes(toolchain.find(), binary).values())
        return {"bytes": len(binary), "instructions": counts.to_dict()}

    answer = cache.remember("grouped", front.key | {"unit": unit}, ask).value
    return {"macro": " ".join(macro.split()), "target": target} | answer


def headers(wheel, folder):
    """Lay out a cubin wheel's headers and manifest where the runner includes them from (Path)."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".h")
                                    and "/batched_gemm-" in name and "/include/" in name])
    root = Path(folder, "flashinfer/trtllm/batched_gemm")
    root.parent.mkdir(parents=True)
    root.symlink_to(next(Path(folder).rglob("flashinferMetaInfo.h")).parent)
    return root


def picked(version, *names):
    """Have FlashInfer's trtllm-gen runner pick and launch the first GEMM of `LAYER` in NVFP4.

    `version` is pinned; `names` are files of patches/. Returns a DataFrame: SM, tile (tokens),
    candidates (kernels that pass its filter), index and kernel (the default choice), target (what
    it is built for), said (the error of the filter or of the launch; "" if a stand-in for the
    driver launched it), loadable (whether one was chosen that CUDA's rules let that GPU load).
    """
    pins = [wheels.pin(name, version) for name in ("flashinfer-python", "flashinfer-cubin")]
    tree, runner = wheels.source("flashinfer-python", version), vendored.BATCHED_RUNNER
    internal, tc = tree / vendored.INTERNAL, toolchain.find()

    def ask(_):
        with (patches.patched(tree, *names, files=[runner]) as overlay,
              tempfile.TemporaryDirectory(prefix="sm12x-") as scratch):
            manifest = headers(wheels.wheel("flashinfer-cubin", version), scratch)
            include = [STUBS, scratch, manifest, tree / vendored.DATA / "include", internal,
                       internal / "include", *tc.include]
            return nvcc.host(UNIT, include, f'-DRUNNER="{overlay / runner}"', *MACROS,
                             arguments=(*LAYER.values(), *SM))

    key = {"wheels": [pin.sha256 for pin in pins], "unit": [UNIT, STUBS], "headers": tc.version,
           "patches": [patches.FOLDER / name for name in names]}
    printed = io.StringIO(cache.remember("batched", key, ask).value)
    table = pd.read_csv(printed, sep="\t", names=PICK, keep_default_na=False,
                        quoting=csv.QUOTE_NONE, dtype={"target": str})
    may = [bool(target) and cubins.loads_on(int(target[:-1]), target[-1], device)
           for target, device in zip(table["target"], table["SM"])]
    said = table["said"].str.replace(r" at \S*/(?=\w+\.cu:)", " at ", regex=True)
    return table.assign(said=said, loadable=may)
