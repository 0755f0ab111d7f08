"""Notebook 04's question about a spec of the reader's: what each autotuner makes of it."""

import ast
import functools
import math
import operator
import sys
import traceback

import pandas as pd

from lib.bug4_autotuner import autotuner
from lib.errors import CollectionError
from lib.subjects import wheels
from lib.workbench.answers import Answer

FORM = "write them as in [(300, 256), (300,)], with dynamic=(0, 0) and constraint=(2, 1)"
MOST = 2**30  # elements of an input


@functools.cache
def loaded(flashinfer):
    """A pinned FlashInfer's tree, and its tuner as shipped and under each patch (dict)."""
    tree = wheels.source("flashinfer-python", flashinfer)
    return tree, autotuner.tuners(tree)


def read(given, pairs):
    """Shapes, or pairs of an input and its dimension, of what was given or typed (tuple)."""
    try:
        found = ast.literal_eval(given) if isinstance(given, str) else given
        if pairs and found and isinstance(found[0], int):
            found = [found]
        found = tuple(tuple(map(operator.index, row)) for row in found)
        wrong = [row for row in found if (len(row) != 2 if pairs else
                                          min(row, default=0) < 0 or math.prod(row) > MOST)]
    except (SyntaxError, TypeError, ValueError):
        wrong = True
    if wrong:
        name = "dimensions of inputs" if pairs else "shapes"
        raise CollectionError(f"{given!r} cannot be {name}", FORM)
    return found


def leave(error, tree):
    """Leave an exception for ``%debug``, from the tuner's own frames on; its text (str)."""
    inside = error.__traceback__
    while inside.tb_next and not inside.tb_frame.f_code.co_filename.startswith(str(tree)):
        inside = inside.tb_next
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, inside
    sys.last_exc = error.with_traceback(inside)
    return "".join(traceback.format_exception(error)).replace(f"{tree}/", "").rstrip()


def spec(shapes, dynamic=(), constraint=(), flashinfer="0.6.6"):
    """Ask FlashInfer's own autotuner, as shipped and patched, for the key of a call and a warm-up.

    `shapes` are those of the inputs; `dynamic` and `constraint` the dimensions that specs name: a
    pair of an input and its dimension, or a list of pairs. A text is read as Python. The first
    exception of the tuner as shipped is left for ``%debug``. A CollectionError if these are none.

    Examples
    --------
    >>> spec([(300, 256), (300,)], constraint=(2, 1))
    The look-up raises in: original.
    The warm-up raises in: original, published.
    The first exception is left for %debug.
    """
    shapes, dynamic, constraint = read(shapes, False), read(dynamic, True), read(constraint, True)
    tree, tuners = loaded(flashinfer)
    linked = [((index,), (dimension,)) for index, dimension in dynamic]
    outcomes = {}
    for name, tuner in tuners.items():
        configured = autotuner.config(tuner, linked, constraint)
        outcomes[name] = {"look-up": autotuner.find(tuner, shapes, configured),
                          "warm-up": autotuner.generate(tuner, shapes, configured)}
    lines = []
    for step in ("look-up", "warm-up"):
        raising = [name for name, steps in outcomes.items() if steps[step].error]
        lines += [f"The {step} raises in: {', '.join(raising) or 'none of the tuners'}."]
    table = pd.DataFrame([
        {"tuner": name, "step": step, "outcome": str(each),
         "line": each.frame.lineno if each.frame else ""}
        for name, steps in outcomes.items() for step, each in steps.items()])
    raised = [each.raised for each in outcomes["original"].values() if each.raised]
    text = [leave(raised[0], tree)] if raised else []
    lines += ["The first exception is left for %debug."] if raised else []
    return Answer("\n".join(lines), (table, *text), {"outcomes": outcomes})
