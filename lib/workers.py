"""Many independent questions, asked side by side: on this machine, or on a Dask cluster.

``CLUSTER=tcp://scheduler:8786`` in the environment names the cluster. All that it does is to fill
the cache: an answer is looked for here, asked there if it is not held, kept here, and read here.
"""

import ctypes
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections import namedtuple
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lib import cache
from lib.errors import CollectionError

TICK, QUIET, WAIT = 0.1, 1, 20  # s: between looks, until progress is shown, for who is not there
TRIES = 3  # of a question whose process dies
FAR = 200  # questions under way on a cluster
ROOT = cache.PACKAGE.parent
MAKERS = ("lib", "patches", "probes", "requirements.txt")  # what makes answers
KEPT = (".pyc", ".json")  # what does not: JSON is kept data, and an input where an answer needs it

# What one question came to: an answer, or the error (`CollectionError`) that it ended with.
Outcome = namedtuple("Outcome", "question answer error")


def ask(function, questions, title, processes=False, at_once=None):
    """Ask a function every question, side by side: list of `Outcome`, in the order of questions.

    `function` is a public function of a module of lib that answers one question, and remembers its
    answer itself (see `cache.remember`); each question is a dict of its named arguments. For a
    cluster both hold what means the same on every machine: names and numbers, no paths. `title`
    names the work in the line that shows how far it is.

    Without a cluster, `at_once` questions (one a core) have a thread each, or a process. A question
    that fails with a `CollectionError` costs itself alone; any other error ends all, and is raised.
    An interrupt ends what was begun here; a worker ends its question, and keeps the answer.
    """
    address, threads = os.environ.get("CLUSTER"), []
    at_once = FAR if address else at_once or os.cpu_count() or 1
    with cluster(address) if address else machine(processes) as (one, watch):
        before = children()
        pool = futures.ThreadPoolExecutor(
            at_once, initializer=lambda: threads.append(threading.current_thread()))
        try:
            asked = pending = [pool.submit(one, function, question) for question in questions]
            with progress(title, len(asked)) as show:
                while pending:
                    done, pending = futures.wait(pending, TICK, futures.FIRST_EXCEPTION)
                    for each in done:
                        each.result()
                    show(len(asked) - len(pending))
                    watch()
            return [each.result() for each in asked]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            stop(threads, before)


def here(function, question):
    """Ask in this thread (`Outcome`)."""
    try:
        return Outcome(question, function(**question), None)
    except CollectionError as error:
        return Outcome(question, None, error)


def apart(function, question):
    """`here`, in a process of its own, which hears an interrupt only while it answers."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        return here(function, question)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


def died(question, what):
    """The `Outcome` of a question that ends the processes that are asked it."""
    error = CollectionError(f"{question}: {what}", "give it more memory, or ask fewer at once")
    return Outcome(question, None, error)


@contextmanager
def machine(processes):
    """How a question is asked on this machine: a function like `here`, and one for each look."""
    pools, idle = [], []
    if processes:
        resource_tracker.ensure_running()  # its start would unblock what a thread blocks

    def one(function, question):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # a process starts as its thread
        for _ in range(TRIES):
            try:
                pool = idle.pop()
            except IndexError:
                pool = futures.ProcessPoolExecutor(1, get_context("spawn"))
                pools.append(pool)
            with suppress(BrokenProcessPool):
                outcome = pool.submit(apart, function, question).result()
                idle.append(pool)
                return outcome
        return died(question, f"its process died {TRIES} times")

    try:
        yield one if processes else here, lambda: None
    finally:
        for pool in pools:
            pool.shutdown()


def children():
    """The processes below this one (set of psutil.Process)."""
    return set(psutil.Process().children(recursive=True))


def alive(threads, seconds):
    """The threads that still run after some seconds (list of threading.Thread)."""
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def stop(threads, before):
    """Interrupt threads that run, and the processes begun since, then kill, until none runs."""
    def send(what):
        for child in children() - before:
            with suppress(psutil.Error):
                child.send_signal(what)

    if not (running := alive(threads, TICK)):
        return
    for thread in running:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
    for each, seconds in ((signal.SIGINT, 5), *[(signal.SIGKILL, 1)] * 60):
        send(each)
        if not alive(running, seconds):
            break
    send(signal.SIGKILL)  # what was just being started


class NotHeld(Exception):
    """The cache does not hold an answer that was only looked for."""


def held(kind, key, _):
    """`cache.entry` for who only looks."""
    if found := cache.held(kind, key):
        return found
    raise NotHeld(kind)


def identity():
    """What the answers of this process depend on (str)."""
    paths = [path for name in MAKERS for path in (ROOT / name, *ROOT.joinpath(name).rglob("*"))]
    files = {str(path.relative_to(ROOT)): cache.hashed(path)
             for path in paths if path.is_file() and path.suffix not in KEPT}
    return f"version {cache.digest(files)[:12]} on {platform.machine()}"


LOADED = identity()


def unlike(theirs):
    """On a worker: why it cannot answer for a process of that `identity` (str; empty: it can)."""
    place = f"{ROOT} on {socket.gethostname()}"
    mine = LOADED if identity() == LOADED else "changed since it started"
    return "" if mine == theirs else f"{place} is {mine}, and not {theirs}"


def refusal(worker, why):
    """The error of a worker that cannot answer."""
    return CollectionError(f"the worker {worker} is refused: {why}", "bring its clone to the "
                           "version of this one (git pull), and start it there again")


def answer(function, question, theirs):
    """On a worker: the error that a question ended with, and the entries that answer it."""
    os.environ.pop("CLUSTER", None)
    if why := unlike(theirs):
        raise refusal("that was asked", why)
    made = []
    cache.HAD.set(lambda *asked: made.append(cache.entry(*asked)) or made[-1])
    error = here(function, question).error
    return error, [cache.packed(each.folder) for each in made]


@contextmanager
def cluster(address):
    """How a question is asked on a Dask cluster: a function like `here`, and one for each look.

    A CollectionError if there is no scheduler, no worker, or one that is `unlike` this process.
    """
    from distributed import Client, KilledWorker
    from distributed.comm import get_address_host_port
    gone = (f"no Dask scheduler answers at CLUSTER={address}",
            "start it on that machine with .venv/bin/dask scheduler, and run again: what was "
            "answered is kept; or unset CLUSTER")
    try:
        socket.create_connection(get_address_host_port(address), WAIT).close()
        client = Client(address, timeout=WAIT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise CollectionError(*gone) from error

    def watch():
        try:
            client.wait_for_workers(1, WAIT)
        except TimeoutError:
            raise CollectionError(
                f"the scheduler {address} has no worker", "start two in a clone of the collection: "
                f".venv/bin/dask worker {address} --nthreads 1 --nworkers 2") from None
        except OSError as error:
            raise CollectionError(*gone) from error

    def one(function, question):
        cache.HAD.set(held)
        with suppress(NotHeld):
            return here(function, question)
        asked = client.submit(answer, function, question, LOADED, pure=False)
        while not asked.done():
            time.sleep(TICK)
        try:
            error, entries = asked.result()
        except KilledWorker as error:
            return died(question, f"each worker that was asked died: {error}")
        except futures.CancelledError as error:
            raise CollectionError(*gone) from error
        for each in entries:
            cache.take(*each)
        if error:
            return Outcome(question, None, error)
        with suppress(NotHeld):
            return here(function, question)
        raise CollectionError(f"a worker answered {question} from other inputs than are here",
                              "set SM12X_CUDA_HOME and TRTLLM_SRC alike everywhere, or unset them")

    with client:
        watch()
        for worker, why in client.run(unlike, LOADED, on_error="return").items():
            if why:
                raise refusal(worker, why)
        yield one, watch


@contextmanager
def progress(title, total):
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
