"""Notebooks, headless: several at once through papermill, each in a kernel of its own."""

import os
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGKILL

import nbformat
import papermill
from jupyter_client import AsyncKernelManager

from lib.errors import CollectionError
from lib.report import guard

FOLDER = Path(__file__).parents[2] / "notebooks"
CELL_SECONDS = 900
STARTS = 3  # a kernel takes free ports, and may lose one to another: then it is started again
KEPT, SHOWN = 10_000_000, 1_000_000  # characters of a cell's outputs: in its notebook, on its page
NEVER_BEGAN = "Kernel died before replying to kernel_info"  # what jupyter_client says of it


@dataclass
class Job:
    """A notebook to execute, and how far it is."""

    notebook: Path  # as committed
    output: Path  # the executed one
    parameters: dict = field(default_factory=dict)  # for the cell tagged so
    cell_seconds: int = CELL_SECONDS  # the longest that one cell may take
    cell: int = 0  # under way, from 1, as the executed notebook counts
    cells: int = 0
    started: float = 0.0  # time.monotonic(), in seconds
    finished: float = 0.0
    error: str = ""  # what failed in that cell: "ValueError: ..."
    refused: list = field(default_factory=list)  # of (cell, why): findings that are none

    @property
    def name(self):
        """The name of the notebook without its ending."""
        return self.notebook.stem

    @property
    def state(self):
        """In a word: waiting, running, done or failed."""
        if not self.finished:
            return "running" if self.started else "waiting"
        return "failed" if self.error else "done"

    @property
    def elapsed(self):
        """Seconds since it began, or that it took."""
        return (self.finished or time.monotonic()) - self.started if self.started else 0.0

    @property
    def failures(self):
        """What failed, as evidence.json has it (list of dict: notebook, cell, error)."""
        ended = [(self.cell, self.error)] if self.error else []
        return [{"notebook": self.name, "cell": cell, "error": error}
                for cell, error in [*self.refused, *ended]]


def executed(path):
    """An executed notebook as its author counts its cells: without papermill's own about an error
    (nbformat.NotebookNode)."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells
                      if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    return notebook


def start_seconds():
    """SM12X_START_TIMEOUT, or 600 s: loaded or emulated, a kernel takes over a minute to start."""
    given = os.environ.get("SM12X_START_TIMEOUT") or "600"
    if not given.isdecimal() or not int(given):
        raise CollectionError(f"SM12X_START_TIMEOUT is {given!r}, and no whole number of seconds",
                              "set it to one above 0, or unset it")
    return int(given)


def attempt(job, log):
    """Execute a notebook once; `log` (a file) gets what its kernel says on its way out."""
    class Kernel(AsyncKernelManager):
        async def start_kernel(self, **keywords):
            await super().start_kernel(stderr=log, **keywords)

    def begin(cell, cell_index):
        job.cell = cell_index + 1

    # Its folder goes to the kernel alone: papermill's own cwd would move the other threads, too.
    papermill.execute_notebook(
        job.notebook, job.output, job.parameters, kernel_name="python3", progress_bar=False,
        start_timeout=start_seconds(), execution_timeout=job.cell_seconds, on_cell_start=begin,
        on_cell_executed=lambda cell, **_: cut(cell, KEPT), kernel_manager_class=Kernel,
        resources={"metadata": {"path": str(job.notebook.parent)}})


def execute(job):
    """Execute one notebook, written whatever happens; what failed is its job's and cell's error."""
    job.started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        for left in reversed(range(STARTS)):
            try:
                cells = nbformat.read(job.notebook, as_version=4).cells
                job.cells = len(cells) + bool(job.parameters)
                attempt(job, log)
            except papermill.PapermillExecutionError as error:
                job.error = f"{error.ename}: {error.evalue}"
            except Exception as error:  # a dead kernel, a time-out, a file that is no notebook
                if left and isinstance(error, RuntimeError) and NEVER_BEGAN in str(error):
                    continue
                name, job.cell = type(error).__name__, job.cell or 1
                reason = f"{name}: {str(error)[:2000].strip() or 'no message'}"
                job.error = reason.splitlines()[0]
                log.seek(0)
                mark(job, name, f"{reason}\n{log.read()[-2000:]}")
            break
    job.finished = time.monotonic()


def mark(job, name, reason):
    """Put an error without a traceback into the cell of the executed notebook that was reached;
    without such a notebook, into one of its own."""
    try:
        notebook = nbformat.read(job.output, as_version=4)
        cell = notebook.cells[job.cell - 1]
    except (OSError, ValueError, LookupError):
        cell = nbformat.v4.new_code_cell(f"# {job.name} could not be read")
        notebook = nbformat.v4.new_notebook(cells=[cell])
        job.cell = 1
    if cell.cell_type == "code":
        cell.outputs.append(nbformat.v4.new_output(
            "error", ename=name, evalue=reason, traceback=reason.splitlines()))
        cut(cell, KEPT)
    nbformat.write(notebook, job.output)


def cut(cell, most):
    """Cut the texts in the outputs of a cell to `most` characters in all, where they are cut."""
    for output in cell.get("outputs", []):
        place = output.get("data", output)
        for name, text in place.items():
            if name in ("output_type", "name", "ename") or not isinstance(text, str | list):
                continue
            whole = text if isinstance(text, str) else "\n".join(map(str, text))
            if len(whole) > most:
                kept = f"{whole[:most]}\n… {most:,} of {len(whole):,} characters are kept here\n"
                place[name] = kept if isinstance(text, str) else [kept]
            most = max(0, most - len(whole))


def longest_first(jobs, last_run):
    """Order jobs by what they took last time, longest first; those of unknown length lead."""
    def seconds(job):
        try:
            executed = nbformat.read(last_run / job.notebook.name, as_version=4)
            return executed.metadata["papermill"]["duration"] or float("inf")
        except (OSError, KeyError, ValueError):
            return float("inf")
    return sorted(jobs, key=seconds, reverse=True)


def together(action, items, at_once, tick=0.2):
    """Do something with each item, `at_once` at a time, and yield every `tick` seconds; an
    interrupt ends all that was started."""
    pool = ThreadPoolExecutor(at_once)
    every = pending = {pool.submit(action, item) for item in items}
    try:
        while pending:
            _, pending = wait(pending, tick, FIRST_COMPLETED)
            yield
        for each in every:
            each.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if begun := [each for each in every if not each.done()]:  # wait() knows no cancelled one
            stop(begun)


def stop(pending):
    """Interrupt all that this run began, then kill it, until no thread (Future) runs."""
    for signal, seconds in ((SIGINT, 5), *[(SIGKILL, 1)] * 60):
        guard.send(os.environ[guard.VARIABLE], signal)
        _, pending = wait(pending, seconds)
        if signal == SIGKILL and not pending:
            break


def environment(home):
    """Variables that keep Jupyter's files in `home` (Path), and choose the kernel that is here."""
    (home / "ipython").mkdir(parents=True, exist_ok=True)
    first = {"PYTHONPATH": FOLDER.parent, "PATH": Path(sys.executable).parent}
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "IPYTHONDIR": "ipython",
               "JUPYTER_RUNTIME_DIR": "runtime", "HYPOTHESIS_STORAGE_DIRECTORY": "hypothesis"}
    return {"JUPYTER_PREFER_ENV_PATH": "1"} | {
        name: f"{home}/{folder}" for name, folder in folders.items()} | {
        name: os.pathsep.join(filter(None, [str(folder), os.environ.get(name)]))
        for name, folder in first.items()}
