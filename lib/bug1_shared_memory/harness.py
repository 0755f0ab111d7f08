"""GEMM kernels on a real GPU: built for the device at hand, asked, run on quantised random data, compared with float64, and timed."""

import json
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import psutil

from lib import cache
from lib.bug1_shared_memory import tiles
from lib.bug1_shared_memory.gemm import OUTPUTS, UNITS
from lib.bug1_shared_memory.operands import compare, draw, DTYPES
from lib.errors import CollectionError
from lib.evidence.figures import COLOURS
from lib.instruments import nvcc

MAIN = """#include "{unit}.cuh"
using namespace unit;
int main(int count, char** arguments) {{ return harness::{call}<{type}>(count, arguments); }}
"""
COMPILER_BYTES = 6e9  # what one compilation of a whole kernel may take; 5 GB were seen
SECONDS = 300  # the longest that a program may run
REPEATS = 30
TIMED = (4096, 4096, 4096)  # m, n and k of what is timed
STEPS = ["tile", "d", "built for", "shows", "bytes", "limit", "image", "asked", "initialize", "left", "ran", "error", "unwritten", "ended"]
TIMES = ["tile", "d", "ms", "ms, lower quartile", "ms, upper quartile", "TFLOP/s", "least ms", "bound", "share", "GB/s copied",
         "error, large"]
# Relative Frobenius errors beyond which a result is wrong: four times the rounding of the output type, and 2**-11 for Hopper's FP8 sums.
BOUNDS = {"bf16": 2.0**-7, "fp16": 2.0**-10, "fp32": 2.0**-11}
# Dense operations a clock and SM: NVIDIA's H100 data sheet (1,979 TFLOP/s FP8 dense, 132 SMs, 1.83 GHz) and, for FP4, what an RTX 5070
# is given (988 TFLOP/s sparse, 48 SMs, 2.51 GHz; lib/subjects/models.json), both to the next power of two.
PER_CLOCK = {9: 8192, 12: 4096}


@dataclass(frozen=True)
class Program:
    """A program around one kernel.

    Attributes
    ----------
    name : str
        The tile as upstream names it.
    kernel : str
        The kernel's C++ type, as units/harness.cuh takes it.
    operands, d : str
        Operand type, ``nvfp4`` or ``fp8``, and output type, of `DTYPES`.
    target : str
        What it is compiled for.
    why : str
        What it is here to show: ``fits``, ``too large``, or ``another architecture``.
    """

    name: str
    kernel: str
    operands: str
    d: str
    target: str
    why: str = "fits"


def nvfp4(described, target, why="fits"):
    """The program of a `gemm.Gemm`."""
    return Program(described.name, f"unit::Gemm<{described.cpp()}>", "nvfp4", described.d, target, why)


def hopper(m, n, k, d="bf16", stages=0, why="fits"):
    """The program of an FP8 kernel for SM90; `stages` 0 leaves their number to CUTLASS."""
    kernel = f"harness::Hopper<{m}, {n}, {k}, {OUTPUTS[d][0]}, {stages}>"
    return Program(f"{m}x{n}x{k}", kernel, "fp8", d, "sm_90a", why)


def programs(sm):
    """What to try on a device (list of Program), by its architecture's number; empty for one that no kernel is described for.

    On SM120 and SM121 these are TensorRT-LLM's dense tiles in each output type, the grouped ones that exceed the limit, and the published
    tile as built for the other of the two. On SM90 they are FP8 tiles, one forced over the limit, and two of SM121's as built for SM121.
    """
    published = tiles.dense("128x128x128B", tiles.TENSORRT_LLM["128x128x128B"])
    large = [tiles.grouped(name, fused=True) for name in ("128x256x64B", "256x128x64B")]
    if sm in (120, 121):
        own, other = (f"sm_{each}a" for each in (sm, 241 - sm))
        return [*(nvfp4(each, own) for each in tiles.of_tensorrt_llm()), *(nvfp4(each, own, "too large") for each in large),
                nvfp4(published, other, "another architecture")]
    if sm == 90:
        return [*(hopper(128, 128, 128, d) for d in DTYPES), hopper(64, 128, 128), hopper(128, 256, 128),
                hopper(128, 128, 128, stages=8, why="too large"),
                *(nvfp4(each, "sm_121a", "another architecture") for each in (published, large[0]))]
    return []


class Unit:
    """The translation unit of a program over the CUTLASS of a pinned FlashInfer wheel; `call` ``reference`` is CUTLASS's own host reference.

    Attributes
    ----------
    key : dict
        Everything that what is compiled from it depends on.
    """

    def __init__(self, program, flashinfer, call="run"):
        self.program, self.front_end = program, nvcc.of_flashinfer(flashinfer, program.target)
        self.source = MAIN.format(unit={"run": "harness"}.get(call, call), call=call, type=program.kernel)
        units = [path.read_text() for path in sorted(UNITS.glob("*.cuh"))]
        self.key = {**self.front_end.key, "units": units, "source": self.source}

    def compiled(self, kind):
        """What nvcc makes of it (bytes), and what it said (str); `kind` as `nvcc.FrontEnd.compile` takes it.

        Raises
        ------
        CollectionError
            If it does not compile.
        """
        utilities = self.front_end.headers.parent / "tools/util/include"
        status, binary, messages = self.front_end.compile(self.source, kind, "--resource-usage", more=[UNITS, utilities])
        if status:
            raise CollectionError(f"{self.program.name} for {self.program.target} does not compile: {messages.strip()[:400]}",
                                  "compare the CUTLASS of this wheel with lib/bug1_shared_memory/units/harness.cuh")
        return binary, messages


def executable(program, flashinfer, call="run"):
    """Build a program, once (Path). Raises as `Unit.compiled` does."""
    unit = Unit(program, flashinfer, call)

    def build(folder):
        (folder / "program").write_bytes(unit.compiled("exe")[0])
        (folder / "program").chmod(0o755)

    return cache.entry("harness", unit.key, build) / "program"


def build(programs, flashinfer, make=executable):
    """Build programs side by side, as many as there are cores, and memory for their compilers (list of Path, or of the error instead)."""
    def one(program):
        try:
            return make(program, flashinfer)
        except CollectionError as error:
            return error

    at_once = max(1, min(os.cpu_count() or 1, int(psutil.virtual_memory().available / COMPILER_BYTES)))
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, programs))


def run(program, path, operands, repeats=0, sample=256, random=None):
    """Run a built program, and compare what it leaves with float64.

    Parameters
    ----------
    path : Path
        From `executable`.
    operands : Operands
    repeats : int
        How often to time it.
    sample : int
        Rows to compare, drawn at random; all if there are no more.

    Returns
    -------
    dict
        ``bytes`` asked and ``stages``; ``limit`` of the device (bytes); ``device``, ``image``, ``asked``, ``left`` and ``ran``: CUDA's own
        errors of finding a device, of looking for an image, of asking for the bytes, what was left after CUTLASS's initialisation, and
        of the run; ``problem``, ``initialize`` and ``run``: CUTLASS's statuses; ``error`` (relative Frobenius), ``unwritten`` (elements
        still poisoned); ``milliseconds`` and ``copy`` (lists; of copying ``copied`` bytes); ``ended``, if the program did not end well.
    """
    with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
        for name, content in operands.files.items():
            Path(folder, name).write_bytes(content)
        try:
            done = subprocess.run([path, folder, *map(str, operands.size), str(repeats)], capture_output=True, text=True, timeout=SECONDS)
            lines, ended = done.stdout, "" if done.returncode == 0 else f"status {done.returncode}: {done.stderr.strip()[-200:]}"
        except subprocess.TimeoutExpired as error:
            lines, ended = (error.stdout or b"").decode(), f"stopped after {SECONDS} s"
        said = {key: next(iter(value.values())) if isinstance(value, dict) else value
                for line in lines.splitlines() if line.startswith("{") for key, value in json.loads(line).items()}
        if ended:
            said["ended"] = ended
        if Path(folder, "D").is_file():
            said |= compare(operands, Path(folder, "D").read_bytes(), program.d, sample, random or np.random.default_rng())
    return said


def bound(size, program, gpu, said):
    """The least milliseconds that a product can take here, and what sets it: ``memory`` or ``tensor cores``.

    Memory by the bandwidth that the program's own copy reached (bytes read and written); tensor cores by `PER_CLOCK` at the highest clock.
    """
    m, n, k = size
    width = {"nvfp4": 9 / 16, "fp8": 1}[program.operands]
    moved = (m + n) * k * width + m * n * DTYPES[program.d].itemsize
    memory = moved / (2 * said["copied"] / np.median(said["copy"]))
    compute = 2 * m * n * k / (PER_CLOCK[gpu.capability[0]] * gpu.multiprocessors * gpu.clock_khz)
    return max((memory, "memory"), (compute, "tensor cores"))


def reference(program, flashinfer, size=(300, 136, 1056), seed=None):
    """What CUTLASS's own host reference makes of NVFP4 operands, against float64 (dict: m, n, k, ``error``, ``unwritten``); no GPU is used."""
    path = executable(replace(program, d="fp32"), flashinfer, "reference")
    said = run(replace(program, d="fp32"), path, draw(program.operands, *size, np.random.default_rng(seed)), sample=size[0])
    return dict(zip("mnk", size)) | {"error": said["error"], "unwritten": said["unwritten"]}


def trial(program, path, gpu, check=(500, 776, 1056), timed=TIMED, seed=None):
    """One program on the GPU: compared in full at a size that fills no tile, then timed at a large one (dict; a row of `table`)."""
    random = np.random.default_rng(seed)
    row = {"tile": program.name, "d": program.d, "built for": program.target, "shows": program.why}
    if isinstance(path, CollectionError):
        return row | {"ended": str(path)}
    said = run(program, path, draw(program.operands, *check, random), sample=check[0])
    row |= said
    if said.get("ran") == "cudaSuccess" and said["error"] < BOUNDS[program.d] and not said["unwritten"]:
        large = run(program, path, draw(program.operands, *timed, random), REPEATS, random=random)
        if "milliseconds" in large and "copy" in large:
            least, by = bound(timed, program, gpu, large)
            low, middle, high = np.percentile(large["milliseconds"], (25, 50, 75))
            row |= {"ms": middle, "ms, lower quartile": low, "ms, upper quartile": high, "error, large": large["error"],
                    "TFLOP/s": 2 * np.prod(timed, dtype=float) / middle / 1e9, "least ms": least, "bound": by, "share": least / middle,
                    "GB/s copied": 2 * large["copied"] / np.median(large["copy"]) / 1e6}
    return row


def table(gpu, flashinfer):
    """Every program for a GPU, built and tried (DataFrame, a row each); empty where no kernel is described for it."""
    wanted = programs(gpu.sm)
    found = pd.DataFrame([trial(program, path, gpu) for program, path in zip(wanted, build(wanted, flashinfer))])
    return found.reindex(columns=list(dict.fromkeys([*STEPS, *TIMES, *found.columns]))) if wanted else found


def chart(timed):
    """Times of a `table` as bars with their quartiles, and the bound of each (plotly Figure)."""
    labels = timed["tile"] + " " + timed["d"]
    low, high = (timed["ms"] - timed["ms, lower quartile"]), (timed["ms, upper quartile"] - timed["ms"])
    bars = go.Bar(y=labels, x=timed["ms"], orientation="h", name="median, with quartiles", marker_color=COLOURS["blue"],
                  error_x={"type": "data", "array": high, "arrayminus": low, "symmetric": False})
    least = go.Scatter(y=labels, x=timed["least ms"], mode="markers", name="the least it can take",
                       marker={"symbol": "line-ns-open", "size": 22, "line": {"width": 3}, "color": COLOURS["vermilion"]})
    return go.Figure([bars, least]).update_layout(xaxis_title="time (ms)", yaxis_autorange="reversed", xaxis_rangemode="tozero")
