"""The measured bars: ``make bench`` runs every function of the modules tests/bench_*.py and says which bar holds. Not a test: timings vary.

Each function returns rows of ``bar`` (what is measured), ``measured``, ``limit`` (a number), ``unit`` and ``ok``. Arguments name modules: ``make bench B=report``.
"""

import importlib
import inspect
import os
import sys
from pathlib import Path

from rich.console import Console


def main(wanted):
    console, missed = Console(), 0
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        if wanted and path.stem.removeprefix("bench_") not in wanted:
            continue
        module = importlib.import_module(f"tests.{path.stem}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_") and not inspect.signature(function).parameters:
                console.print(f"{path.stem}: {name} …", highlight=False)
                for row in function():
                    missed += not row["ok"]
                    verdict = "holds" if row["ok"] else "MISSED"
                    console.print(f"  {verdict}: {row['bar']}: {row['measured']:,.3g} {row['unit']} (bar {row['limit']:,.4g})", highlight=False)
    console.print(f"{os.cpu_count()} cores; {missed} bars missed")
    return missed


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
