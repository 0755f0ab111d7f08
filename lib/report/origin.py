"""Where a finding comes from: the cells of its notebook that made it, and what of lib they call."""

import ast
import re
from dataclasses import dataclass

from lib.evidence.findings import MIME
from lib.report import record


@dataclass
class Origin:
    """What states a finding, and what it rests on; a cell is its number from 1, its line in the
    committed notebook or 0, and its source."""

    stating: tuple  # a cell
    tables: list  # HTML that it shows beside the finding
    needed: list  # of cells before it
    calls: list  # of (words, a file of the repository, the line of its definition)


def read(source):
    """A cell's syntax tree, and the names that it assigns and reads (two sets of str)."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        tree = ast.Module([], [])
    told = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    assigned = {node.id for node in told if not isinstance(node.ctx, ast.Load)}
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return tree, assigned | defined, {node.id for node in told if isinstance(node.ctx, ast.Load)}


def modules(trees):
    """The files of lib that cells import, by the name that they use (dict of str to Path)."""
    found = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lib"):
            folder = record.REPOSITORY.joinpath(*node.module.split("."))
            found |= {each.asname or each.name: folder / f"{each.name}.py" for each in node.names}
    return {name: path for name, path in found.items() if path.is_file()}


def calls(trees, imported):
    """The functions of `imported` modules that cells name (list as in `Origin.calls`)."""
    said = dict.fromkeys(
        (node.value.id, node.attr) for tree in trees for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    found = []
    for module, name in said:
        text = imported[module].read_text() if module in imported else ""
        if place := re.search(rf"^(?:def|class) {name}\b", text, re.MULTILINE):
            path = imported[module].relative_to(record.REPOSITORY)
            found.append((f"{module}.{name}", str(path), text.count("\n", 0, place.start()) + 1))
    return found


def of(notebook, committed):
    """The origins of the findings that an executed notebook shows (dict of id to `Origin`);
    `committed` is the file (Path) that it was executed from, for its lines."""
    lines = committed.read_text().splitlines() if committed.is_file() else []
    places = {line.split('"')[3]: number for number, line in enumerate(lines, 1)
              if line.lstrip().startswith('"id": "')}
    code = [((number, places.get(cell.get("id"), 0), cell.source), cell, *read(cell.source))
            for number, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code"]
    imported, found = modules([tree for _, _, tree, _, _ in code]), {}
    for at, (stating, cell, tree, _, wanted) in enumerate(code):
        needed, trees = [], [tree]
        for earlier, _, tree, assigned, names in reversed(code[:at]):
            if assigned & wanted:
                wanted = wanted - assigned | names
                needed, trees = [earlier, *needed], [tree, *trees]
        shown = [output.get("data", {}) for output in cell.get("outputs", [])]
        tables = [data["text/html"] for data in shown
                  if "text/html" in data and MIME not in data]
        origin = Origin(stating, tables, needed, calls(trees, imported))
        found |= {data[MIME]["id"]: origin for data in shown if MIME in data}
    return found


def sources(origins):
    """The files of lib that findings come from, each with the C++ of its room that it names (dict
    of str to list of str); that C++ is among them."""
    found = {}
    for path in sorted({path for each in origins for _, path, _ in each.calls}):
        here = record.REPOSITORY / path
        text, others = here.read_text(), sorted(here.parent.rglob("*"))
        found[path] = [str(each.relative_to(record.REPOSITORY)) for each in others
                       if re.match(r"\.[ch]\w", each.suffix) and each.name in text]
    return found | {each: [] for many in found.values() for each in many}
