"""TensorRT-LLM's heuristic as FlashInfer vendors it, executed: which tiles it offers on which architecture."""

import subprocess
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import nvcc, toolchain
from lib.subjects import vendored, wheels

UNIT = Path(__file__).parent / "units/heuristic.cpp"


def listing(tree, identity):
    """Compile the tree's cutlass_heuristic.cpp for the host and have it say its candidates, once (bytes, as printed).

    Parameters
    ----------
    tree : Path
        An unpacked FlashInfer wheel.
    identity : str
        Its SHA-256.

    Raises
    ------
    CollectionError
        If there is no host compiler, or the file does not compile.
    """
    tc, data = toolchain.find(), Path(tree, "flashinfer/data")
    internal = data / "csrc/nv_internal"
    folders = [vendored.STUBS, internal, internal / "include", internal / "tensorrt_llm/cutlass_extensions/include", data / "cutlass/include",
               data / "cutlass/tools/util/include", data / "include", data / "spdlog/include", *tc.include]

    runtime = next((path for path in (tc.home / lib / "libcudart_static.a" for lib in ("lib", "lib64")) if path.is_file()), None)
    if runtime is None:
        raise CollectionError(f"libcudart_static.a is missing from the toolchain {tc.home}", "the wheel nvidia-cuda-runtime holds it")

    def build(folder):
        program = folder / "candidates"
        command = [nvcc.host_compiler(), "-std=c++17", "-O0", "-w", "-include", "cmath", "-DENABLE_FP4", "-DENABLE_FP8",
                   "-DENABLE_BF16", *(f"-I{each}" for each in folders), UNIT, runtime, "-ldl", "-lpthread", "-lrt", "-o", program]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "error" in line or "undefined" in line] or done.stderr.splitlines()[-1:]
            raise CollectionError(f"the heuristic does not compile: {(said or ['no message'])[0]}",
                                  "this laboratory knows FlashInfer 0.6.6 to 0.7.2, and g++ 11 or later")
        (folder / "list.tsv").write_bytes(subprocess.run([program], capture_output=True, check=True).stdout)
        program.unlink()

    key = {"tree": identity, "heuristic": wheels.sha256(tree / vendored.HEURISTIC), "unit": UNIT.read_text(), "module": Path(__file__).read_text()}
    return (cache.entry("candidates", key, build) / "list.tsv").read_bytes()


def table(listed):
    """What `listing` printed (DataFrame): ``sm``, ``kind``, ``tile`` (upstream's name), and the codes of clusters and epilogue."""
    rows = [line.split("\t") for line in listed.decode().splitlines()]
    columns = ["sm", "kind", "tile", "cluster", "epilogue", "dynamic cluster"]
    found = pd.DataFrame([row for row in rows if row[2] != "none"], columns=columns)
    number = found["tile"].astype(int)  # m, n and k, three decimal digits each
    found["tile"] = [f"{each // 1_000_000}x{each // 1000 % 1000}x{each % 1000}B" for each in number]
    return found.astype({"sm": int})
