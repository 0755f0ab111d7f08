"""Which MoE back ends a library admits on which GPU: its own checks, asked in a process of its own for any compute capability."""

import importlib.metadata
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import architectures
from lib.subjects import patches, wheels

SM = tuple(each.sm for each in architectures.ARCHITECTURES)
FLASHINFER, TENSORRT_LLM = (Path(__file__).with_name(f"ask_{name}.py") for name in ("flashinfer", "tensorrt_llm"))

SECONDS = 300
# FlashInfer's back-end configurations (fused_moe/api.py, 0.7) by the back end and the quantisation that each stands for.
CONFIGURATIONS = {
    "TrtllmFp4Config": ("trtllm-gen", "NVFP4"), "TrtllmFp8BlockConfig": ("trtllm-gen", "FP8 block scales"),
    "CutlassNvfp4Config": ("CUTLASS", "NVFP4"), "CutlassMxfp8Mxfp4Config": ("CUTLASS", "MXFP4 × MXFP8"),
    "CuteDslConfig": ("CuTe DSL, SM100", "NVFP4"), "SM12xNvfp4Config": ("CuTe DSL, SM12x", "NVFP4"),
    "SM12xMxfp8Mxfp4Config": ("CuTe DSL, SM12x", "MXFP4 × MXFP8"),
}
# TensorRT-LLM's names for the same back ends.
BACK_ENDS = {"TRTLLM": "trtllm-gen", "CUTEDSL": "CuTe DSL, SM100", "CUTLASS": "CUTLASS"}


def ask(script, *arguments):
    """Run one of the scripts that ask, and read its JSON.

    Raises
    ------
    CollectionError
        If it ends without an answer, with its last line, or takes longer than 5 minutes.
    """
    with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
        output = Path(folder, "answer.json")
        arguments = [output if each is None else each for each in arguments]
        try:
            done = subprocess.run([sys.executable, "-B", script, *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS,
                                  cwd=folder)
            reason = (done.stderr.splitlines() or ["no message"])[-1] if done.returncode else ""
        except subprocess.TimeoutExpired:
            reason = f"it took longer than {SECONDS} s"
        if reason:
            raise CollectionError(f"{arguments[0]} gave no answer: {reason}", "name a tree of the expected version, or none")
        return json.loads(output.read_text())


def flashinfer(version, *names, sm=SM):
    """Ask a pinned FlashInfer, with patches or without.

    Parameters
    ----------
    version : str
        A pinned version of flashinfer-python.
    *names : str
        Files of patches/.
    sm : sequence of int
        Compute capabilities, 121 for 12.1.

    Returns
    -------
    rows : DataFrame
        check, back end, quantisation ("" where the check does not depend on it), SM, admitted, said.
    kernels : DataFrame
        The CUTLASS kernels that its generator makes for the module it chose: SM, kernel (the SM they are written for), activation,
        weight, output (C++ types), kernels (how many).
    samples : dict of str to str
        For each SM the macro that instantiates its first NVFP4 kernel, or "".
    """
    tree = wheels.source("flashinfer-python", version)

    def build(folder):
        with patches.patched(tree, *names) as overlay:
            (folder / "answer.json").write_text(json.dumps(ask(FLASHINFER, tree, overlay, None, *sm)))

    key = [wheels.pin("flashinfer-python", version).sha256, [patches.Patch(name).text for name in names], list(sm),
           FLASHINFER.read_text(), importlib.metadata.version("torch"), platform.python_version()]
    answer = json.loads((cache.entry("gates", key, build) / "answer.json").read_text())
    return pd.DataFrame(answer["rows"]), pd.DataFrame(answer["kernels"]), answer["samples"]


def tensorrt_llm(tree, *names, sm=SM):
    """Ask a TensorRT-LLM source tree, with patches or without; nothing is cached, since the tree may change.

    Returns
    -------
    rows : DataFrame
        check, back end, quantisation, SM, admitted (None where this revision cannot be asked in this way), said.
    routes : DataFrame
        requested, model, SM, reached (the class that serves the request, "" if it is refused), said (exception or warning).
    """
    with patches.patched(Path(tree), *names) as overlay, tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
        copy = Path(folder)
        for path in [*Path(tree, "tensorrt_llm").glob("*.py"), *Path(tree, "tensorrt_llm/_torch").glob("*.py"),
                     *Path(tree, "tensorrt_llm/_torch/modules/fused_moe").glob("*.py"), *overlay.rglob("*.py")]:
            target = copy / path.relative_to(overlay if path.is_relative_to(overlay) else tree)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        answer = ask(TENSORRT_LLM, copy, None, *sm)
    return named(pd.DataFrame(answer["rows"])), pd.DataFrame(answer["routes"])


def answered(asked):
    """What `tensorrt_llm` gave, or None if the tree answered neither in can_implement nor in its choice of a class."""
    rows, routes = asked
    return asked if rows["admitted"].notna().any() and (routes["reached"] != "").any() else None


def recorded(check, admitted, sm=SM):
    """Rows as `tensorrt_llm` gives them, from facts that were read elsewhere.

    Parameters
    ----------
    admitted : dict of (str, str) to set of int
        For a back end (TensorRT-LLM's name) and a quantisation, the SM versions that it admits.
    """
    rows = [(check, back_end, quantisation, each, each in those, "") for (back_end, quantisation), those in admitted.items() for each in sm]
    return named(pd.DataFrame(rows, columns=["check", "back end", "quantisation", "SM", "admitted", "said"]))


def named(rows):
    """Rows with TensorRT-LLM's names of back ends turned into this collection's."""
    return rows.assign(**{"back end": rows["back end"].map(lambda name: BACK_ENDS.get(name, name))})


def configured(rows):
    """The rows of FlashInfer's back-end configurations, by back end and quantisation (empty before 0.7)."""
    chosen = rows[(rows["check"] == "supported") & rows["back end"].isin(CONFIGURATIONS)].copy()
    pairs = chosen["back end"].map(CONFIGURATIONS)
    return chosen.assign(**{"back end": pairs.str[0], "quantisation": pairs.str[1]})


def known(names, rows):
    """Check names of back ends against rows, and keep the rows of those (all if `names` is empty).

    Raises
    ------
    CollectionError
        If a name is none of the back ends.
    """
    there = list(dict.fromkeys(rows["back end"]))
    if unknown := [name for name in names if name not in there]:
        raise CollectionError(f"there is no MoE back end called {', '.join(map(repr, unknown))}", f"choose of: {'; '.join(there)}")
    return rows[rows["back end"].isin(names)] if names else rows
