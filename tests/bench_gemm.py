"""How fast the laboratory of notebook 01 answers: kernel configurations a minute, against one nvcc executable for each."""

import time

from lib.bug1_shared_memory import gemm, tiles
from lib.instruments import nvcc
from lib.subjects import wheels

# What one would write without the laboratory: a program that prints one size.
PROGRAM = """#include <cstdio>
#include "gemm.cuh"
using namespace unit;
int main() {{ std::printf("%d\\n", int(sizeof(unit::Gemm<{probe}>::Kernel::SharedStorage))); }}
"""
VERSION = "0.6.6"


def rate():
    """Both on one core after the other, nothing from the cache."""
    tree = wheels.source("flashinfer-python", VERSION)
    front = nvcc.of_flashinfer(VERSION)
    kernels = tiles.of_tensorrt_llm() + tiles.of_flashinfer(tree, VERSION, ("bf16", "fp16")) + [tiles.EXAMPLE_79D]
    start = time.perf_counter()
    answers = gemm.compiled([kernel.cpp() for kernel in kernels], front)
    together = time.perf_counter() - start
    assert len(answers) == len(kernels)
    start = time.perf_counter()
    status, program, said = front.compile(PROGRAM.format(probe=kernels[0].cpp()), "exe")
    alone = time.perf_counter() - start
    assert status == 0 and program, said[-500:]
    a_minute, ratio = 60 * len(kernels) / together, alone / (together / len(kernels))
    return [{"bar": "kernel configurations a minute", "measured": a_minute, "limit": 100, "unit": "1/min", "ok": a_minute >= 100},
            {"bar": "against one executable for each", "measured": ratio, "limit": 25, "unit": "times", "ok": ratio >= 25}]
