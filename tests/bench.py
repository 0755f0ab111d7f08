"""The measured bars: ``make bench`` runs every function of the modules tests/bench_*.py and says which bar holds. Not a test: timings vary.

Each function returns rows of ``bar`` (what is measured), ``measured``, ``limit`` (a number), ``unit`` and ``ok``. Arguments name modules: ``make bench B=report``.
"""

import importlib
import inspect
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table


def main(wanted):
    console, missed = Console(), 0
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("bar", "measured", "limit", "unit", "holds"):
        table.add_column(column)
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        if wanted and path.stem.removeprefix("bench_") not in wanted:
            continue
        module = importlib.import_module(f"tests.{path.stem}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_") and not inspect.signature(function).parameters:
                console.print(f"{path.stem}: {name} …")
                for row in function():
                    missed += not row["ok"]
                    table.add_row(row["bar"], f"{row['measured']:,.3g}", f"{row['limit']:,.4g}", row["unit"], "yes" if row["ok"] else "NO")
    console.print(table)
    console.print(f"{os.cpu_count()} cores; {missed} bars missed")
    return missed


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
