"""A form over each tool: fields for its arguments, a button, and its answer below them."""

import ipywidgets as widgets

from lib.bug3_moe_gate import gates
from lib.errors import CollectionError
from lib.subjects import models
from lib.workbench.answers import Answer
from lib.workbench.kernels import EPILOGUES, launch, tile
from lib.workbench.memory import FORMATS, fits
from lib.workbench.moe import BACK_ENDS, QUANTISATIONS, gate
from lib.workbench.pools import pool
from lib.workbench.tuners import spec

TILE = {"m": 128, "n": 128, "k": 128, "epilogue": [*EPILOGUES]}
MODEL = [*models.facts()["models"]]
# The fields of each tool's form, and what stands in them first; a list is one to choose from.
FIELDS = {
    tile: TILE | {"stages": 0},
    launch: TILE,
    spec: {"shapes": "[(300, 256), (300,)]", "dynamic": "()", "constraint": "(2, 1)"},
    pool: {"model": MODEL, "gigabytes": 16.0, "context": 32768},
    gate: {"sm": [*reversed(gates.SM)], "back_end": BACK_ENDS, "quantisation": QUANTISATIONS},
    fits: {"model": MODEL, "format": FORMATS, "context": 32768},
}
KINDS = {list: widgets.Dropdown, int: widgets.IntText, float: widgets.FloatText, str: widgets.Text}


def field(name, first):
    """The widget of a field."""
    given = {"options": first} if isinstance(first, list) else {"value": first}
    style = {"description_width": "6em"}
    return KINDS[type(first)](description=name.replace("_", " "), style=style, **given)


def widget(tool):
    """The form of a tool: the button asks it, and its answer, or why there is none, is shown.

    Gives ``ipywidgets.interactive``, whose ``result`` is the last `Answer`; an error if `tool` is
    no tool.

    Examples
    --------
    >>> [each.description for each in widget(fits).children[:-1]]
    ['model', 'format', 'context', 'Ask fits']
    """
    if tool not in FIELDS:
        known = ", ".join(each.__name__ for each in FIELDS)
        raise CollectionError(f"{getattr(tool, '__name__', tool)!r} has no form",
                              f"use one of: {known}")

    def ask(**given):
        try:
            return tool(**given)
        except CollectionError as error:
            return Answer(f"{error.what}; next: {error.next_step}.")

    fields = {name: field(name, first) for name, first in FIELDS[tool].items()}
    manual = {"manual": True, "manual_name": f"Ask {tool.__name__}", "auto_display": True}
    return widgets.interactive(ask, manual, **fields)
