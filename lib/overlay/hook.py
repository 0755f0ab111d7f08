"""The import hook of an overlay: certain modules come from a shadow folder, others as always.

`overlay` imports this file, and copies it as ``sitecustomize.py`` into a folder of ``PYTHONPATH``,
which Python imports at the start of every process, children and theirs too (``usercustomize`` is
not looked for in most virtual environments); one that the machine has is run as well. A process
that does not look at ``PYTHONPATH`` (``python -I``, ``-E``, ``-S``) stays without it. Standard
library alone.
"""

import importlib.machinery
import importlib.util
import json
import os
import sys


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a file of the shadow folder, and keeps no bytecode of it."""

    def set_data(self, path, data, *, _mode=0o666):
        """Write nothing."""


class Hook:
    """A finder for ``sys.meta_path`` that knows the modules of one overlay, from its folder (str).

    ``overlay.json`` there has for each module ``origin``, the file of the installation, and
    ``patched``, the file that replaces it.
    """

    overlay = True  # tells hooks of overlays from other finders, under either name of this module

    def __init__(self, folder):
        self.folder = os.path.realpath(folder)
        with open(os.path.join(folder, "overlay.json"), encoding="utf-8") as file:
            self.modules = json.load(file)

    def find_spec(self, name, path=None, target=None):
        """The patched module, if others find the one that was patched; else a line on stderr."""
        if name not in self.modules:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path
                  if hasattr(finder, "find_spec") and not getattr(finder, "overlay", False))
        found = next(filter(None, others), None)
        if found is None:
            return None
        known = self.modules[name]
        if not found.origin or os.path.realpath(found.origin) != os.path.realpath(known["origin"]):
            sys.stderr.write(f"overlay: {name} comes from {found.origin}, not from "
                             f"{known['origin']}, which was patched: left as it is\n")
            return None
        return importlib.util.spec_from_file_location(
            name, known["patched"], loader=Loader(name, known["patched"]),
            submodule_search_locations=found.submodule_search_locations)


def start(folder):
    """Put the hook of a folder in front, write no bytecode, run the ``sitecustomize`` it hides."""
    sys.dont_write_bytecode = True
    sys.meta_path.insert(0, Hook(folder))
    ours = {finder.folder for finder in sys.meta_path if getattr(finder, "overlay", False)}
    rest = [each for each in sys.path if os.path.realpath(each or os.curdir) not in ours]
    hidden = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if hidden and hidden.loader:
        module = sys.modules["sitecustomize"] = importlib.util.module_from_spec(hidden)
        hidden.loader.exec_module(module)


if __name__ == "sitecustomize":
    start(os.path.dirname(os.path.abspath(__file__)))
