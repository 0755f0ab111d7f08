"""A notebook's session: tables and text shown as this collection shows them, and Tab the API."""

import html as markup
import symtable
import sys
from functools import partial
from pathlib import Path

import pandas as pd
from IPython import get_ipython

from lib.evidence import tables


def sentence(text):
    """A string that is a cell's answer as a paragraph without quotes (HTML, or None for lines)."""
    return None if "\n" in text else f"<p>{markup.escape(text, quote=False)}</p>"


def public(module):
    """The names that a module defines, without those that it imports (list of str)."""
    table = symtable.symtable(Path(module.__file__).read_text(), module.__file__, "exec")
    own = [each.get_name() for each in table.get_symbols()
           if each.is_assigned() and not each.is_imported()]
    inner = [name for name in vars(module) if f"{module.__name__}.{name}" in sys.modules]
    listed = getattr(module, "__all__", own)
    return sorted(name for name in {*listed, *inner} if not name.startswith("_"))


def tab(*_):
    """Have ``dir`` of each module of ours, and so Tab and ``help``, give its `public` names."""
    for name, module in list(sys.modules.items()):
        if name.startswith("lib.") and "__dir__" not in vars(module):
            module.__dir__ = partial(public, module)


def install():
    """Have the notebook that runs this show every DataFrame through `tables.html` and text as
    text, and complete modules of ours by what they define, after this cell and each later one."""
    if shell := get_ipython():
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, tables.html)
        shell.display_formatter.formatters["text/html"].for_type(str, sentence)
        tab()
        shell.events.register("post_run_cell", tab)
