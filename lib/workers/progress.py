"""How far the questions are, in one line."""

import sys
import time
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

QUIET = 1  # s, until it is shown


@contextmanager
def shown(title, total):
    """A function that shows how many are done, to who looks on: in a terminal, or in a front end
    of notebooks, which names the cell, as a headless run does not."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    cell = getattr(shell, "get_parent", dict)().get("metadata", {})
    # JupyterLab leaves the end of a line that had more characters, with its codes: blanks, here.
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn(" " * 9))
    console = Console(force_jupyter=False, force_terminal=True, color_system=None)
    bar = Progress(*columns, console=console, auto_refresh=False,
                   disable=not (sys.stdout.isatty() or "cellId" in cell))
    task, began = bar.add_task(title, total=total), time.monotonic()

    def show(done):
        if time.monotonic() > began + QUIET:
            bar.start()
        bar.update(task, completed=done, refresh=True)

    try:
        yield show
    finally:
        bar.stop()
