"""One real report for all tests that read evidence or look at the site; small notebooks of our own for the failures."""

import fcntl
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(sys.prefix) / "hypothesis"))  # not into the tree

# Excerpts of TensorRT-LLM's own files, a folder for each of four layouts; they are not ours to publish.
TREES = Path(os.environ.get("TRTLLM_TREES") or ROOT.parent / "shared/tensorrt-llm")


def tree_of(name):
    """A tree of `TREES` (Path), or a skip that says which is not there."""
    if not (TREES / name).is_dir():
        pytest.skip(f"{TREES / name} is not there: set TRTLLM_TREES to the folder of the excerpts")
    return TREES / name


def heard():
    """For a child of a test to run first: it hears signals, although nohup or a shell's & has the tests ignore some."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)


def command(*arguments, outputs, **keywords):
    """``python -m lib`` with the outputs in a folder of the test's."""
    return [sys.executable, "-m", "lib", "--outputs", str(outputs), *map(str, arguments)], {"cwd": ROOT, "text": True} | keywords


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """The folder of a whole report, made once for all test processes (Path)."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    folder, log = shared / "outputs", shared / "report.log"
    with open(shared / "report.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not log.exists():
            words, keywords = command("--recorded", ROOT / "outputs" / "recorded", "report", outputs=folder)
            done = subprocess.run(words, capture_output=True, **keywords)
            log.write_text(f"status {done.returncode}\n{done.stdout}\n{done.stderr}")
    assert log.read_text().startswith("status 0\n"), log.read_text()[-3000:]
    return folder


@pytest.fixture(scope="session")
def findings(report):
    """The findings of the report by id (dict of dict)."""
    return {finding["id"]: finding for finding in json.loads((report / "evidence.json").read_text())["findings"]}


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """An empty cache for one test."""
    monkeypatch.setenv("SM12X_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def notebooks(tmp_path):
    """Make a folder of small notebooks: name to a list of code cells (a str that begins with ``# `` is markdown)."""
    def make(**named):
        folder = tmp_path / "notebooks"
        folder.mkdir()
        for name, cells in named.items():
            notebook = nbformat.v4.new_notebook(cells=[
                nbformat.v4.new_markdown_cell(cell) if cell.startswith("# ") else nbformat.v4.new_code_cell(cell) for cell in cells])
            nbformat.write(notebook, folder / f"{name.lstrip('_').replace('_', '-')}.ipynb")
        return folder
    return make


@pytest.fixture(scope="session")
def cells():
    """A notebook's cells by its name, run once in this process (`tests.cells.Cells`)."""
    from tests.cells import Cells
    return functools.cache(Cells)


@pytest.fixture(scope="module")
def notebook(request, cells):
    """The cells of the notebook that a test's module names (`NAME`)."""
    return cells(request.module.NAME)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
needs_chromium = pytest.mark.skipif(not CHROMIUM and not os.environ.get("CI"), reason="chromium is not installed: apt-get install chromium, and run again")


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, which asks for nothing outside this machine."""
    from playwright.sync_api import sync_playwright
    assert CHROMIUM, "in CI the site is tested in Chromium: apt-get install chromium"
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()
