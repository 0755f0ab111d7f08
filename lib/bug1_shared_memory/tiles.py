"""The block-scaled kernels that TensorRT-LLM and FlashInfer build, under the names used there."""

from lib.bug1_shared_memory import dispatch
from lib.bug1_shared_memory.gemm import Gemm
from lib.subjects import vendored

# TensorRT-LLM's dense SM120 runner: the tiles that fp4_gemm_bf16.cu, _fp16.cu and _fp32.cu
# instantiate, and the elements that each name stands for in its dispatch; read at
# 0249976575050d2c624a5f285683c66de311a3b7 and 0c8de69a1ca6213eebb20a51873890ff128666c2.
TENSORRT_LLM = {"128x128x128B": (128, 128, 128), "128x128x256B": (128, 128, 256),
                "256x128x128B": (256, 128, 128)}
# Its SM100 counterpart, same files: n is the block's; a pair of blocks has a tile of twice the m.
TENSORRT_LLM_SM100 = {"128x64x128B": (128, 64, 128), "128x256x128B": (128, 256, 128),
                      "128x128x256B": (128, 128, 256), "128x256x256B": (128, 256, 256)}
AUTO = {"schedule": "auto", "epilogue_schedule": "auto", "epilogue_blockscaled": True}
# CUTLASS's example 79d, a grouped NVFP4 GEMM with NVFP4 output.
EXAMPLE_79D = Gemm((128, 128, 128), "fp4", c="fp16", grouped=True, fusion="quantize",
                   scheduler="void", name="128x128x128", product="CUTLASS example 79d", **AUTO)


def grouped(name, fused=False, d="bf16", a="nvfp4", swap_ab=False, version="", arch="sm120",
            pair=False):
    """FlashInfer's moe_gemm_tma_ws_launcher.inl; `fused`: its epilogue finalizes too (Gemm)."""
    fusion = ("scatter-swap" if swap_ab else "scatter") if fused else "default"
    kind = {"schedule": "auto", "epilogue_blockscaled": True}
    if arch == "sm100":
        kind = dict.fromkeys(("schedule", "epilogue_schedule"), f"{1 + pair}sm")
    tile = dispatch.extent(name, 4 if a == "nvfp4" else 8)
    return Gemm(tile, d, a, {"nvfp4": "", "mxfp8": "mxfp4"}[a], c=d, grouped=True, fusion=fusion,
                swap_ab=swap_ab, scheduler="void", arch=arch, name=name, product="FlashInfer",
                version=version, **kind)


def of_tensorrt_llm(outputs=("bf16", "fp16", "fp32")):
    """TensorRT-LLM's dense SM120 kernels: nvfp4_nvfp4_gemm_template_sm120.h (list of Gemm)."""
    return [Gemm(tile, d, name=name, product="TensorRT-LLM")
            for name, tile in TENSORRT_LLM.items() for d in outputs]


def of_sm100():
    """TensorRT-LLM's dense SM100 kernels: nvfp4_nvfp4_gemm_template_sm100.h (list of Gemm)."""
    return [Gemm(tile, schedule=sms, epilogue_schedule=sms, scheduler="persistent",
                 subtile=(128, 64) if tile == (128, 256, 256) else (), arch="sm100", name=name,
                 product="TensorRT-LLM")
            for name, tile in TENSORRT_LLM_SM100.items() for sms in ("1sm", "2sm")]


def of_flashinfer(tree, version, outputs=("bf16",)):
    """The SM120 kernels of a FlashInfer tree; MXFP8's have the first output (list of Gemm)."""
    by = {"product": "FlashInfer", "version": version}
    text, swaps = runner(tree, "fp4_gemm_template_sm120.h")
    own = "StageCount<2>" in text  # 0.6.6; later ones have taken over TensorRT-LLM's template
    kind = AUTO | {"stages": 2} if own else {}
    kernels = [Gemm(tile, d, scheduler=each, swap_ab=swap, name=name, **kind, **by)
               for name, tile in dispatch.dispatched(tree / vendored.DENSE_SM120).items()
               for d in outputs for each in ("void" if own else "static", "stream-k")
               for swap in swaps]
    names = dispatch.grouped(tree)
    kernels += [grouped(name, fused, d, swap_ab=swap, version=version) for name in names
                for fused in (False, True) for d in outputs for swap in (False, True)]
    kernels += [grouped(name, fused, outputs[0], "mxfp8", version=version) for name in names
                if name.endswith("x128B") for fused in (False, True)]
    text, swaps = runner(tree, "mxfp8_gemm_template_sm120.h")
    cases = tree / vendored.DENSE_RUNNERS / "mxfp8_gemm_cutlass_template_sm120.h"
    for name, tile in dispatch.dispatched(cases).items():
        two = "StageCount<2>" in text and ("CTA_N_ == 256" not in text or 256 in tile[:2])
        kernels += [Gemm(tile, outputs[0], "mxfp8", stages=2 * two, scheduler="persistent",
                         swap_ab=swap, name=name, **AUTO, **by) for swap in swaps]
    return kernels


def runner(tree, name):
    """The text of one of FlashInfer's dense runners, if any, and what `swap_ab` may be in it."""
    file = tree / vendored.DENSE_RUNNERS / name
    text = file.read_text() if file.is_file() else ""
    return text, (False, True)[:1 + ("SWAP_AB_" in text)]
