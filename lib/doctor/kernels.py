"""Bug 1, shared memory: the lines that decide it in kernels' sources, by what notebook 01 measured. Patterns, not line numbers."""

from . import CANNOT_TELL, FIXED, NOT_APPLICABLE, PRESENT
from .checks import absent, check, unknown, unreadable

KERNELS = "kernels/cutlass_kernels/"
FLASHINFER_KERNELS = "csrc/nv_internal/tensorrt_llm/" + KERNELS
OPT_IN = r"MaxSharedMemoryPerBlockOptin"
MEASURED_CUTLASS = ("4.2.1", "4.4.2", "4.5.0")  # notebook 01: in each, the same two grouped tiles do not fit


def grouped(tree, prefixes):
    """Bug 1: the grouped launcher, whose tiles 256 wide come out 1,024 B over the limit with the fused-finalize epilogue."""
    what = "grouped GEMM"
    names = [prefix + "moe_gemm/launchers/moe_gemm_tma_ws_launcher.inl" for prefix in prefixes]
    launcher = tree.source(*names)
    if not launcher:
        return absent(what, tree, names[:1], "Its C++ is compiled where only a wheel is installed.")
    if wrong := unreadable(what, launcher):
        return wrong
    guard = launcher.first(r"BoundedStageCount\s*,|\b(?:if|\w*CHECK\w*|static_assert)\b.*SharedStorage") or launcher.first(OPT_IN)
    if guard:
        return check(what, FIXED, guard, "a kernel is held against the limit, so that none that does not fit is started")
    cases = tree.source(*(prefix + "moe_gemm/moe_gemm_template_dispatch_tma_ws.h" for prefix in prefixes))
    wide = cases and not cases.problem and cases.first(r"SHAPE_CASE\(12\d,\s*(?:128,\s*256|256,\s*128),")
    stages = launcher.first(r"StageCountAutoCarveout\s*,")
    if cases and not cases.problem and not wide and cases.first(r"SHAPE_CASE\(12\d,"):
        return check(what, FIXED, cases.first(r"SHAPE_CASE\(12\d,"), "no tile 256 wide is built for SM120")
    if not wide or not stages:
        return unknown(what, launcher, "StageCountAutoCarveout, or its dispatch the tiles for SM120")
    filters = tree.source(*(prefix + "cutlass_heuristic.cpp" for prefix in prefixes))
    if filters and (line := filters.first(r"fits_smem\(|" + OPT_IN)):
        return check(what, CANNOT_TELL, line, "candidates are filtered by shared memory; whether those two tiles are among them, not said")
    return check(what, PRESENT, stages, "the stage count leaves out what only the whole kernel has: with fused finalize, "
                 "128x256x64B and 256x128x64B ask for 102,400 of 101,376 B and do not start")


def mxfp8(tree):
    """Bug 1: FlashInfer's MXFP8 runner, which overflows with two fixed stages and a tile 256 wide."""
    what, folders = "MXFP8 GEMM", ("flashinfer/data/include/flashinfer/gemm/", "include/flashinfer/gemm/")
    template, cases = (tree.source(*(folder + name for folder in folders)) for name in
                       ("mxfp8_gemm_template_sm120.h", "mxfp8_gemm_cutlass_template_sm120.h"))
    if not template or not cases:
        return check(what, NOT_APPLICABLE, None, f"this release has no {folders[0]}mxfp8_gemm_template_sm120.h, so no such kernels")
    if wrong := unreadable(what, template) or unreadable(what, cases):
        return wrong
    two, wide = template.first(r"StageCount<2>"), cases.first(r"case\b.*SM120::CtaShape(?:128x256|256x128)x")
    if two and wide:
        return check(what, PRESENT, two, "with two fixed stages the tiles 256 wide ask for 111,616 of 101,376 B and do not start")
    if line := template.first(r"StageCountAutoCarveout") if not two else cases.first(r"case\b.*SM120::CtaShape"):
        return check(what, FIXED, line, "the stages are counted from the room that is left" if not two else "no tile 256 wide is built")
    return unknown(what, template, "a stage count")


def dense(tree, names):
    """Bug 1: whether the dense dispatch for SM120 reaches the tile of 128 by 128 by 128 elements."""
    what, file = "dense GEMM", tree.source(*names)
    if not file:
        return absent(what, tree, names[:1], "Its C++ is compiled where only a wheel is installed.")
    if wrong := unreadable(what, file):
        return wrong
    found, line = file.find(r"case (?:tkc::)?CutlassTileConfigSM120::CtaShape\w+B:\s*(?:return )?\w+\s*[<(][^;]*?128\D+128\D+128\b(?!x)")
    if line:
        return check(what, FIXED, line, "the dispatch reaches the small tile")
    if line := file.first(r"case (?:tkc::)?CutlassTileConfigSM120::CtaShape\w+B:"):
        return check(what, PRESENT, line, "the dispatch begins here and has no case for the tile 128x128x128B; the tiles that it has "
                     "fit all the same (at most 93,184 of 101,376 B)")
    return unknown(what, file, "a dispatch over CutlassTileConfigSM120")


def cutlass_stages(tree, version):
    """Bug 1 in CUTLASS itself: from what the builder for SM120 counts the stages."""
    what, names = "stage count", ["cutlass/gemm/collective/builders/sm120_blockscaled_mma_builder.inl"]
    if not (builder := tree.source(*names)):
        return check(what, NOT_APPLICABLE, None, f"CUTLASS {version} has no block-scaled kernels for SM120 ({names[0]} is not there)")
    line = builder.first(r"ReducedSmemCapacityBytes\s*=") or builder.first(r"sm120_smem_capacity_bytes\s*,")
    if wrong := unreadable(what, builder):
        return wrong
    if line and version in MEASURED_CUTLASS:
        return check(what, PRESENT, line, "part of what a grouped kernel needs beside mainloop and epilogue is not taken off: "
                     "two of FlashInfer's tiles come out 1,024 B too large")
    if line:
        return check(what, CANNOT_TELL, line, f"CUTLASS {version} was not measured; {', '.join(MEASURED_CUTLASS)} overflow")
    return unknown(what, builder, "sm120_smem_capacity_bytes")
