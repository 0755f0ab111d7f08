"""FlashInfer's grouped GEMM launcher itself: what its own macro builds, as shipped or patched."""

import re

import pandas as pd

from lib import cache
from lib.bug1_shared_memory import dispatch, tiles
from lib.errors import CollectionError
from lib.instruments import nvcc
from lib.subjects import patches, vendored

# Each instance is made to fail on purpose, with what is asked for in the message: bodies of kernels
# are then never generated.
PROBE = ("template <int Instance, int Bytes, int Stages> void told() "
         '{ static_assert(Bytes < 0, "told"); }\n')
CALL = ("told<__LINE__, int(sizeof(typename GemmKernel::SharedStorage)), "
        "int(CollectiveMainloop::DispatchPolicy::Stages)>();")
COLUMNS = ["name", "fused", "swap_ab", "arch", "pair"]


def macro(kernel):
    """The launcher's macro for a grouped NVFP4 kernel with bf16 output (str)."""
    m, n, k = kernel.tile
    schedule = "PtrArrayTmaWarpSpecialized" if kernel.arch == "sm100" else "void"
    return (f"INSTANTIATE_TMA_WARP_SPECIALIZED_MOE_GEMM({kernel.arch.capitalize()}, __nv_fp4_e2m1, "
            f"__nv_fp4_e2m1, __nv_bfloat16, {schedule}, EpilogueOpDefault, "
            f"{'FINALIZE' if kernel.fused else 'NONE'}, {m}, {n}, {k}, {1 + kernel.pair}, 1, 1, "
            f"false, false, false, {str(kernel.swap_ab).lower()})")


def offered(tree):
    """What FlashInfer offers for NVFP4 on SM120: each tile, either epilogue, swapped or not."""
    return [tiles.grouped(name, fused, swap_ab=swap) for name in dispatch.grouped(tree)
            for fused in (False, True) for swap in (False, True)]


def on_sm100(tree, names=("128x64x128B", "128x128x128B", "128x256x128B")):
    """Kernels of the same launcher for SM100, as far as its dispatch has them (list of Gemm)."""
    known = dispatch.grouped(tree, 100)
    return [tiles.grouped(name, fused, arch="sm100", pair=pair) for name in names if name in known
            for fused in (False, True) for pair in (False, True)]


def revised(tree):
    """The version of our patch that fits a FlashInfer tree (`Patch`); an error if none does."""
    names = sorted(patches.FOLDER.glob("01-shared-memory.revised.flashinfer-*.diff"))
    for patch in map(patches.Patch, names):
        if patch.state(tree) == patches.READY:
            return patch
    bases = ", ".join(patches.Patch(name).header["Base"] for name in names)
    raise CollectionError(f"no revised patch fits {tree}", f"use a FlashInfer near these: {bases}")


def told(text):
    """The launcher's text with the question where its types are complete, and no launch behind."""
    lines = text.split("\n")

    def line(pattern, start):
        places = range(start or len(lines), len(lines))
        return next((at for at in places if re.search(pattern, lines[at])), None)
    types = line(r"^\s*\\$", line(r"using GemmGrouped = ", 1))
    end = line(r"Configuration was disabled by FAST_BUILD", types)
    if not end:
        raise CollectionError("the launcher does not have the lines that are looked for",
                              "use a pinned FlashInfer")
    return "\n".join(lines[:types] + [f"      {CALL} \\"] + lines[end - 1:])


def ask(kernels, tree, front_end, *patch):
    """Have the launcher of a FlashInfer tree say the bytes and stages of kernels; once.

    Parameters
    ----------
    kernels : sequence of Gemm
        Grouped, NVFP4 with bf16 output, all of one architecture, that of `front_end`.
    *patch : str
        Files of patches/ to apply to a scratch copy first.

    Returns
    -------
    DataFrame
        A row a kernel: `COLUMNS`, ``stages``, ``kernel`` (bytes).

    Raises
    ------
    CollectionError
        If a patch does not apply, or the launcher does not compile, with the first message.
    """
    with patches.patched(tree, *patch, files=[vendored.LAUNCHER]) as copy:
        head = PROBE + told((copy / vendored.LAUNCHER).read_text()) + "\n" + vendored.NAMESPACE
    unit = head + "\n".join(map(macro, kernels)) + "\n}}}\n"

    def compile_unit(_):
        options = ["-include", "cmath", *(f"-D{name}" for name in vendored.DEFINES)]
        include = vendored.launcher_include(tree)
        _, _, messages = front_end.compile(unit, "ptx", *options, more=include)
        answers = re.findall(r"\[with Instance=(\d+), Bytes=(\d+), Stages=(\d+)\]", messages)
        said = {line: (int(stages), int(size)) for line, size, stages in answers}
        others = [each for each in re.findall(r"error: .*", messages) if "told" not in each]
        if others or len(said) != len(kernels):
            why = nvcc.first_error(others[0] if others else messages)
            raise CollectionError(f"the launcher does not compile: {why}",
                                  "compare the tree with the patch's base")
        return said

    said = cache.remember("launcher", {**front_end.key, "unit": unit}, compile_unit).value
    first = head.count("\n") + 1
    rows = [[getattr(kernel, name) for name in COLUMNS] + said[str(first + index)]
            for index, kernel in enumerate(kernels)]
    return pd.DataFrame(rows, columns=[*COLUMNS, "stages", "kernel"])
