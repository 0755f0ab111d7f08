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
    """How many dimensions the scales have, as read in `QUANTISER` (120 goes elsewhere) (int)."""
    return 2 if sm in (100, 103, 120) else 1


def spec(sm, tree=None):
    """Which dimension of the scales the tree's own function names, or the rule of `SPEC` (int)."""
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


def replay(tuner, tree=None):
    """Have a tuner look up the GEMM with each architecture's scales and spec (DataFrame)."""
    rows = []
    for sm in (90, 100, 103, 120, 121):
        dimensions, named = rank(sm), spec(sm, tree)
        outcome = autotuner.find(tuner, ((300, 256), (32, 256), (96, 4)[:dimensions]),
                                 autotuner.config(tuner, constraint=[(2, named)]))
        rows.append({"SM": sm, "scales have": f"{dimensions} dimensions",
                     "the spec names": f"dimension {named}", "outcome": outcome.error or "ok",
                     "rank": dimensions})
    return pd.DataFrame(rows)
