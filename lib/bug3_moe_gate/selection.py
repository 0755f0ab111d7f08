"""FlashInfer's trtllm-gen batched-GEMM runner, run on the host: which kernel it picks for a GPU."""

import csv
import io
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

from lib import cache
from lib.bug3_moe_gate import gates
from lib.errors import CollectionError
from lib.instruments import cubins, nvcc, toolchain
from lib.subjects import patches, vendored, wheels

UNIT = Path(__file__).with_name("selection.cpp")
# FlashInfer's jit/fused_moe.py compiles the runner with these; the path only names the cubin.
MACROS = ("TLLM_GEN_EXPORT_INTERFACE", "TLLM_GEN_EXPORT_FLASHINFER", "TLLM_ENABLE_CUDA",
          "ENABLE_BF16", "ENABLE_FP8", "ENABLE_FP4", 'TLLM_GEN_GEMM_CUBIN_PATH=""')
# Qwen3-30B-A3B: https://huggingface.co/Qwen/Qwen3-30B-A3B/blob/main/config.json
LAYER = {"tokens": 8, "top": 8, "experts": 128, "hidden": 2048, "intermediate": 768}
COLUMNS = ("SM", "tile", "candidates", "index", "target", "kernel", "said")


def headers(wheel, folder):
    """Lay out a cubin wheel's headers and manifest where the runner includes them from (Path)."""
    root = Path(folder, "flashinfer/trtllm/batched_gemm")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".h")
                 and "/batched_gemm-" in name and "/include/" in name]
        if not any(name.endswith("flashinferMetaInfo.h") for name in names):
            raise CollectionError(f"{wheel.name} holds no manifest of batched-GEMM kernels",
                                  "use a pinned flashinfer-cubin")
        for name in names:
            target = root / name.partition("/include/")[2]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
    return root


def choose(version, *names):
    """Have a pinned FlashInfer's runner pick and launch a kernel for `LAYER`'s first NVFP4 GEMM.

    `names` are files of patches/. Returns a DataFrame: SM, tile (tokens of a tile), candidates
    (kernels that pass its filter), index and kernel (the default choice), target (what it is built
    for), said (the error of the filter or of the launch; "" if a stand-in for the driver launched
    it), loadable (whether one was chosen that CUDA's rules let that GPU load).
    """
    pins = [wheels.pin(name, version) for name in ("flashinfer-python", "flashinfer-cubin")]
    tree, runner = wheels.source("flashinfer-python", version), vendored.BATCHED_RUNNER

    def ask(_):
        with (patches.patched(tree, *names, files=[runner]) as overlay,
              tempfile.TemporaryDirectory(prefix="sm12x-") as folder):
            return run(folder, tree, overlay / runner, wheels.wheel(pins[1].name, version))

    key = {"wheels": [pin.sha256 for pin in pins], "unit": UNIT,
           "patches": [patches.Patch(name).path for name in names],
           "headers": toolchain.find().version}
    table = pd.read_csv(io.StringIO(cache.remember("batched", key, ask).value), sep="\t",
                        names=COLUMNS, keep_default_na=False, quoting=csv.QUOTE_NONE,
                        dtype={"target": str})
    may = [bool(target) and cubins.loads_on(int(target[:-1]), target[-1], device)
           for target, device in zip(table["target"], table["SM"])]
    said = table["said"].str.replace(r" at \S*/(?=\w+\.cu:)", " at ", regex=True)
    return table.assign(said=said, loadable=may)


def run(folder, tree, runner, wheel):
    """Compile the unit around a runner's file in an empty folder; what the program prints (str)."""
    empty, program = Path(folder, "empty"), Path(folder, "choose")
    data, manifest = Path(tree, vendored.DATA), headers(wheel, folder)
    # These two would include cuBLAS; the unit defines what the runner uses of them.
    (empty / "tensorrt_llm/common").mkdir(parents=True)
    for name in ("cudaUtils.h", "envUtils.h"):
        (empty / "tensorrt_llm/common" / name).touch()
    include = [empty, folder, manifest, data / "include", data / "csrc/nv_internal",
               data / "csrc/nv_internal/include", *toolchain.find().include]
    nvcc.host(UNIT, program, include, f'-DRUNNER="{runner}"', *(f"-D{each}" for each in MACROS))
    done = subprocess.run([program, *map(str, (*LAYER.values(), *gates.SM))], capture_output=True,
                          text=True)
    if done.returncode:
        raise CollectionError(f"the runner ended with status {done.returncode}",
                              "use a pinned flashinfer-python, and patches that fit it")
    return done.stdout
