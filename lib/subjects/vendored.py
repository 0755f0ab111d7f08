"""Where FlashInfer's wheels keep what they carry: TensorRT-LLM's code, CUTLASS, its own sources.

Each path is relative to an unpacked flashinfer-python wheel (`wheels.source`).
"""

from pathlib import Path

DATA = "flashinfer/data"
INTERNAL = f"{DATA}/csrc/nv_internal"  # TensorRT-LLM's sources
KERNELS = f"{INTERNAL}/tensorrt_llm/kernels/cutlass_kernels"
LAUNCHER = f"{KERNELS}/moe_gemm/launchers/moe_gemm_tma_ws_launcher.inl"
GROUPED_DISPATCH = f"{KERNELS}/moe_gemm/moe_gemm_template_dispatch_tma_ws.h"
DENSE_RUNNERS = f"{DATA}/include/flashinfer/gemm"
DENSE_SM120 = f"{DENSE_RUNNERS}/fp4_gemm_cutlass_template_sm120.h"
BATCHED_RUNNER = f"{DATA}/csrc/trtllm_batched_gemm_runner.cu"
ATTENTION_RUNNER = f"{DATA}/include/flashinfer/trtllm/fmha/fmhaRunner.cuh"
FMHA_V2_GENERATOR = "flashinfer/jit/attention/fmha_v2"
FMHA_V2_SOURCES = f"{DATA}/csrc/fmha_v2"
AUTOTUNERS = ("flashinfer/autotuner.py", "flashinfer/autotuner/autotuner.py")  # the old one first
CUTE_DSL_MOE = "flashinfer/fused_moe/cute_dsl"

# Empty stand-ins of ours for headers that a host-side compilation names and does not need.
STUBS = Path(__file__).with_name("stubs")
# The macros with which FlashInfer compiles the grouped launcher (jit/fused_moe.py).
DEFINES = ("ENABLE_FP4", "ENABLE_FP8", "ENABLE_BF16", "COMPILE_BLACKWELL_TMA_GROUPED_GEMMS",
           "COMPILE_BLACKWELL_SM120_TMA_GROUPED_GEMMS")
NAMESPACE = "namespace tensorrt_llm { namespace kernels { namespace cutlass_kernels_oss {\n"


def launcher_include(tree):
    """The include folders that the grouped launcher needs besides CUTLASS's (list of Path).

    The stand-ins for cuBLAS come first.
    """
    data, internal = Path(tree, DATA), Path(tree, INTERNAL)
    return [STUBS, Path(tree, LAUNCHER).parent, internal, internal / "include",
            data / "cutlass/tools/util/include", data / "include", data / "spdlog/include"]
