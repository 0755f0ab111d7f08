"""Every product that was found, against every bug: the checks, and one sentence of what to do."""

import tomllib
from dataclasses import replace
from pathlib import Path

from . import NOT_APPLICABLE, Answer, kernels, runtime
from .checks import check, not_for
from .text import Tree

SM12X, INTEGRATED = (120, 121), (87, 110, 121)  # GPUs that share the host's memory: lib/unified_memory.toml
TRTLLM_KERNELS = ("cpp/tensorrt_llm/" + kernels.KERNELS,)
FLASHINFER_KERNELS = tuple(prefix + kernels.FLASHINFER_KERNELS for prefix in ("flashinfer/data/", ""))
DENSE = "fp4_gemm_cutlass_template_sm120.h"
FLASHINFER_DENSE = tuple(prefix + "include/flashinfer/gemm/" + DENSE for prefix in ("flashinfer/data/", ""))
TODO = tomllib.loads(Path(__file__).with_name("todo.toml").read_text())


def todo(product, bug, verdict):
    """One sentence of what to do about a verdict (str)."""
    return TODO.get(product, {}).get(f"{bug} {verdict}") or TODO["any"][verdict]


def tensorrt_llm(place, sm):
    """The checks of a TensorRT-LLM, by bug (dict of int to list of Check)."""
    tree = Tree(place.root)
    twelve = sm in SM12X
    return {1: [kernels.dense(tree, [TRTLLM_KERNELS[0] + "fp4_gemm/fp4_gemm_template.h"]), kernels.grouped(tree, TRTLLM_KERNELS)]
               if twelve else not_for(sm, "kernels for SM120 and SM121"),
            2: [runtime.kv_cpp(tree), runtime.kv_python(tree)] if sm in INTEGRATED else not_for(sm, "GPUs that share the host's memory"),
            3: runtime.moe_trtllm(tree, sm) if twelve else not_for(sm, "SM120 and SM121"),
            4: runtime.tuner(tree, ["tensorrt_llm/_torch/autotuner.py"]),
            5: runtime.attention_trtllm(tree, sm) if twelve else not_for(sm, "SM120 and SM121")}


def flashinfer(place, sm):
    """The checks of a FlashInfer, by bug."""
    tree = Tree(place.root)
    twelve = sm in SM12X
    return {1: [kernels.grouped(tree, FLASHINFER_KERNELS), kernels.mxfp8(tree), kernels.dense(tree, FLASHINFER_DENSE)]
               if twelve else not_for(sm, "kernels for SM120 and SM121"),
            2: [check("", NOT_APPLICABLE, None, "FlashInfer keeps no second pool: the KV cache is its caller's")],
            3: runtime.moe_flashinfer(tree, sm) if twelve else not_for(sm, "SM120 and SM121"),
            4: runtime.tuner(tree, ["flashinfer/autotuner/autotuner.py", "flashinfer/autotuner.py"]),
            5: runtime.attention_flashinfer(tree, sm) if twelve else not_for(sm, "SM120 and SM121")}


def cutlass(place, sm):
    """The checks of CUTLASS headers: only the first bug is about them."""
    return {1: [kernels.cutlass_stages(Tree(place.root), place.version)] if sm in SM12X else not_for(sm, "kernels for SM120 and SM121")}


PRODUCTS = {"TensorRT-LLM": tensorrt_llm, "FlashInfer": flashinfer, "CUTLASS": cutlass}


def examine(places, sm):
    """Judge what was found.

    Parameters
    ----------
    places : sequence of places.Place
    sm : int
        The architecture to judge for, such as 121.

    Returns
    -------
    list of Answer
        By bug, then by product in the order found.
    """
    answers = []
    for place in places:
        for bug, checks in (PRODUCTS[place.product](place, sm) if place.product in PRODUCTS else {}).items():
            answer = Answer(bug, place.product, place.version, str(place.root), tuple(checks), "")
            answers.append(replace(answer, todo=todo(place.product, bug, answer.verdict)))
    return sorted(answers, key=lambda answer: answer.bug)
