"""Which MoE back ends a library admits on which GPU: its own checks, asked in a process apart."""

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import architectures
from lib.subjects import patches, wheels

SM = tuple(each.sm for each in architectures.ARCHITECTURES)
HERE = Path(__file__).parent
FLASHINFER, TENSORRT_LLM = HERE / "ask_flashinfer.py", HERE / "ask_tensorrt_llm.py"
SECONDS = 300
COLUMNS = ["check", "back end", "quantisation", "SM", "admitted", "said"]
# FlashInfer's configurations (fused_moe/api.py, 0.7) by back end and quantisation.
CONFIGURATIONS = {
    "TrtllmFp4Config": ("trtllm-gen", "NVFP4"),
    "TrtllmFp8BlockConfig": ("trtllm-gen", "FP8 block scales"),
    "CutlassNvfp4Config": ("CUTLASS", "NVFP4"),
    "CutlassMxfp8Mxfp4Config": ("CUTLASS", "MXFP4 × MXFP8"),
    "CuteDslConfig": ("CuTe DSL, SM100", "NVFP4"),
    "SM12xNvfp4Config": ("CuTe DSL, SM12x", "NVFP4"),
    "SM12xMxfp8Mxfp4Config": ("CuTe DSL, SM12x", "MXFP4 × MXFP8"),
}
# What of TensorRT-LLM is looked at, in any layout.
PLACES = ("_utils.py", "_torch/model_config.py", "_torch/modules/fused_moe/*.py",
          "_torch/moe/fused_moe/*.py", "_torch/moe/fused_moe/trtllm_gen/*.py")
# TensorRT-LLM's names for the same back ends.
BACK_ENDS = {"TRTLLM": "trtllm-gen", "CUTEDSL": "CuTe DSL, SM100",
             "CUTEDSL, B12X": "CuTe DSL, SM12x", "CUTLASS": "CUTLASS"}


def ask(script, *arguments, folder):
    """Run a script that asks, in an empty folder, and read its JSON; None is where that goes.

    Raises
    ------
    CollectionError
        If it ends without an answer, with its last line, or takes longer than 5 minutes.
    """
    output = Path(folder, "said.json")
    given = [str(output if each is None else each) for each in arguments]
    try:
        done = subprocess.run([sys.executable, "-B", script, *given], capture_output=True,
                              text=True, timeout=SECONDS, cwd=folder)
        reason = (done.stderr.splitlines() or ["no message"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        reason = f"it took longer than {SECONDS} s"
    if reason:
        raise CollectionError(f"{Path(arguments[0]).name} gave no answer: {reason}",
                              "name a tree of the expected version, or none")
    return json.loads(output.read_text())


def inputs(script, names, sm):
    """What an answer of a script depends on besides the tree (dict)."""
    return {"script": script, "stand-ins": HERE / "standins.py", "SM": list(sm),
            "patches": [patches.Patch(name).path for name in names],
            "torch": importlib.metadata.version("torch"), "python": platform.python_version()}


def flashinfer(version, *names, sm=SM):
    """Ask a pinned FlashInfer, with patches (files of patches/) or without.

    Returns
    -------
    rows : DataFrame
        check, back end, quantisation ("" where the check does not depend on it), SM (121 for
        12.1), admitted, said.
    kernels : DataFrame
        The CUTLASS kernels that its generator makes for the module it chose: SM, kernel (the SM
        they are written for), activation, weight, output (C++ types), kernels (how many).
    samples : dict of str to str
        For each SM the macro that instantiates its first NVFP4 kernel, or "".
    """
    tree = wheels.source("flashinfer-python", version)

    def answer(folder):
        with patches.patched(tree, *names) as overlay:
            return ask(FLASHINFER, tree, overlay, None, *sm, folder=folder)

    wheel = {"wheel": wheels.pin("flashinfer-python", version).sha256}
    said = cache.remember("gates", wheel | inputs(FLASHINFER, names, sm), answer).value
    return pd.DataFrame(said["rows"]), pd.DataFrame(said["kernels"]), said["samples"]


class Asked(NamedTuple):
    """What a TensorRT-LLM says of its MoE back ends.

    Attributes
    ----------
    layout : str
        Which form of the gate it has, as ``ask_tensorrt_llm.LAYOUTS`` names it; "recorded" where
        facts stand in for a tree.
    rows : DataFrame
        check (can_implement, constructor), back end, quantisation, SM, admitted (None where the
        tree does not tell), said.
    routes : DataFrame
        requested, model, SM, refused (None where the tree does not tell), reached (TensorRT-LLM's
        name of the back end, the exception, or "not asked"), said (exception or warning).
    """

    layout: str
    rows: pd.DataFrame
    routes: pd.DataFrame


def tensorrt_llm(tree, *names, sm=SM):
    """Ask a TensorRT-LLM checkout or installed package, with patches or without (`Asked`)."""
    tree, top = Path(tree), Path(tree, "tensorrt_llm")
    files = {str(path.relative_to(tree)): path for place in PLACES for path in top.glob(place)}

    def answer(folder):
        with patches.patched(tree, *names, files=files) as copy:
            return ask(TENSORRT_LLM, copy, None, *sm, folder=folder)

    key = {"tree": files} | inputs(TENSORRT_LLM, names, sm)
    said = cache.remember("gates", key, answer).value
    rows = pd.DataFrame(said["rows"], columns=COLUMNS)
    return Asked(said["layout"], named(rows), pd.DataFrame(said["routes"]))


def fitting(tree):
    """The patches of bug 3 that are ready for a TensorRT-LLM tree (dict: published, revised)."""
    found = {}
    for path in sorted(patches.FOLDER.glob("03-moe-gate.*.tensorrt-llm*.diff")):
        if patches.Patch(path).state(tree) == patches.READY:
            found[path.name.split(".")[1]] = path.name
    return found


def tried(tree):
    """A TensorRT-LLM tree asked as shipped and with each patch that fits (dict of str to `Asked`).

    Empty if the tree tells nothing: there is none, or it is laid out in a way that is not known.
    """
    if not tree or not (asked := tensorrt_llm(tree)).rows["admitted"].notna().any():
        return {}
    return {"as shipped": asked} | {kind: tensorrt_llm(tree, name)
                                    for kind, name in fitting(tree).items()}


def check(older, newest):
    """Refuse releases of FlashInfer that cannot be set beside each other.

    Raises
    ------
    CollectionError
        If the older one has no cubins or no pair of patches, or the newest no revised patch, or
        it is the same; with the ones that do.
    """
    revised, published = ({path.name.partition("flashinfer-")[2].removesuffix(".diff")
                           for path in patches.FOLDER.glob(f"03-moe-gate.{kind}.flashinfer-*.diff")}
                          for kind in ("revised", "published"))
    cubins = {each.version for each in wheels.pins() if each.name == "flashinfer-cubin"}
    for name, value, fit in (("flashinfer", older, revised & published & cubins),
                             ("flashinfer_newest", newest, revised - {older})):
        if value not in fit:
            raise CollectionError(f"{name} cannot be {value} here",
                                  f"choose {', '.join(sorted(fit))}")


def named(rows):
    """Rows with TensorRT-LLM's names of back ends turned into this collection's."""
    return rows.assign(**{"back end": rows["back end"].replace(BACK_ENDS)})


def configured(rows):
    """The rows of FlashInfer's configurations, by back end and quantisation (empty before 0.7)."""
    chosen = rows[(rows["check"] == "supported") & rows["back end"].isin(CONFIGURATIONS)].copy()
    pairs = chosen["back end"].map(CONFIGURATIONS)
    return chosen.assign(**{"back end": pairs.str[0], "quantisation": pairs.str[1]})


def known(names, rows):
    """The rows of some back ends, all if `names` is empty; CollectionError if one is not there."""
    there = list(dict.fromkeys(rows["back end"]))
    if unknown := [name for name in names if name not in there]:
        raise CollectionError(f"there is no MoE back end called {', '.join(map(repr, unknown))}",
                              f"choose of: {'; '.join(there)}")
    return rows[rows["back end"].isin(names)] if names else rows
