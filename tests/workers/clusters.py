"""A real Dask cluster on this machine, started as README says."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import psutil

from tests.conftest import ROOT


def until(condition, seconds=20):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


@contextmanager
def dask(*words, root=ROOT, **variables):
    """``dask scheduler`` or ``dask worker``, as README says, in a clone."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])} | variables
    process = subprocess.Popen([sys.executable, "-m", "dask", *words], cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.Error):
                each.kill()
        process.wait()


@contextmanager
def scheduler():
    """The address (str) of a scheduler, once it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with dask("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard") as process:
        until(lambda: any((each.status, each.laddr.port) == ("LISTEN", port) for each in psutil.Process(process.pid).net_connections()), seconds=60)
        yield f"tcp://127.0.0.1:{port}"


def worker(address, count, root=ROOT, **variables):
    """So many worker processes in a clone, below one that starts them anew when they die."""
    return dask("worker", address, "--nthreads", "1", "--nworkers", str(count), "--no-dashboard", root=root, **variables)
