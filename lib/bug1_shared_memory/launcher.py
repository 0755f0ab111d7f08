"""FlashInfer's grouped GEMM launcher itself: what its own macro builds, as shipped or patched, instance by instance."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib import cache
from lib.bug1_shared_memory import tiles
from lib.errors import CollectionError
from lib.subjects import patches, vendored, wheels

# Each instance is made to fail on purpose, with what is asked for in the message: bodies of kernels are then never generated.
PROBE = 'template <int Instance, int Bytes, int Stages> void told() { static_assert(Bytes < 0, "told"); }\n'
CALL = "told<__LINE__, int(sizeof(typename GemmKernel::SharedStorage)), int(CollectiveMainloop::DispatchPolicy::Stages)>();"


@dataclass(frozen=True)
class Instance:
    """An instance of the launcher's macro: NVFP4 in, bf16 out. `tile` is one block's, in elements; a `pair` is of SM100's blocks."""

    name: str
    tile: tuple
    fused: bool
    swap_ab: bool = False
    arch: str = "sm120"
    pair: bool = False

    def cpp(self):
        """The macro and its arguments (str)."""
        sm100 = self.arch == "sm100"
        schedule = "PtrArrayTmaWarpSpecialized" if sm100 else "void"
        m, n, k = self.tile
        return (f"INSTANTIATE_TMA_WARP_SPECIALIZED_MOE_GEMM({self.arch.capitalize()}, __nv_fp4_e2m1, __nv_fp4_e2m1, __nv_bfloat16, "
                f"{schedule}, EpilogueOpDefault, {'FINALIZE' if self.fused else 'NONE'}, {m}, {n}, {k}, {1 + self.pair}, 1, 1, "
                f"false, false, false, {str(self.swap_ab).lower()})")


def candidates(tree):
    """The NVFP4 instances that FlashInfer offers on SM120: each tile with either epilogue, swapped or not (list of Instance)."""
    return [Instance(name, tiles.extent(name, 4), fused, swap) for name in tiles.grouped_names(tree)
            for fused in (False, True) for swap in (False, True)]


def on_sm100(tree, names=("128x64x128B", "128x128x128B", "128x256x128B")):
    """Instances of the same launcher for SM100 (list of Instance)."""
    known = tiles.grouped_names(tree, 100)
    return [Instance(name, tiles.extent(name, 4), fused, arch="sm100", pair=pair) for name in names if name in known
            for fused in (False, True) for pair in (False, True)]


def told(text):
    """The launcher's text with the question put where its types are complete, and without the arguments and the launch that follow."""
    lines = text.split("\n")

    def line(pattern, start):
        return next((at for at in range(start or len(lines), len(lines)) if re.search(pattern, lines[at])), None)
    types = line(r"^\s*\\$", line(r"using GemmGrouped = ", 1))
    end = line(r"Configuration was disabled by FAST_BUILD", types)
    if not end:
        raise CollectionError("the launcher does not have the lines that are looked for", "this laboratory knows FlashInfer 0.6.6 to 0.7.2")
    return "\n".join(lines[:types] + [f"      {CALL} \\"] + lines[end - 1:])


def ask(instances, tree, front_end, patch=""):
    """Have the launcher of a tree say the bytes and stages of instances; once for each compiler, tree and patch.

    Parameters
    ----------
    instances : sequence of Instance
        All of one architecture, that of `front_end`.
    tree : Path
        An unpacked FlashInfer wheel; it stays as it is.
    front_end : FrontEnd
        Over the same tree.
    patch : str
        A file of patches/ to apply to a scratch copy first.

    Returns
    -------
    DataFrame
        A row an instance: ``name``, ``fused``, ``swap_ab``, ``arch``, ``pair``, ``stages``, ``kernel`` (bytes).

    Raises
    ------
    CollectionError
        If the launcher does not compile, with the compiler's first message.
    """
    with wheels.scratch(tree, vendored.LAUNCHER) as copy:
        if patch:
            patches.Patch(patch).apply(copy)
        launcher = told((copy / vendored.LAUNCHER).read_text())
    head = PROBE + launcher + "\n" + vendored.NAMESPACE
    unit = head + "\n".join(instance.cpp() for instance in instances) + "\n}}}\n"

    def build(folder):
        options = ["-include", "cmath", *(f"-D{name}" for name in vendored.DEFINES)]
        _, _, messages = front_end.compile(unit, "ptx", *options, more=vendored.launcher_include(tree))
        answers = re.findall(r"\[with Instance=(\d+), Bytes=(\d+), Stages=(\d+)\]", messages)
        said = {int(line): (int(size), int(stages)) for line, size, stages in answers}
        others = [error for error in re.findall(r"error: (.*)", messages) if "told" not in error]
        if others or len(said) != len(instances):
            raise CollectionError(f"the launcher does not compile: {(others or [messages.strip()[:300]])[0]}",
                                  "compare the tree with the patch's base")
        (folder / "told.json").write_text(json.dumps(said))

    key = {**front_end.key, "unit": unit, "module": Path(__file__).read_text()}
    said = json.loads((cache.entry("launcher", key, build) / "told.json").read_text())
    first = head.count("\n") + 1
    answers = [said[str(first + index)] for index in range(len(instances))]
    return pd.DataFrame([{"name": each.name, "fused": each.fused, "swap_ab": each.swap_ab, "arch": each.arch, "pair": each.pair,
                          "stages": stages, "kernel": size} for each, (size, stages) in zip(instances, answers)])
