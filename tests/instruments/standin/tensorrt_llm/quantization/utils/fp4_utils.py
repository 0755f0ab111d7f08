"""The kinds of FP4 GEMM."""

from enum import IntEnum


class FP4GemmType(IntEnum):
    W4A4_NVFP4_NVFP4 = 0
