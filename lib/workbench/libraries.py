"""What libraries' own Python makes of a spec (notebook 04) or MoE back end of the reader's (03)."""

import ast
import functools
import math
import operator
import sys
import traceback

import pandas as pd
from IPython.display import Pretty

from lib.bug3_moe_gate import gates, kernels
from lib.bug4_autotuner import autotuner
from lib.errors import CollectionError
from lib.instruments import cubins
from lib.subjects import tensorrt_llm, wheels
from lib.workbench.answers import Answer, choose

OLD, NEW = "0.6.6", "0.7.2.post1"  # of FlashInfer; flashinfer-cubin, with binaries, is the first
BACK_ENDS = ["trtllm-gen", "CUTLASS", *gates.BACK_ENDS["written"]]
QUANTISATIONS = [*gates.BACK_ENDS["shipped"]]


@functools.cache
def tuners(flashinfer):
    """A pinned FlashInfer's tree, and its tuner as shipped and under each patch (dict)."""
    tree = wheels.source("flashinfer-python", flashinfer)
    return tree, autotuner.tuners(tree)


def read(given, pairs=False):
    """Shapes, or pairs of an input and its dimension, of what was given or typed (tuple)."""
    try:
        found = ast.literal_eval(given) if isinstance(given, str) else given
        found = [found] if pairs and found and isinstance(found[0], int) else found
        found = tuple(tuple(map(operator.index, row)) for row in found)
        good = all(len(row) == 2 if pairs else min(row, default=0) >= 0 for row in found)
        good = good and (pairs or sum(map(math.prod, found)) <= 2**30)
    except (SyntaxError, TypeError, ValueError):
        good = False
    if good:
        return found
    raise CollectionError(f"{given!r} cannot be {'dimensions of inputs' if pairs else 'shapes'}",
                          "write them as in [(300, 256), (300,)], dynamic=(0, 0), "
                          "constraint=(2, 1), with at most 2**30 elements")


def leave(error, tree):
    """Leave an exception of `autotuner.attempt` for ``%debug``, without its frame; the text."""
    inside = error.__traceback__.tb_next or error.__traceback__
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, inside
    sys.last_exc = error.with_traceback(inside)
    return Pretty("".join(traceback.format_exception(error)).replace(f"{tree}/", "").rstrip())


def spec(shapes, dynamic=(), constraint=(), flashinfer=OLD):
    """Ask FlashInfer's own autotuner, as shipped and patched, for the key of a call and a warm-up.

    `shapes` are those of the inputs; `dynamic` and `constraint` the dimensions that specs name: a
    pair of an input and its dimension, or a list of pairs. A text is read as Python. The first
    exception of the tuner as shipped is left for ``%debug``. A CollectionError if these are none.

    >>> spec([(300, 256), (300,)], constraint=(2, 1))
    The look-up raises in: original.
    The warm-up raises in: original, published.
    The first exception is left for %debug.
    """
    shapes, linked = read(shapes), [tuple(zip(each)) for each in read(dynamic, pairs=True)]
    (tree, known), constraint = tuners(flashinfer), read(constraint, pairs=True)
    steps, rows, lines = {"look-up": autotuner.find, "warm-up": autotuner.generate}, [], []
    for step, call in steps.items():
        for name, tuner in known.items():
            outcome = call(tuner, shapes, autotuner.config(tuner, linked, constraint))
            rows.append({"tuner": name, "step": step, "outcome": str(outcome),
                         "line": outcome.frame.lineno if outcome.frame else "",
                         "raised": outcome.raised})
        raising = [row["tuner"] for row in rows if row["step"] == step and row["raised"]]
        lines.append(f"The {step} raises in: {', '.join(raising) or 'none of the tuners'}.")
    raised = [row["raised"] for row in rows if row["tuner"] == "original" and row["raised"]][:1]
    texts = [leave(error, tree) for error in raised]
    lines += ["The first exception is left for %debug." for _ in raised]
    table = pd.DataFrame(rows)
    return Answer("\n".join(lines), (table.drop(columns="raised"), *texts), table)


@functools.cache
def moe():
    """Every gate's rows (DataFrame), and the kernels that there are, by the package (DataFrame)."""
    tried = gates.tried(tensorrt_llm.find())
    asked = {f"TensorRT-LLM{'' if tried else ' (as read)'}, {kind}": each.rows
             for kind, each in (tried or gates.recorded()).items()}
    inventory, counted = cubins.inventory(wheels.wheel("flashinfer-cubin", OLD)), []
    for version in (OLD, NEW):
        rows, generated = gates.flashinfer(version)
        pairs = rows["back end"].map(gates.BACK_ENDS["configurations"]).dropna()
        for at, column in enumerate(["back end", "quantisation"]):
            rows.loc[pairs.index, column] = [pair[at] for pair in pairs]
        asked[f"FlashInfer {version}"] = rows
        table = kernels.existing(inventory, generated, version)
        binary = table["back end"].map({"trtllm-gen": f"flashinfer-cubin {OLD}"})
        counted.append(table.assign(package=binary.fillna(f"FlashInfer {version}")))
    every = pd.concat([rows.assign(gate=gate) for gate, rows in asked.items()])
    return every[every["admitted"].notna()], pd.concat(counted).drop_duplicates()


def gate(sm, back_end, quantisation):
    """Who admits an MoE back end to a GPU, and whether it has a kernel there.

    `sm` is 90, 100, 103, 120 or 121; a CollectionError lists the back ends and number formats
    where one is unknown. The checks are FlashInfer's own and TensorRT-LLM's, asked where it is at
    hand, else as they were read.

    >>> gate(121, "CUTLASS", "NVFP4")
    CUTLASS in NVFP4 on SM121: 4 of 6 checks admit it.
    Kernels of it for SM121: 32 in FlashInfer 0.6.6, 64 in FlashInfer 0.7.2.post1.
    """
    sm, back_end = choose("SM", sm, gates.SM), choose("back end", back_end, BACK_ENDS)
    quantisation = choose("quantisation", quantisation, QUANTISATIONS)
    rows, there = (each[(each["SM"] == sm) & (each["back end"] == back_end)
                        & each["quantisation"].isin(["", quantisation])] for each in moe())
    has = [f"{count:,} in {package}" for package, count in zip(there["package"], there["kernels"])]
    said = f"{back_end} in {quantisation} on SM{sm}: {rows['admitted'].sum()} of {len(rows)} " \
           f"checks admit it.\nKernels of it for SM{sm}: {', '.join(has) or 'not counted'}."
    shown = rows[["gate", "check", "admitted", "said"]].reset_index(drop=True)
    return Answer(said, (shown,), there)
