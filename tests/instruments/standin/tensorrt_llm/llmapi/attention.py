"""Kernels with the names of attention kernels: in Triton on a GPU, named regions on the CPU."""

import torch

try:
    import triton
except ImportError:
    triton = None

NAMES = ("fmha_v2_flash_attention_standin", "kernel_mha_standin")


def run(name):
    if torch.cuda.is_available() and triton:
        KERNELS[name][(1,)](torch.empty(1, device="cuda"))
    elif not torch.cuda.is_available():
        with torch.profiler.record_function(name):
            torch.ones(4) @ torch.ones(4)


def context():
    run(NAMES[0])


def generation():
    run(NAMES[1])


if triton:
    import triton.language as tl

    @triton.jit
    def fmha_v2_flash_attention_standin(out):
        tl.store(out, 1.0)

    @triton.jit
    def kernel_mha_standin(out):
        tl.store(out, 2.0)

    KERNELS = {"fmha_v2_flash_attention_standin": fmha_v2_flash_attention_standin,
               "kernel_mha_standin": kernel_mha_standin}
