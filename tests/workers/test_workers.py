"""Independent questions on threads, on processes, and on a real Dask cluster of two processes on this machine."""

import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from lib import workers
from lib.errors import CollectionError
from lib.workers import cluster, progress
from tests.conftest import ROOT, heard
from tests.workers import asked, clusters
from tests.workers.clusters import until

pytestmark = pytest.mark.xdist_group("workers")  # one cluster, and those tests first that need it without its workers
PLACES = ["threads", "processes", "cluster"]


@pytest.fixture(scope="module")
def address():
    """Of a scheduler (str)."""
    with clusters.scheduler() as address:
        yield address


@pytest.fixture(scope="module")
def two(address, tmp_path_factory):
    """The same address, with two workers, whose cache is another than the tests'."""
    with clusters.worker(address, 2, SM12X_CACHE=str(tmp_path_factory.mktemp("elsewhere"))):
        yield address


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A loaded machine needs longer to start a worker than a reader should wait for none."""
    monkeypatch.setattr(cluster, "WAIT", 60)


@pytest.fixture
def ask(request, cache_folder, monkeypatch):
    """`workers.ask` at a place of `PLACES`, the parameter."""
    place = request.param
    if place == "cluster":
        monkeypatch.setenv("CLUSTER", request.getfixturevalue("two"))
    return lambda function, questions: workers.ask(function, questions, "test", place == "processes")


everywhere = pytest.mark.parametrize("ask", PLACES, indirect=True)


def test_without_a_scheduler_or_a_worker_the_error_comes_in_seconds_and_says_what_to_start(address, monkeypatch):
    monkeypatch.setattr(cluster, "WAIT", 1)
    for place, said in [("tcp://127.0.0.1:1", "no Dask scheduler answers.*dask scheduler"), ("spark-2", "no Dask scheduler answers"),
                        (address, "has no worker.*dask worker")]:
        monkeypatch.setenv("CLUSTER", place)
        began = time.monotonic()
        with pytest.raises(CollectionError, match=f"(?s){said}"):
            workers.ask(asked.broken, [{"number": 1}], "test")
        assert time.monotonic() - began < 5


def test_a_worker_with_another_version_is_refused_by_name(address, cache_folder, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    for name in (*cluster.MAKERS, "tests"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, other / name)
    with open(other / "lib/subjects/wheels.toml", "a") as file:
        file.write("\n")
    monkeypatch.setenv("CLUSTER", address)
    with clusters.worker(address, 1, root=other):
        with pytest.raises(CollectionError, match=rf"refused.*{other} on {socket.gethostname()} is version \w+ .*not version"):
            workers.ask(asked.square, [{"number": 1, "log": str(tmp_path / "log")}], "test")
    assert not (tmp_path / "log").exists()


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


def test_a_worker_that_is_killed_costs_a_retry_and_the_asker_keeps_all_answers(two, cache_folder, tmp_path, monkeypatch):
    log, numbers = tmp_path / "log", list(range(12))
    questions = [{"number": number, "log": str(log), "seconds": 0.3, "dies": number == 5} for number in numbers]
    monkeypatch.setenv("CLUSTER", two)
    found = workers.ask(asked.square, questions, "test")
    assert [each.answer for each in found] == [(number ** 2, f"{number}\n") for number in numbers] and not any(each.error for each in found)
    again = [number for number in numbers if asked.times(log).count(number) > 1]
    assert again == [5] and asked.times(log).count(5) == 2
    monkeypatch.delenv("CLUSTER")
    assert workers.ask(asked.square, questions, "test") == found and len(asked.times(log)) == 13


def test_a_process_that_dies_costs_a_retry_and_one_that_always_dies_an_error(cache_folder, tmp_path):
    log = tmp_path / "log"
    questions = [{"number": number, "log": str(log), "dies": dies} for number, dies in [(1, 0), (2, 1), (3, 9), (4, 0)]]
    found = workers.ask(asked.square, questions, "test", processes=True, at_once=2)
    assert [each.answer for each in found] == [(1, "1\n"), (4, "2\n"), None, (16, "4\n")]
    assert "process died 3 times" in str(found[2].error)
    assert [asked.times(log).count(number) for number in (1, 2, 3, 4)] == [1, 2, 3, 1]


@everywhere
def test_a_bug_of_ours_is_raised_as_it_is(ask, tmp_path):
    with pytest.raises(ZeroDivisionError):
        ask(asked.broken, [{"number": 1}, {"number": 0}, *[{"number": 2}] * 4])


@pytest.mark.parametrize("function", ["sleep", "wait"])
@pytest.mark.parametrize("place", ["threads", "processes"])
def test_an_interrupt_stops_soon_and_leaves_nothing(place, function, tmp_path):
    question = {"log": str(tmp_path / "log")} | ({"seconds": 61.25} if function == "sleep" else {})
    script = f"from lib import workers\nfrom tests.workers import asked\nworkers.ask(asked.{function}, [{question}] * 4, 'test', {place == 'processes'})"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, preexec_fn=heard, stderr=subprocess.PIPE, text=True)
    until((tmp_path / "log").exists)
    below = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=10)[1]
    assert time.monotonic() - began < 3 and said.strip().endswith("KeyboardInterrupt") and said.count("Traceback") == 1, said
    until(lambda: not any(each.is_running() and each.status() != "zombie" for each in below), seconds=3)


def test_progress_is_shown_to_who_looks_on_alone(monkeypatch, capsys):
    class Shell:
        def get_parent(self):
            return {"metadata": cell}

    class IPython:
        get_ipython = Shell

    monkeypatch.setattr(progress, "QUIET", 0)
    monkeypatch.setitem(sys.modules, "IPython", IPython)
    for cell, seen in [({}, False), ({"cellId": "c1"}, True)]:
        with progress.shown("sizes", 4) as show:
            time.sleep(0.01)
            show(3)
        assert ("sizes" in (said := capsys.readouterr().out)) == ("3/4" in said) == seen
