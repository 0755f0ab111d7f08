"""GEMM kernels on a real GPU: asked for, run on random data, compared with float64, and timed."""

import json
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.bug1_shared_memory import binaries, tiles
from lib.bug1_shared_memory.gemm import OUTPUTS, Gemm
from lib.bug1_shared_memory.operands import DTYPES, compare, draw
from lib.errors import CollectionError
from lib.instruments import timing

PUBLISHED = Gemm(tiles.TENSORRT_LLM["128x128x128B"], name="128x128x128B", product="TensorRT-LLM")
LARGE = [tiles.grouped(name, fused=True) for name in ("128x256x64B", "256x128x64B")]
SECONDS = 300  # the longest that a program may run
REPEATS, SEED = 30, 12141
TIMED = (4096, 4096, 4096)  # m, n and k of what is timed
STEPS = ["tile", "d", "built for", "shows", "bytes", "limit", "image", "asked", "initialize",
         "left", "ran", "error", "unwritten", "ended"]
TIMES = ["tile", "d", "ms", "ms, lower quartile", "ms, upper quartile", "TFLOP/s", "least ms",
         "bound", "share", "GB/s copied", "error, large"]
# Relative Frobenius errors beyond which a result is wrong: four times the rounding of the output
# type, and 2**-11 for Hopper's FP8 sums.
BOUNDS = {"bf16": 2.0**-7, "fp16": 2.0**-10, "fp32": 2.0**-11}
# Dense operations a clock and SM, both to the next power of two. Hopper: 1,979 TFLOP/s of FP8, 132
# SMs and 1.83 GHz (https://glennklockwood.com/garden/processors/h100). FP4: what an RTX 5070 is
# given (988 TFLOP/s sparse, 48 SMs, 2.51 GHz; lib/subjects/models.json).
PER_CLOCK = {9: 8192, 12: 4096}


@dataclass(frozen=True)
class Program:
    """A program around one kernel."""

    name: str  # the tile as upstream names it
    kernel: str  # its C++ type, as units/harness.cuh takes it
    operands: str  # nvfp4 or fp8
    d: str  # output type, of operands.DTYPES
    target: str  # what it is compiled for
    why: str = "fits"  # what it is to show: fits, too large, another architecture


def nvfp4(gemm, target, why="fits"):
    """The program of a `gemm.Gemm`."""
    return Program(gemm.name, f"unit::Gemm<{gemm.cpp()}>", "nvfp4", gemm.d, target, why)


def hopper(m, n, k, d="bf16", stages=0, why="fits"):
    """The program of an FP8 kernel for SM90; `stages` 0 leaves their number to CUTLASS."""
    kernel = f"harness::Hopper<{m}, {n}, {k}, {OUTPUTS[d][0]}, {stages}>"
    return Program(f"{m}x{n}x{k}", kernel, "fp8", d, "sm_90a", why)


def for_device(sm):
    """What to try on a device (list of Program); empty where no kernel is described for it."""
    if sm in (120, 121):
        own, other = (f"sm_{each}a" for each in (sm, 241 - sm))
        return [*(nvfp4(each, own) for each in tiles.of_tensorrt_llm()),
                *(nvfp4(each, own, "too large") for each in LARGE),
                nvfp4(PUBLISHED, other, "another architecture")]
    if sm == 90:
        return [*(hopper(128, 128, 128, d) for d in ("bf16", "fp16", "fp32")),
                hopper(64, 128, 128), hopper(128, 256, 128),
                hopper(128, 128, 128, stages=8, why="too large"),
                *(nvfp4(each, "sm_121a", "another architecture") for each in (PUBLISHED, LARGE[0]))]
    return []


def run(program, path, operands, repeats=0, sample=256):
    """Run a built program; compare `sample` random rows of what it leaves; time it `repeats` times.

    Returns what units/harness.cuh says of each step (dict; sizes in bytes, the copy is one of
    ``copied`` bytes), what `compare` gives, and ended, if the program did not end well.
    """
    with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
        for name, content in operands.files.items():
            Path(folder, name).write_bytes(content)
        command, said = [path, folder, *map(str, operands.size), str(repeats)], {}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            lines = done.stdout
            if done.returncode:
                said["ended"] = f"status {done.returncode}: {done.stderr.strip()[-200:]}"
        except subprocess.TimeoutExpired as error:
            lines, said["ended"] = (error.stdout or b"").decode(), f"stopped after {SECONDS} s"
        for line in lines.splitlines():
            for key, value in (json.loads(line) if line.startswith("{") else {}).items():
                said[key] = next(iter(value.values())) if isinstance(value, dict) else value
        if (result := Path(folder, "D")).is_file():
            random = np.random.default_rng(SEED)
            said |= compare(operands, result.read_bytes(), program.d, sample, random)
    return said


def bound(size, program, gpu, said):
    """The least milliseconds of a product, by its copy's bandwidth or `PER_CLOCK`, and by which."""
    m, n, k = size
    width = {"nvfp4": 9 / 16, "fp8": 1}[program.operands]
    moved = (m + n) * k * width + m * n * DTYPES[program.d].itemsize
    memory = moved / (2 * said["copied"] / np.median(said["copy"]))
    clocks = gpu.multiprocessors * gpu.clock_khz
    compute = 2 * m * n * k / (PER_CLOCK[gpu.capability[0]] * clocks)
    return max((memory, "memory"), (compute, "tensor cores"))


def reference(program, flashinfer, size=(300, 136, 1056)):
    """CUTLASS's own host reference on NVFP4 operands, against float64: `compare` and m, n, k."""
    program = replace(program, d="fp32")
    path, _ = binaries.compiled(program, flashinfer, call="reference")
    drawn = draw(program.operands, *size, np.random.default_rng(SEED))
    said = run(program, path, drawn, sample=size[0])
    return dict(zip("mnk", size)) | {"error": said["error"], "unwritten": said["unwritten"]}


def trial(program, path, gpu, check=(500, 776, 1056), timed=TIMED):
    """One program on the GPU (dict): compared where no tile is full, then timed at a large size."""
    random = np.random.default_rng(SEED)
    row = {"tile": program.name, "d": program.d, "built for": program.target, "shows": program.why}
    if isinstance(path, CollectionError):
        return row | {"ended": str(path)}
    said = run(program, path, draw(program.operands, *check, random), sample=check[0])
    row |= said
    ran = said.get("ran") == "cudaSuccess"
    if not ran or said["error"] >= BOUNDS[program.d] or said["unwritten"]:
        return row
    large = run(program, path, draw(program.operands, *timed, random), REPEATS)
    if "milliseconds" in large and "copy" in large:
        least, by = bound(timed, program, gpu, large)
        row |= timing.spread(large["milliseconds"], "ms")
        row |= {"error, large": large["error"], "least ms": least, "bound": by,
                "TFLOP/s": 2 * np.prod(timed, dtype=float) / row["ms"] / 1e9,
                "share": least / row["ms"],
                "GB/s copied": 2 * large["copied"] / np.median(large["copy"]) / 1e6}
    return row


def trials(gpu, flashinfer):
    """Every program for a GPU (or None), built and tried (DataFrame, a row each, or none)."""
    wanted = for_device(gpu.sm) if gpu else []
    built = binaries.build(wanted, flashinfer)
    found = pd.DataFrame([trial(program, path, gpu) for program, path in zip(wanted, built)])
    return found.reindex(columns=list(dict.fromkeys([*STEPS, *TIMES, *found.columns])))
