"""FlashInfer's trtllm-gen batched-GEMM runner, run on the host: the kernel that it picks for a GPU, and what comes of the launch."""

import csv
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

from lib import cache
from lib.bug3_moe_gate import gates
from lib.errors import CollectionError
from lib.instruments import nvcc, toolchain
from lib.subjects import patches, wheels

UNIT = Path(__file__).with_name("selection.cpp")
RUNNER = "flashinfer/data/csrc/trtllm_batched_gemm_runner.cu"
# The macros with which FlashInfer's jit/fused_moe.py compiles the runner; the path only names the cubin.
MACROS = ("TLLM_GEN_EXPORT_INTERFACE", "TLLM_GEN_EXPORT_FLASHINFER", "TLLM_ENABLE_CUDA", "ENABLE_BF16", "ENABLE_FP8", "ENABLE_FP4",
          'TLLM_GEN_GEMM_CUBIN_PATH=""')
# Qwen3-30B-A3B, by its config.json: https://huggingface.co/Qwen/Qwen3-30B-A3B/blob/main/config.json
LAYER = {"tokens": 8, "top": 8, "experts": 128, "hidden": 2048, "intermediate": 768}
COLUMNS = ("SM", "tile", "candidates", "index", "target", "kernel", "said")


def headers(wheel, folder):
    """Lay out the headers and the manifest of the batched-GEMM cubins where the runner includes them from.

    Raises
    ------
    CollectionError
        If the wheel holds no manifest.
    """
    root = Path(folder, "flashinfer/trtllm/batched_gemm")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if "/batched_gemm-" in name and "/include/" in name and name.endswith(".h")]
        if not any(name.endswith("flashinferMetaInfo.h") for name in names):
            raise CollectionError(f"{wheel.name} holds no manifest of batched-GEMM kernels", "use a pinned flashinfer-cubin")
        for name in names:
            target = root / name.partition("/include/")[2]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
    return root


def compile(tree, runner, wheel, program):
    """Compile the unit around a runner's file with the host compiler.

    Raises
    ------
    CollectionError
        If there is no host compiler, or it refuses, with its first error.
    """
    data = Path(tree, "flashinfer/data")
    with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
        manifest = headers(wheel, folder)
        empty = Path(folder, "empty/tensorrt_llm/common")  # these two would include cuBLAS; the unit defines what the runner uses of them
        empty.mkdir(parents=True)
        for name in ("cudaUtils.h", "envUtils.h"):
            (empty / name).touch()
        include = [Path(folder, "empty"), folder, manifest, data / "include", data / "csrc/nv_internal", data / "csrc/nv_internal/include",
                   *toolchain.find().include]
        options = [f'-DRUNNER="{runner}"', *(f"-D{macro}" for macro in MACROS), *(f"-I{path}" for path in include)]
        done = subprocess.run([nvcc.host_compiler(), "-std=c++17", "-O0", "-w", *options, UNIT, "-o", program],
                              capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or ["no message"]
        raise CollectionError(f"the runner did not compile: {errors[0]}", "is this a runner of the same release as the cubins?")


def choose(version, *names, sm=gates.SM, layer=LAYER):
    """Have the runner of a FlashInfer release, with patches or without, pick and launch a kernel for the first GEMM of an NVFP4 layer.

    Parameters
    ----------
    version : str
        Of flashinfer-python and of flashinfer-cubin, both pinned.
    *names : str
        Files of patches/.
    layer : dict
        tokens, top, experts, hidden, intermediate: counts and sizes in elements, as `LAYER`.

    Returns
    -------
    DataFrame
        SM, tile (tokens of a tile), candidates (kernels that pass its filter), index and kernel (the default choice and its name), target
        (what the kernel is built for), said (the error of the filter or of the launch; "" if it was launched).

    Raises
    ------
    CollectionError
        If the wheel, the compiler or the runner is missing or does not fit.
    """
    tree, wheel = wheels.source("flashinfer-python", version), wheels.pin("flashinfer-cubin", version)

    def build(folder):
        with patches.patched(tree, *names) as overlay, tempfile.TemporaryDirectory(prefix="sm12x-") as built:
            changed = overlay / RUNNER
            program = Path(built, "choose")
            compile(tree, changed if changed.is_file() else tree / RUNNER, wheels.wheel(wheel.name, wheel.version), program)
            done = subprocess.run([program, *map(str, (*layer.values(), *sm))], capture_output=True, text=True)
            if done.returncode:
                raise CollectionError(f"the runner ended with status {done.returncode}", "try the layer's default sizes")
            (folder / "chosen.tsv").write_text("\t".join(COLUMNS) + "\n" + done.stdout)

    key = [wheels.pin("flashinfer-python", version).sha256, wheel.sha256, [patches.Patch(name).text for name in names], list(sm), layer,
           UNIT.read_text(), toolchain.find().version]
    table = pd.read_csv(cache.entry("batched", key, build) / "chosen.tsv", sep="\t", keep_default_na=False, quoting=csv.QUOTE_NONE,
                        dtype={"target": str})
    return table.assign(said=table["said"].str.replace(r" at \S*/(?=\w+\.cu:)", " at ", regex=True))
