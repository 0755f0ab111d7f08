"""The code cells of a notebook, run once in this process, so that one can be run again on other data."""

import ast
import json
import os

from lib import evidence
from tests.conftest import ROOT


def assigned(source):
    """The names that a cell binds at its top level or in an if, for or with block (set of str)."""
    found, todo = set(), list(ast.parse(source).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        found |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        found |= {(alias.asname or alias.name).partition(".")[0] for each in ast.walk(node)
                  if isinstance(each, ast.Import | ast.ImportFrom) for alias in each.names}
    return found


class Cells:
    """A notebook's code cells with the names that each left behind.

    Parameters
    ----------
    name : str
        The notebook, without its ending.
    **parameters
        Set after the parameters cell, as papermill does.
    """

    def __init__(self, name, **parameters):
        cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        self.sources = ["".join(cell["source"]) for cell in code]
        self.after, names, before = [], {"__name__": "notebook"}, os.getcwd()
        os.chdir(ROOT / "notebooks")
        try:
            for cell, source in zip(code, self.sources):
                exec(compile(source, name, "exec"), names)
                if "parameters" in cell["metadata"].get("tags", []):
                    names.update(parameters)
                self.after.append(dict(names))
        finally:
            os.chdir(before)

    def index(self, id):
        """The number of the cell that states a finding."""
        return next(number for number, source in enumerate(self.sources) if f'"{id}"' in source)

    def found(self, id):
        """A finding as the notebook states it (`evidence.findings.Finding`)."""
        return of(self.after[-1])[id]

    def again(self, id, **changes):
        """State a finding again on other data (`evidence.findings.Finding`).

        Parameters
        ----------
        id : str
            The finding.
        **changes
            A name of the notebook to its new value, or to a function that makes it of the old one.
            The cells behind the last one that binds such a name run again, up to the finding's.
        """
        target = self.index(id)
        start = max((number for number, source in enumerate(self.sources[:target + 1])
                     if assigned(source) & changes.keys()), default=target - 1)
        names = dict(self.after[min(start, target - 1) if start < target else target - 1])
        if start == target:  # the finding's own cell makes the name: it cannot be replaced there
            raise AssertionError(f"{id} is stated in the cell that makes {', '.join(changes)}: split the cell")
        for name, change in changes.items():
            names[name] = change(names[name]) if callable(change) else change
        names = {name: evidence.findings.Investigation(value.bug, value.notebook) if isinstance(value, evidence.findings.Investigation) else value
                 for name, value in names.items()}
        for source in self.sources[start + 1:target + 1]:
            exec(compile(source, id, "exec"), names)
        return of(names)[id]


def of(names):
    """The findings of the investigation among some names (dict of str to `evidence.findings.Finding`)."""
    return next(value for value in names.values() if isinstance(value, evidence.findings.Investigation)).findings


def parts(finding):
    """Which parts of a finding hold, by their words (dict)."""
    return {part["says"]: part["holds"] for part in finding.parts}


def holds(finding):
    """Which parts of a finding hold, in their order (list)."""
    return [part["holds"] for part in finding.parts]
