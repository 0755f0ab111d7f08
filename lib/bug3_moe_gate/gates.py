"""Which MoE back ends a library admits on which GPU: its own checks, asked in a process apart."""

import importlib.metadata
import json
import platform
import subprocess
import sys
import tomllib
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
BACK_ENDS, RECORDED = (tomllib.loads((HERE / f"{name}.toml").read_text())
                       for name in ("back_ends", "recorded"))
SECONDS = 300
COLUMNS = ["check", "back end", "quantisation", "SM", "admitted", "said"]
ROUTE = ["requested", "model", "SM", "refused", "reached", "said"]
# What of TensorRT-LLM is looked at, in any layout.
PLACES = ("_utils.py", "_torch/model_config.py", "_torch/modules/fused_moe/*.py",
          "_torch/moe/fused_moe/*.py", "_torch/moe/fused_moe/trtllm_gen/*.py")


def ask(script, *arguments, folder):
    """Run a script that asks, in an empty folder, and read its JSON.

    Raises CollectionError, with its last line, if it gives no answer within 5 minutes.
    """
    output = Path(folder, "said.json")
    try:
        done = subprocess.run([sys.executable, "-B", script, output, *map(str, arguments)],
                              capture_output=True, text=True, timeout=SECONDS, cwd=folder)
        reason = (done.stderr.splitlines() or ["no message"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        reason = f"it took longer than {SECONDS} s"
    if reason:
        raise CollectionError(f"{Path(arguments[0]).name} gave no answer: {reason}",
                              "name a tree of the expected version, or none")
    return json.loads(output.read_text())


def remembered(script, tree, names, sm, answer):
    """The answer of a script, kept for a `tree` (dict), patches (files of patches/) and GPUs."""
    return cache.remember("gates", tree | {
        "script": [script, HERE / "standins.py", *HERE.glob(f"{script.stem}.toml")], "SM": list(sm),
        "patches": [patches.Patch(name).path for name in names],
        "torch": importlib.metadata.version("torch"), "python": platform.python_version(),
    }, answer).value


def flashinfer(version, *names):
    """Ask a pinned FlashInfer, with patches (files of patches/) or without.

    Returns rows (DataFrame of `COLUMNS`; quantisation is "" where the check does not depend on it);
    the CUTLASS kernels that its generator makes (DataFrame: SM, kernel, which is the SM they are
    written for, activation, weight, output, as C++ types, and kernels, how many); and for each SM
    the macro that instantiates the first NVFP4 kernel, or "" (dict of str).
    """
    tree = wheels.source("flashinfer-python", version)

    def answer(folder):
        with patches.patched(tree, *names) as overlay:
            return ask(FLASHINFER, tree, overlay, *SM, folder=folder)

    wheel = {"wheel": wheels.pin("flashinfer-python", version).sha256}
    said = remembered(FLASHINFER, wheel, names, SM, answer)
    return pd.DataFrame(said["rows"]), pd.DataFrame(said["kernels"]), said["samples"]


class Asked(NamedTuple):
    """What a TensorRT-LLM says of its MoE back ends; None or "not asked" where it does not tell.

    `layout` is one of ``ask_tensorrt_llm.LAYOUTS``, or "recorded"; `rows` have `COLUMNS`; `routes`
    have `ROUTE`: reached is TensorRT-LLM's name of the back end, or the exception.
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
            return ask(TENSORRT_LLM, copy, *sm, folder=folder)

    said = remembered(TENSORRT_LLM, {"tree": files}, names, sm, answer)
    rows = pd.DataFrame(said["rows"], columns=COLUMNS)
    return Asked(said["layout"], named(rows), pd.DataFrame(said["routes"]))


def named(rows):
    """Rows with TensorRT-LLM's names of back ends turned into this collection's."""
    return rows.replace({"back end": BACK_ENDS["tensorrt_llm"]})


def fitting(tree):
    """The patches of bug 3 that are ready for a TensorRT-LLM tree (dict: published, revised)."""
    return {path.name.split(".")[1]: path.name
            for path in sorted(patches.FOLDER.glob("03-moe-gate.*.tensorrt-llm*.diff"))
            if patches.Patch(path).state(tree) == patches.READY}


def tried(tree):
    """A TensorRT-LLM tree asked as shipped and with each patch that fits (dict of str to `Asked`).

    Empty if the tree tells nothing: there is none, or it is laid out in a way that is not known.
    """
    if not tree or not (asked := tensorrt_llm(tree)).rows["admitted"].notna().any():
        return {}
    return {"as shipped": asked} | {kind: tensorrt_llm(tree, name)
                                    for kind, name in fitting(tree).items()}


def read(kind):
    """Recorded ``fact``, ``thread`` or ``run`` entries of recorded.toml (DataFrame), with links."""
    return pd.DataFrame(RECORDED[kind])


def recorded():
    """What `tried` gives, by the conditions that were read in TensorRT-LLM's sources, replayed."""
    answers = {}
    for gate in ("as shipped", "published", "revised"):
        rows = [(each["check"], each["back end"], quantisation, sm, sm in each[gate], "")
                for each in RECORDED["gate"] for quantisation in each["quantisations"] for sm in SM]
        routes = [(each["requested"], each["model"], sm, reached.endswith("Error"), reached, "")
                  for each in RECORDED["route"] for sm, reached in zip(SM, each[gate])]
        answers[gate] = Asked("recorded", named(pd.DataFrame(rows, columns=COLUMNS)),
                              pd.DataFrame(routes, columns=ROUTE))
    return answers


def check(older, newest):
    """Refuse releases of FlashInfer that lack patches or cubins to be set beside each other."""
    revised, published = ({path.name.partition("flashinfer-")[2].removesuffix(".diff")
                           for path in patches.FOLDER.glob(f"03-moe-gate.{kind}.flashinfer-*.diff")}
                          for kind in ("revised", "published"))
    cubins = {each.version for each in wheels.pins() if each.name == "flashinfer-cubin"}
    for name, value, fit in (("flashinfer", older, revised & published & cubins),
                             ("flashinfer_newest", newest, revised - {older})):
        if value not in fit:
            raise CollectionError(f"{name} cannot be {value} here",
                                  f"choose {', '.join(sorted(fit))}")


def configured(rows):
    """The rows of FlashInfer's configurations, by back end and quantisation (empty before 0.7)."""
    known = BACK_ENDS["configurations"]
    chosen = rows[(rows["check"] == "supported") & rows["back end"].isin(known)].copy()
    pairs = chosen["back end"].map(known)
    return chosen.assign(**{"back end": pairs.str[0], "quantisation": pairs.str[1]})


def known(names, rows):
    """The rows of some back ends, all if `names` is empty; CollectionError if one is not there."""
    there = list(dict.fromkeys(rows["back end"]))
    if unknown := [name for name in names if name not in there]:
        raise CollectionError(f"there is no MoE back end called {', '.join(map(repr, unknown))}",
                              f"choose of: {'; '.join(there)}")
    return rows[rows["back end"].isin(names)] if names else rows
