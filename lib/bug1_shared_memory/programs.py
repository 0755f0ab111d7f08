"""Programs around one GEMM kernel: which ones a device is given."""

from dataclasses import dataclass

from lib.bug1_shared_memory import tiles
from lib.bug1_shared_memory.gemm import OUTPUTS

PUBLISHED = tiles.dense("128x128x128B", tiles.TENSORRT_LLM["128x128x128B"])
LARGE = [tiles.grouped(name, fused=True) for name in ("128x256x64B", "256x128x64B")]


@dataclass(frozen=True)
class Program:
    """A program around one kernel."""

    name: str  # the tile as upstream names it
    kernel: str  # its C++ type, as units/harness.cuh takes it
    operands: str  # nvfp4 or fp8
    d: str  # output type, of operands.DTYPES
    target: str  # what it is compiled for
    why: str = "fits"  # what it is to show: fits, too large, another architecture


def nvfp4(described, target, why="fits"):
    """The program of a `gemm.Gemm`."""
    kernel = f"unit::Gemm<{described.cpp()}>"
    return Program(described.name, kernel, "nvfp4", described.d, target, why)


def hopper(m, n, k, d="bf16", stages=0, why="fits"):
    """The program of an FP8 kernel for SM90; `stages` 0 leaves their number to CUTLASS."""
    kernel = f"harness::Hopper<{m}, {n}, {k}, {OUTPUTS[d][0]}, {stages}>"
    return Program(f"{m}x{n}x{k}", kernel, "fp8", d, "sm_90a", why)


def for_device(sm):
    """What to try on a device (list of Program); empty where no kernel is described for it.

    On SM120 and SM121 these are TensorRT-LLM's dense tiles in each output type, the grouped ones
    that exceed the limit, and the published tile as built for the other of the two. On SM90 they
    are FP8 tiles, one forced over the limit, and two of SM121's as built for SM121.
    """
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
