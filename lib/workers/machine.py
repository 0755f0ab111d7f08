"""This machine: a thread or a process a question, and an end to all of them."""

import ctypes
import signal
import time
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker

import psutil

from lib.workers.outcomes import died, here

TICK = 0.1  # s, between looks
TRIES = 3  # of a question whose process dies


def apart(function, question):
    """`here`, in a process of its own, which hears an interrupt only while it answers."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        return here(function, question)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


@contextmanager
def opened(processes):
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
