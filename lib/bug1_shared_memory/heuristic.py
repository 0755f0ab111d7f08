"""Tile candidates of TensorRT-LLM's heuristic, as FlashInfer vendors it: the function, called."""

import subprocess
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import nvcc, toolchain
from lib.subjects import vendored, wheels

UNIT = Path(__file__).parent / "units/heuristic.cpp"
COLUMNS = ["sm", "kind", "tile", "cluster", "epilogue", "dynamic cluster"]


def listing(version):
    """What the heuristic of a pinned FlashInfer prints, compiled for the host, once (str).

    Raises
    ------
    CollectionError
        If there is no host compiler, or the file does not compile.
    """
    tree, tc = wheels.source("flashinfer-python", version), toolchain.find()
    data, internal = Path(tree, vendored.DATA), Path(tree, vendored.INTERNAL)
    include = [vendored.STUBS, internal, internal / "include",
               internal / "tensorrt_llm/cutlass_extensions/include", data / "cutlass/include",
               data / "cutlass/tools/util/include", data / "include", data / "spdlog/include",
               *tc.include]
    places = (tc.home / folder / "libcudart_static.a" for folder in ("lib", "lib64"))
    if (runtime := next(filter(Path.is_file, places), None)) is None:
        raise CollectionError(f"libcudart_static.a is missing from the toolchain {tc.home}",
                              "the wheel nvidia-cuda-runtime holds it")

    def ask(folder):
        program = folder / "candidates"
        nvcc.host(UNIT, program, include, "-include", "cmath", "-DENABLE_FP4", "-DENABLE_FP8",
                  "-DENABLE_BF16", libraries=(runtime, "-ldl", "-lpthread", "-lrt"))
        printed = subprocess.run([program], capture_output=True, check=True).stdout.decode()
        program.unlink()
        return printed

    pinned = wheels.pin("flashinfer-python", version).sha256
    inputs = {"wheel": pinned, "cuda": tc.version, "unit": UNIT, "stubs": vendored.STUBS}
    return cache.remember("heuristic", inputs, ask).value


def candidates(listed):
    """What `listing` printed (DataFrame): ``tile`` is upstream's name, the last three are codes."""
    rows = [line.split("\t") for line in listed.splitlines()]
    found = pd.DataFrame([row for row in rows if row[2] != "none"], columns=COLUMNS)
    number = found["tile"].astype(int)  # m, n and k, three decimal digits each
    found["tile"] = [f"{each // 1_000_000}x{each // 1000 % 1000}x{each % 1000}B" for each in number]
    return found.astype({"sm": int})
