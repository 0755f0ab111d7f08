"""Independent questions on threads, on processes, and on a real Dask cluster of two processes on this machine."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from lib import workers
from lib.errors import CollectionError
from tests import asked
from tests.conftest import ROOT, heard

PLACES = ["threads", "processes", "cluster"]


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
    process = subprocess.Popen([sys.executable, "-m", "dask", *words], cwd=root, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.Error):
                each.kill()
        process.communicate()


@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler (str)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with dask("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard") as process:
        until(lambda: any(each.status == "LISTEN" for each in psutil.Process(process.pid).net_connections()), seconds=60)
        yield f"tcp://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def two(scheduler, tmp_path_factory):
    """The same address, with two workers, whose cache is another than the tests'."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with dask("worker", scheduler, "--nthreads", "1", "--nworkers", "2", "--no-dashboard", SM12X_CACHE=str(elsewhere)):
        yield scheduler


@pytest.fixture
def ask(request, cache_folder, monkeypatch):
    """`workers.ask` at a place of `PLACES`, the parameter."""
    place = request.param
    if place == "cluster":
        monkeypatch.setenv("CLUSTER", request.getfixturevalue("two"))
    return lambda function, questions: workers.ask(function, questions, "test", place == "processes")


everywhere = pytest.mark.parametrize("ask", PLACES, indirect=True)


@everywhere
def test_outcomes_are_in_the_order_of_the_questions_and_alike_everywhere(ask, tmp_path):
    chance, log = random.Random(), tmp_path / "log"
    numbers = chance.sample(range(1000, 10**9), 16)
    questions = [{"number": number, "log": str(log), "seconds": chance.choice([0, 0, 0.1]), "wrong": number % 4 == 0} for number in numbers]
    found = ask(asked.square, questions)
    assert [each.question for each in found] == questions
    assert [each.answer for each in found] == [None if number % 4 == 0 else (number ** 2, f"{number}\n") for number in numbers]
    assert [str(each.error) for each in found] == [f"{number} is wrong\n  next: ask for another" if number % 4 == 0 else "None" for number in numbers]
    assert sorted(asked.times(log)) == sorted(numbers)
    right = [each for each in questions if not each["wrong"]]
    assert [each.answer for each in ask(asked.square, right)] == [each.answer for each in found if not each.error]
    assert len(asked.times(log)) == len(numbers), "an answer that was held was asked again"
