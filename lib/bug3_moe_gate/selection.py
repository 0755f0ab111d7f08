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

UNIT, STUBS = (Path(__file__).with_name(name) for name in ("selection.cpp", "stubs"))
# FlashInfer's jit/fused_moe.py compiles the runner with these; the path only names the cubin.
MACROS = ("-DTLLM_GEN_EXPORT_INTERFACE", "-DTLLM_GEN_EXPORT_FLASHINFER", "-DTLLM_ENABLE_CUDA",
          "-DENABLE_BF16", "-DENABLE_FP8", "-DENABLE_FP4", '-DTLLM_GEN_GEMM_CUBIN_PATH=""')
# Qwen3-30B-A3B: https://huggingface.co/Qwen/Qwen3-30B-A3B/blob/main/config.json
LAYER = {"tokens": 8, "top": 8, "experts": 128, "hidden": 2048, "intermediate": 768}
COLUMNS = ("SM", "tile", "candidates", "index", "target", "kernel", "said")


def headers(wheel, folder):
    """Lay out a cubin wheel's headers and manifest where the runner includes them from (Path)."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".h")
                                    and "/batched_gemm-" in name and "/include/" in name])
    manifest = next(Path(folder).rglob("flashinferMetaInfo.h"), None)
    if not manifest:
        raise CollectionError(f"{wheel.name} holds no manifest of batched-GEMM kernels",
                              "use a pinned flashinfer-cubin")
    root = Path(folder, "flashinfer/trtllm/batched_gemm")
    root.parent.mkdir(parents=True)
    root.symlink_to(manifest.parent)
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
    internal, tc = tree / vendored.INTERNAL, toolchain.find()

    def ask(_):
        with (patches.patched(tree, *names, files=[runner]) as overlay,
              tempfile.TemporaryDirectory(prefix="sm12x-") as scratch):
            program = Path(scratch, "choose")
            manifest = headers(wheels.wheel("flashinfer-cubin", version), scratch)
            include = [STUBS, scratch, manifest, tree / vendored.DATA / "include", internal,
                       internal / "include", *tc.include]
            nvcc.host(UNIT, program, include, f'-DRUNNER="{overlay / runner}"', *MACROS)
            done = subprocess.run([program, *map(str, (*LAYER.values(), *gates.SM))],
                                  capture_output=True, text=True)
        if done.returncode:
            raise CollectionError(f"the runner ended with status {done.returncode}",
                                  "use a pinned flashinfer-python, and patches that fit it")
        return done.stdout

    key = {"wheels": [pin.sha256 for pin in pins], "unit": [UNIT, STUBS], "headers": tc.version,
           "patches": [patches.FOLDER / name for name in names]}
    printed = io.StringIO(cache.remember("batched", key, ask).value)
    table = pd.read_csv(printed, sep="\t", names=COLUMNS, keep_default_na=False,
                        quoting=csv.QUOTE_NONE, dtype={"target": str})
    may = [bool(target) and cubins.loads_on(int(target[:-1]), target[-1], device)
           for target, device in zip(table["target"], table["SM"])]
    said = table["said"].str.replace(r" at \S*/(?=\w+\.cu:)", " at ", regex=True)
    return table.assign(said=said, loadable=may)
