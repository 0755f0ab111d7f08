"""FlashInfer's own code, asked: what its grouped launcher builds, and which tiles it would try."""

import io
import re

import pandas as pd

from lib import cache
from lib.bug1_shared_memory.gemm import UNITS
from lib.errors import CollectionError
from lib.instruments import nvcc, toolchain
from lib.subjects import patches, vendored, wheels

COLUMNS = ["name", "fused", "swap_ab", "arch", "pair"]
# What the launcher does with its kernel's types: from the first blank line behind the last type.
LAUNCH = re.compile(r"(using GemmGrouped = .*?\n)[ ]*\\\n.*?\n"
                    r"(?=[^\n]*\n[^\n]*Configuration was disabled by FAST_BUILD)", re.DOTALL)


def macro(kernel):
    """The launcher's macro for a grouped NVFP4 kernel with bf16 output (str)."""
    m, n, k = kernel.tile
    schedule = "PtrArrayTmaWarpSpecialized" if kernel.arch == "sm100" else "void"
    return (f"INSTANTIATE_TMA_WARP_SPECIALIZED_MOE_GEMM({kernel.arch.capitalize()}, __nv_fp4_e2m1, "
            f"__nv_fp4_e2m1, __nv_bfloat16, {schedule}, EpilogueOpDefault, "
            f"{'FINALIZE' if kernel.fused else 'NONE'}, {m}, {n}, {k}, {1 + kernel.pair}, 1, 1, "
            f"false, false, false, {str(kernel.swap_ab).lower()})")


def revised(tree):
    """The version of our patch that fits a FlashInfer tree (`Patch`); an error if none does."""
    pattern = "01-shared-memory.revised.flashinfer-*"
    if fitting := patches.fitting(tree, pattern):
        return patches.Patch(fitting["revised"])
    bases = [patches.Patch(path).header["Base"] for path in patches.FOLDER.glob(f"{pattern}.diff")]
    raise CollectionError(f"no revised patch fits {tree}",
                          f"use a FlashInfer near these: {', '.join(bases)}")


def told(text):
    """The launcher's text with the question where its types are complete, and no launch behind."""
    asked, found = LAUNCH.subn(r"\1      TOLD \\\n", text, count=1)
    if not found:
        raise CollectionError("the launcher does not have the lines that are looked for",
                              "use a pinned FlashInfer")
    return asked


def ask(kernels, tree, front_end, *patch):
    """Have the launcher of a FlashInfer tree say the bytes and stages of kernels (list of Gemm).

    They are grouped, NVFP4 with bf16 output, of `front_end`'s architecture; files of patches/ are
    applied to a scratch copy first. Returns a DataFrame, a row a kernel: `COLUMNS`, stages, kernel
    (bytes). An error if a patch does not apply or, with the first message, it does not compile.
    """
    with patches.patched(tree, *patch, files=[vendored.LAUNCHER]) as copy:
        text = told((copy / vendored.LAUNCHER).read_text())
    head = (UNITS / "launcher.h").read_text() + text + "\n" + vendored.NAMESPACE
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
    rows = [[getattr(kernel, name) for name in COLUMNS] + said[str(line)]
            for line, kernel in enumerate(kernels, head.count("\n") + 1)]
    return pd.DataFrame(rows, columns=[*COLUMNS, "stages", "kernel"])


def heuristic(version):
    """What TensorRT-LLM's heuristic in a pinned FlashInfer prints, called here, once (str)."""
    tree, tc = wheels.source("flashinfer-python", version), toolchain.find()
    front, unit = nvcc.of_flashinfer(version), UNITS / "heuristic.cpp"
    include = [*vendored.launcher_include(tree), *front.extensions, front.headers, *tc.include]
    runtime = next(tc.home.glob("lib*/libcudart_static.a"), None)
    if runtime is None:
        raise CollectionError(f"libcudart_static.a is missing from the toolchain {tc.home}",
                              "the wheel nvidia-cuda-runtime holds it")

    inputs = {"wheel": front.identity, "cuda": tc.version, "unit": unit, "stubs": vendored.STUBS}
    return cache.remember("heuristic", inputs, lambda _: nvcc.host(
        unit, include, "-include", "cmath", "-DENABLE_FP4", "-DENABLE_FP8", "-DENABLE_BF16",
        libraries=(runtime, "-ldl", "-lpthread", "-lrt"))).value


def candidates(printed):
    """What `heuristic` printed (DataFrame): tile is upstream's name, the last three are codes."""
    names = ["sm", "kind", "tile", "cluster", "epilogue", "dynamic cluster"]
    found = pd.read_csv(io.StringIO(printed), sep="\t", names=names, dtype=str)
    found = found[found["tile"] != "none"].reset_index(drop=True).astype({"sm": int})
    sizes = found["tile"].str.zfill(9).str.extract("(...)(...)(...)").astype(int).astype(str)
    return found.assign(tile=sizes.agg("x".join, axis=1) + "B")
