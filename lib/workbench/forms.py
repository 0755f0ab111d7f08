"""A form over each tool: fields for its arguments, a button, and its answer below them."""

import ipywidgets as widgets

from lib.bug3_moe_gate import gates
from lib.errors import CollectionError
from lib.fit import explorer
from lib.subjects import models
from lib.workbench.answers import Answer, choose
from lib.workbench.kernels import EPILOGUES
from lib.workbench.libraries import BACK_ENDS, QUANTISATIONS

TILE = {"m": 128, "n": 128, "k": 128, "epilogue": [*EPILOGUES], "stages": 0}
MODELS, FORMATS = [*models.facts()["models"]], [*explorer.FORMATS]
# The fields of each tool's form, and what stands in them first; a list is one to choose from.
FIELDS = {
    "tile": TILE, "launch": TILE,
    "spec": {"shapes": "[(300, 256), (300,)]", "dynamic": "()", "constraint": "(2, 1)"},
    "pool": {"model": MODELS, "gigabytes": 16.0, "context": 32768},
    "gate": {"sm": [*reversed(gates.SM)], "back_end": BACK_ENDS, "quantisation": QUANTISATIONS},
    "fits": {"model": MODELS, "format": FORMATS, "context": 32768},
}
KINDS = {list: widgets.Dropdown, int: widgets.IntText, float: widgets.FloatText, str: widgets.Text}


def field(name, first):
    """The widget of a field."""
    given = {"options" if isinstance(first, list) else "value": first}
    return KINDS[type(first)](description=name.replace("_", " "),
                              style={"description_width": "6em"}, **given)


def widget(tool):
    """The form of a tool, ``ipywidgets.interactive``: its button asks, and below is the answer.

    >>> from lib.workbench import fits
    >>> [each.description for each in widget(fits).children[:-1]]
    ['model', 'format', 'context', 'Ask fits']
    """
    name = choose("tool", getattr(tool, "__name__", tool), FIELDS)

    def ask(**given):
        try:
            return tool(**given)
        except CollectionError as error:
            return Answer(f"{error.what}; next: {error.next_step}.")

    manual = {"manual": True, "manual_name": f"Ask {name}", "auto_display": True}
    return widgets.interactive(ask, manual, **{
        each: field(each, first) for each, first in FIELDS[name].items()})
