"""The block-scaled kernels that TensorRT-LLM and FlashInfer build, tile by tile, under the names used there."""

import re
from pathlib import Path

from lib.bug1_shared_memory.gemm import Gemm
from lib.errors import CollectionError
from lib.subjects import vendored

# TensorRT-LLM's dense SM120 runner: the tiles that are instantiated (fp4_gemm_bf16.cu, _fp16.cu, _fp32.cu) and the elements that the
# dispatch passes for each name; read at 0249976575050d2c624a5f285683c66de311a3b7 and 0c8de69a1ca6213eebb20a51873890ff128666c2.
TENSORRT_LLM = {"128x128x128B": (128, 128, 128), "128x128x256B": (128, 128, 256), "256x128x128B": (256, 128, 128)}
# Its SM100 counterpart, same files: n is the block's; a pair of blocks has a tile of twice the m.
TENSORRT_LLM_SM100 = {"128x64x128B": (128, 64, 128), "128x256x128B": (128, 256, 128), "128x128x256B": (128, 128, 256),
                      "128x256x256B": (128, 256, 256)}


def extent(name, bits=0):
    """The tile of an upstream name, in elements.

    Parameters
    ----------
    name : str
        As in ``128x128x256B`` or ``CtaShape128x128x256B``.
    bits : int
        Of an element, where the number before the B is bytes; 0 where it is passed on as elements.

    Raises
    ------
    CollectionError
        If it is no tile name.
    """
    found = re.fullmatch(r"(?:CtaShape)?(\d+)x(\d+)x(\d+)B", name)
    if not found:
        raise CollectionError(f"{name!r} is no tile name", f"write it as upstream does: {', '.join(TENSORRT_LLM)}")
    m, n, k = map(int, found.groups())
    return m, n, k * 8 // bits if bits else k


def dispatched(file):
    """The tiles that a dense SM120 dispatch reaches: name to (m, n, k) as its code passes them on, in elements (dict).

    Parameters
    ----------
    file : Path
        A header with ``case ...SM120::CtaShape128x128x128B:`` in it. A FlashInfer older than the runner has no such file, and none.
    """
    text = re.sub(r"//[^\n]*", "", file.read_text()) if file.is_file() else ""
    cases = re.findall(r"case \w*(?:::)?CutlassTileConfigSM120::CtaShape(\w+B):\s*(?:return )?\w+\s*[<(]([^;]*);", text)
    return {name: tuple(map(int, re.findall(r"\d+", said)[:3])) for name, said in cases}


def grouped_names(tree, sm=120):
    """The tile names that the grouped dispatch of a FlashInfer tree knows for an architecture (list of str); their k is bytes."""
    text = re.sub(r"//[^\n]*", "", Path(tree, vendored.GROUPED_DISPATCH).read_text())
    return list(dict.fromkeys(f"{m}x{n}x{k}B" for m, n, k in re.findall(rf"SHAPE_CASE\({sm}, (\d+), (\d+), (\d+)\)", text)))


def dense(name, tile, d="bf16", used_by="TensorRT-LLM dense", **changes):
    """TensorRT-LLM's nvfp4_nvfp4_gemm_template_sm120.h, and FlashInfer's runner since it took that over."""
    return Gemm(tile, d, name=name, used_by=used_by, **changes)


def dense_two_stages(name, tile, d="bf16", used_by="FlashInfer dense", scheduler="void"):
    """FlashInfer 0.6.6's fp4_gemm_template_sm120.h: StageCount<2> and automatic schedules."""
    return Gemm(tile, d, schedule="auto", epilogue_schedule="auto", epilogue_blockscaled=True, fixed_stages=2, scheduler=scheduler,
                name=name, used_by=used_by)


def grouped(name, fused=False, d="bf16", a="nvfp4", swap_ab=False, used_by="grouped"):
    """The SM120 case of moe_gemm_tma_ws_launcher.inl: the default epilogue, or the one that finalizes and scatters."""
    fusion = ("scatter-swap" if swap_ab else "scatter") if fused else "default"
    b = {"nvfp4": "", "mxfp8": "mxfp4"}[a]
    return Gemm(extent(name, 4 if a == "nvfp4" else 8), d, a, b, c=d, grouped=True, fusion=fusion, schedule="auto",
                epilogue_blockscaled=True, swap_ab=swap_ab, scheduler="void", name=name,
                used_by=f"{used_by}, {'fused finalize' if fused else 'default epilogue'}")


def mxfp8(name, tile, d="bf16", two_stages=False, swap_ab=False, used_by="MXFP8"):
    """FlashInfer's mxfp8_gemm_template_sm120.h, with StageCount<2> or with the carve-out."""
    return Gemm(tile, d, "mxfp8", schedule="auto", epilogue_schedule="auto", epilogue_blockscaled=True, fixed_stages=2 * two_stages,
                scheduler="persistent", swap_ab=swap_ab, name=name, used_by=used_by)


def example_79d():
    """CUTLASS's example 79d, a grouped NVFP4 GEMM with NVFP4 output."""
    return Gemm((128, 128, 128), "fp4", c="fp16", grouped=True, fusion="quantize", schedule="auto", epilogue_schedule="auto",
                epilogue_blockscaled=True, scheduler="void", name="128x128x128", used_by="CUTLASS example 79d")


def dense_sm100(name, tile, d="bf16", sms=1):
    """TensorRT-LLM's nvfp4_nvfp4_gemm_template_sm100.h, with one block or a pair."""
    return Gemm(tile, d, schedule=f"{sms}sm", epilogue_schedule=f"{sms}sm", subtile=(128, 64) if tile == (128, 256, 256) else (),
                scheduler="persistent", arch="sm100", name=name,
                used_by=f"TensorRT-LLM SM100, {'pair' if sms == 2 else 'one block'}")


def of_tensorrt_llm(outputs=("bf16", "fp16", "fp32")):
    """TensorRT-LLM's dense SM120 kernels (list of Gemm)."""
    return [dense(name, tile, d) for name, tile in TENSORRT_LLM.items() for d in outputs]


def of_flashinfer(tree, version, outputs=("bf16",)):
    """The SM120 kernels of a FlashInfer tree: dense NVFP4 and MXFP8 as its dispatch lists them, grouped NVFP4 and mixed (list of Gemm).

    Parameters
    ----------
    tree : Path
    version : str
        For the names in the table.
    outputs : sequence of str
        Output types, of `gemm.OUTPUTS`.
    """
    by = f"FlashInfer {version}"
    template = tree / vendored.DENSE_RUNNERS / "fp4_gemm_template_sm120.h"
    text, swaps = template.read_text(), (False, True)
    tiles, kernels = dispatched(tree / vendored.DENSE_RUNNERS / "fp4_gemm_cutlass_template_sm120.h"), []
    for name, tile in tiles.items():
        for d in outputs:
            if "StageCount<2>" in text:
                kernels += [dense_two_stages(name, tile, d, f"{by} dense", scheduler) for scheduler in ("void", "stream-k")]
            else:
                kernels += [dense(name, tile, d, f"{by} dense", scheduler=scheduler, swap_ab=swap) for scheduler in ("static", "stream-k")
                            for swap in swaps[:1 + ("SWAP_AB_" in text)]]
    names = grouped_names(tree)
    kernels += [grouped(name, fused, d, swap_ab=swap, used_by=f"{by} grouped")
                for name in names for fused in (False, True) for d in outputs for swap in swaps]
    kernels += [grouped(name, fused, outputs[0], "mxfp8", used_by=f"{by} grouped MXFP8 x MXFP4")
                for name in names if name.endswith("x128B") for fused in (False, True)]
    template = tree / vendored.DENSE_RUNNERS / "mxfp8_gemm_template_sm120.h"
    text = template.read_text() if template.is_file() else ""
    for name, tile in dispatched(tree / vendored.DENSE_RUNNERS / "mxfp8_gemm_cutlass_template_sm120.h").items():
        two = "StageCount<2>" in text and ("CTA_N_ == 256" not in text or 256 in tile[:2])
        kernels += [mxfp8(name, tile, outputs[0], two, swap, f"{by} MXFP8") for swap in swaps[:1 + ("SWAP_AB_" in text)]]
    return kernels


def of_sm100(outputs=("bf16",)):
    """TensorRT-LLM's dense SM100 kernels, with one block and with a pair (list of Gemm)."""
    return [dense_sm100(name, tile, d, sms) for name, tile in TENSORRT_LLM_SM100.items() for d in outputs for sms in (1, 2)]
