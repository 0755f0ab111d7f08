"""Notebooks, headless: several at once through papermill, each in a process of its own.

The process of a notebook takes its kernel with it when it ends.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil

FOLDER = Path(__file__).parents[2] / "notebooks"
CELL_SECONDS = 900
STARTS = 3  # a kernel takes free ports, and may lose one to another: then it is started again
NEVER_BEGAN = "Kernel died before replying to kernel_info"  # what jupyter_client says of it
LOG = tempfile.TemporaryFile("w+")  # what a kernel says on its way out, in each worker
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"


@dataclass
class Job:
    """A notebook to execute, and how far it is."""

    notebook: Path  # as committed
    output: Path  # the executed one
    parameters: dict = field(default_factory=dict)  # for the cell tagged so
    cell_seconds: int = CELL_SECONDS  # the longest that one cell may take
    state: str = WAITING
    cell: int = 0  # under way, from 1
    cells: int = 0
    started: float = 0.0  # time.monotonic(), in seconds
    finished: float = 0.0
    error: str = ""  # what failed: "cell 4: ValueError: ..."

    @property
    def name(self):
        """The name of the notebook without its ending."""
        return self.notebook.stem

    @property
    def elapsed(self):
        """Seconds since it began, or that it took."""
        return (self.finished or time.monotonic()) - self.started if self.started else 0.0


def parameters(notebook):
    """The names that a notebook's parameters cell sets (list of str); `notebook` is its Path."""
    import papermill
    return list(papermill.inspect_notebook(str(notebook)))


def execute(job, report):
    """Execute one notebook in this process, and say what failed (str, empty if nothing did).

    `report` gets the number of each cell before it runs, and how many there are. The executed
    notebook is written whatever happens; a killed kernel or a time-out is the error of its cell.
    """
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

    reached = 0

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **keywords):
            start = nb_man.cell_start

            def cell_start(cell, index):
                nonlocal reached
                reached = index
                report(index + 1, len(nb_man.nb.cells))
                start(cell, index)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **keywords)

    papermill_engines.register("collection", Engine)

    def attempt(left=STARTS):
        try:
            papermill.execute_notebook(
                job.notebook, job.output, job.parameters, engine_name="collection",
                kernel_name="python3", cwd=job.notebook.parent, progress_bar=False,
                execution_timeout=job.cell_seconds)
        except RuntimeError as error:
            if left == 1 or NEVER_BEGAN not in str(error):
                raise
            attempt(left - 1)

    try:
        attempt()
    except papermill.PapermillExecutionError as error:
        return f"cell {reached + 1}: {error.ename}: {error.evalue}"
    except BrokenPipeError:
        raise
    except Exception as error:
        LOG.seek(0)
        reason = f"{type(error).__name__}: {str(error).strip() or 'no message'}"
        mark(job, reached, type(error).__name__, f"{reason}\n{LOG.read()[-2000:]}")
        return f"cell {reached + 1}: {reason.splitlines()[0]}"
    return ""


def mark(job, index, name, reason):
    """Put an error without a traceback (a dead kernel, a time-out) into the executed notebook."""
    try:
        notebook = nbformat.read(job.output, as_version=4)
    except (OSError, ValueError):
        notebook = nbformat.read(job.notebook, as_version=4)
    index = min(index, len(notebook.cells) - 1)
    if index >= 0 and notebook.cells[index].cell_type == "code":
        notebook.cells[index].outputs.append(nbformat.v4.new_output(
            "error", ename=name, evalue=reason, traceback=reason.splitlines()))
    nbformat.write(notebook, job.output)


def work(job, pipe):
    """The process of one notebook: executes it, and tells `pipe` of each cell, then of the end."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.default_int_handler)
    os.dup2(LOG.fileno(), sys.stderr.fileno())
    try:
        pipe.send(("end", execute(job, lambda cell, cells: pipe.send(("cell", (cell, cells))))))
    except (KeyboardInterrupt, BrokenPipeError):
        pass


def stop(process):
    """End a worker and everything that it started: politely, then not."""
    try:
        worker = psutil.Process(process.pid)
        family = [worker, *worker.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    process.terminate()
    process.join(5)
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(family, timeout=5)


def longest_first(jobs, last_run):
    """Order jobs by what they took last time, longest first; those of unknown length lead."""
    def seconds(job):
        executed = last_run / job.notebook.name
        try:
            read = nbformat.read(executed, as_version=4)
            return read.metadata["papermill"]["duration"] or float("inf")
        except (OSError, KeyError, ValueError):
            return float("inf")
    return sorted(jobs, key=seconds, reverse=True)


def run(jobs, at_once, tick=0.2):
    """Execute jobs, `at_once` at a time; a failing one does not stop the others.

    Yields `jobs` (list of Job, updated in place) after each change, and at least every `tick`
    seconds. Closing the generator, or an interrupt, ends all workers and kernels.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["papermill", "papermill.engines", __name__])
    waiting, workers = list(jobs), {}
    try:
        while waiting or workers:
            while waiting and len(workers) < at_once:
                job = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=work, args=(job, theirs), name=job.name)
                job.state, job.started = RUNNING, time.monotonic()
                process.start()
                theirs.close()
                workers[ours] = job, process
            for pipe in multiprocessing.connection.wait(list(workers), timeout=tick):
                job, process = workers[pipe]
                try:
                    kind, news = pipe.recv()
                except EOFError:
                    kind, news = "end", f"cell {job.cell}: the process that ran it was killed"
                if kind == "cell":
                    job.cell, job.cells = news
                    continue
                job.error, job.finished = news, time.monotonic()
                job.state = FAILED if news else DONE
                del workers[pipe]
                process.join(10)
                stop(process)
            yield jobs
    finally:
        for job, process in workers.values():
            stop(process)


def environment(home):
    """Variables that keep Jupyter's files in `home` (Path), and choose the kernel that is here."""
    (home / "ipython").mkdir(parents=True, exist_ok=True)
    inside = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data",
              "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
              "HYPOTHESIS_STORAGE_DIRECTORY": "hypothesis"}
    first = {"PYTHONPATH": FOLDER.parent, "PATH": Path(sys.executable).parent}
    return ({"JUPYTER_PREFER_ENV_PATH": "1"}
            | {name: str(home / folder) for name, folder in inside.items()}
            | {name: os.pathsep.join(filter(None, [str(folder), os.environ.get(name)]))
               for name, folder in first.items()})
