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
OURS = {"back end": BACK_ENDS["tensorrt_llm"]}  # TensorRT-LLM's names to this collection's
SECONDS, PATCHES = 300, "03-moe-gate.*.tensorrt-llm*"
COLUMNS = ["check", "back end", "quantisation", "SM", "admitted", "said"]
ROUTE = ["requested", "model", "SM", "refused", "reached", "said"]
# What of TensorRT-LLM is looked at, in any layout.
PLACES = ("_utils.py", "_torch/model_config.py", "_torch/modules/fused_moe/*.py",
          "_torch/moe/fused_moe/*.py", "_torch/moe/fused_moe/trtllm_gen/*.py")


def ask(script, tree, subject, names, files=(), sm=SM):
    """Have a script ask a tree for some GPUs, in a process and a folder of its own (dict; kept).

    `subject` tells the tree from others (dict, as `cache.remember` takes it); patches (`names`) go
    to a copy of `files`. An error, with the script's last line, without an answer in 5 minutes.
    """
    def answer(folder):
        output = folder / "said.json"
        with patches.patched(tree, *names, files=files) as copy:
            command = [sys.executable, "-B", script, output, tree, copy, *map(str, sm)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, cwd=folder,
                                      timeout=SECONDS)
                said = done.stderr.splitlines() or ["no message"]
                reason = said[-1] if done.returncode else ""
            except subprocess.TimeoutExpired:
                reason = f"it took longer than {SECONDS} s"
        if reason:
            raise CollectionError(f"{Path(tree).name} gave no answer: {reason}",
                                  "name a tree of the expected version, or none")
        return json.loads(output.read_text())

    return cache.remember("gates", subject | {
        "script": [script, HERE / "standins.py", *HERE.glob(f"{script.stem}.toml")], "SM": list(sm),
        "patches": [patches.FOLDER / name for name in names],
        "torch": importlib.metadata.version("torch"), "python": platform.python_version(),
    }, answer).value


def flashinfer(version, *names):
    """Ask a pinned FlashInfer, with patches (files of patches/) or without.

    Returns rows (DataFrame of `COLUMNS`; quantisation is "" where the check does not depend on it),
    and the CUTLASS kernels that its generator makes (DataFrame: SM, the C++ types activation and
    weight, and macro, which instantiates it).
    """
    pin, tree = (get("flashinfer-python", version) for get in (wheels.pin, wheels.source))
    said = ask(FLASHINFER, tree, {"wheel": pin.sha256}, names)
    return pd.DataFrame(said["rows"]), pd.DataFrame(said["kernels"])


class Asked(NamedTuple):
    """What a TensorRT-LLM says of its MoE back ends; None or "not asked" where it does not tell."""

    layout: str  # one of ``ask_tensorrt_llm.LAYOUTS``, or "recorded"
    rows: pd.DataFrame  # of `COLUMNS`
    routes: pd.DataFrame  # of `ROUTE`: reached is the back end's name there, or the exception


def tensorrt_llm(tree, *names, sm=SM):
    """Ask a TensorRT-LLM checkout or installed package, with patches or without (`Asked`)."""
    found = [path for place in PLACES for path in Path(tree, "tensorrt_llm").glob(place)]
    files = {str(path.relative_to(tree)): path for path in found}
    said = ask(TENSORRT_LLM, tree, {"tree": files}, names, files, sm)
    rows = pd.DataFrame(said["rows"], columns=COLUMNS).replace(OURS)
    return Asked(said["layout"], rows, pd.DataFrame(said["routes"]))


def tried(tree):
    """A TensorRT-LLM tree asked as shipped and with each patch that fits (dict of str to `Asked`).

    Empty if the tree tells nothing: there is none, or it is laid out in a way that is not known.
    """
    if not tree or not (asked := tensorrt_llm(tree)).rows["admitted"].notna().any():
        return {}
    return {"as shipped": asked} | {kind: tensorrt_llm(tree, name)
                                    for kind, name in patches.fitting(tree, PATCHES).items()}


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
        answers[gate] = Asked("recorded", pd.DataFrame(rows, columns=COLUMNS).replace(OURS),
                              pd.DataFrame(routes, columns=ROUTE))
    return answers
