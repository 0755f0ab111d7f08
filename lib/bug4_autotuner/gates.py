"""Which dimension of its FP8 scales TensorRT-LLM's GEMM spec names, by architecture."""

import ast
from pathlib import Path
from unittest.mock import MagicMock

import pandas as pd

from lib.bug4_autotuner import autotuner
from lib.subjects import tensorrt_llm

FILE = "tensorrt_llm/_torch/custom_ops/torch_custom_ops.py"
FUNCTION = "get_fp8_block_scaling_gemm_constraint_spec"
BLOB = f"{tensorrt_llm.REPOSITORY}/blob"
SPEC = f"{BLOB}/000af3a1e55b7bbb97b6c8849d916fbbd00678ee/{FILE}"
QUANTISER = f"{BLOB}/0401f89f7b18f07f11a1d875308cd3e54c7f816b/cpp/tensorrt_llm/thop/fp8Quantize.cpp"


def rank(sm):
    """How many dimensions the scales have, as read (int).

    The quantiser (`QUANTISER`) makes a matrix of them for the SM100 family, else a vector; a branch
    before it sends 120, and no other number, to a quantiser that makes a matrix.
    """
    return 2 if sm in (100, 103, 120) else 1


def spec(sm, tree=None):
    """Which dimension of the scales the spec names (int).

    The tree's own function is asked; without one the rule is used as it was read (`SPEC`).
    """
    file = Path(tree or "", FILE)
    body = ast.parse(file.read_text()).body if tree and file.is_file() else ()
    wanted = [node for node in body
              if isinstance(node, ast.FunctionDef) and node.name.strip("_") == FUNCTION]
    if not wanted:
        return int(sm >= 100)
    for node in wanted:
        node.decorator_list = []  # a cache
    used = {each.id for node in wanted for each in ast.walk(node) if isinstance(each, ast.Name)}
    names = dict.fromkeys(used, MagicMock()) | {
        "ConstraintSpec": lambda index, dim, rule: dim, "get_sm_version": lambda: sm}
    exec(compile(ast.Module(wanted, []), FILE, "exec"), names)
    return names[FUNCTION]()[0]


def replay(tuner, tree=None, architectures=(90, 100, 103, 120, 121)):
    """Have a tuner look up a call of the GEMM with the scales and the spec of each architecture.

    Returns
    -------
    DataFrame
        SM, ``scales have``, ``the spec names``, outcome (``ok`` or the exception), and rank.
    """
    rows = []
    for sm in architectures:
        shapes = (300, 256), (32, 256), (96, 4)[:rank(sm)]
        configured = autotuner.config(tuner, constraint=[(2, spec(sm, tree))])
        outcome = autotuner.find(tuner, shapes, configured)
        rows.append({"SM": sm, "scales have": f"{rank(sm)} dimensions",
                     "the spec names": f"dimension {spec(sm, tree)}",
                     "outcome": outcome.error or "ok", "rank": rank(sm)})
    return pd.DataFrame(rows)
