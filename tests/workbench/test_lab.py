"""The workbench in Jupyter itself: started as ``make lab`` does, asked over its REST API, with a kernel on the notebook."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from jupyter_client import BlockingKernelClient

from tests.conftest import ROOT

pytestmark = pytest.mark.xdist_group("lab")
CODE = [cell.source for cell in nbformat.read(ROOT / "notebooks/11-workbench.ipynb", 4).cells if cell.cell_type == "code"]


class Lab:
    """A server, and a client of the kernel that a session on the workbench has."""

    def __init__(self, port, server):
        self.address, self.server = f"http://127.0.0.1:{port}/api", server

    def call(self, path, body=None):
        """What the REST API answers."""
        asked = urllib.request.Request(f"{self.address}/{path}", json.dumps(body).encode() if body is not None else None,
                                       {"Authorization": "token x", "Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)

    def open(self):
        """Start a kernel on the notebook, as opening it does."""
        session = {"path": "notebooks/11-workbench.ipynb", "type": "notebook", "name": "11", "kernel": {"name": "python3"}}
        id = self.call("sessions", session)["kernel"]["id"]
        self.kernel = BlockingKernelClient(connection_file=str(Path(sys.prefix, f"jupyter/runtime/kernel-{id}.json")))
        self.kernel.load_connection_file()
        self.kernel.start_channels()
        self.kernel.wait_for_ready(timeout=120)

    def run(self, code, *typed):
        """Run code; what it shows and, after an error, the traceback; questions are answered with what is typed."""
        shown, typed = [], iter(typed)
        self.kernel.execute_interactive(
            code, timeout=300, allow_stdin=True, output_hook=lambda message: shown.append((message["msg_type"], message["content"])),
            stdin_hook=lambda _: self.kernel.input(next(typed)))
        return shown


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as the command starts it (here, as a rule, by root)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("lab") / "log"
    words = [sys.executable, "-m", "lib", "--outputs", log.parent / "outputs", "lab", "--number=11",
             f"--options=--no-browser --port={port} --ServerApp.port_retries=0 --ServerApp.token=x"]
    with open(log, "w") as file:
        server = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file)
    opened = Lab(port, server)
    try:
        for _ in range(240):
            try:
                opened.call("status")
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.25)
        opened.open()
        opened.log = log
        for source in CODE[:3]:  # parameters and imports, which each test needs, whichever is asked alone
            opened.run(source)
        yield opened
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def texts(shown):
    return "\n".join(str(each.get("data", {}).get("text/plain", "")) + each.get("text", "") for _, each in shown)


def test_the_workbench_opens_runs_and_leaves_nothing_beside_the_notebooks(lab):
    """Its cells run, a form for each tool; a checkpoint is made as JupyterLab does when it saves."""
    before = sorted(path.name for path in (ROOT / "notebooks").iterdir())
    assert "/lab/tree/notebooks/11-workbench.ipynb" in lab.log.read_text()
    assert lab.call("contents/notebooks/11-workbench.ipynb/checkpoints", {})["id"] == "checkpoint"
    shown = [each for source in CODE for each in lab.run(source)]
    assert not [each for kind, each in shown if kind == "error"]
    forms = [each for _, each in shown if "application/vnd.jupyter.widget-view+json" in each.get("data", {})]
    assert len(forms) == sum(source.startswith("widget(") for source in CODE) == 6
    assert sorted(path.name for path in (ROOT / "notebooks").iterdir()) == before


def test_tab_shows_what_a_room_defines(lab):
    """IPython's own completer, jedi and all: no module that a room imports, and nothing of the language."""
    lab.run("from lib.bug1_shared_memory import gemm, tiles\nfrom lib.bug2_kv_cache import blocks\nfrom lib import workbench, evidence")
    for code, there, missing in (("gemm.", {"Gemm", "measure"}, {"re", "os", "pd", "cache"}), ("blocks.", {"BlockManager", "replay"}, {"deque", "count"}),
                                 ("tiles.", {"grouped", "AUTO"}, {"Gemm", "dispatch"}), ("workbench.", {"tile", "widget"}, set()),
                                 ("evidence.", {"open", "compiled"}, set())):
        reply = lab.kernel.complete(code, reply=True, timeout=60)["content"]
        found = {match.removeprefix(code) for match in reply["matches"]}
        assert there <= found and not found & missing, (code, found)


def test_a_wrong_input_is_a_sentence_and_no_traceback(lab):
    (_, error), = [each for each in lab.run("tile(0, 128, 128)") if each[0] == "error"]
    assert error["traceback"] == ["m cannot be 0\n  next: give a whole number of elements from 1 to 1,024"]


def test_the_debugger_opens_where_the_tuner_raised(lab):
    """``%debug`` in the cell behind: FlashInfer's own frame, and its variables."""
    lab.run("spec([(300, 256), (300,)], constraint=(2, 1))")
    shown = texts(lab.run("%debug", "p constraint_spec.input_idx", "q"))
    assert "_find_nearest_profile" in shown and "\n2\n" in f"\n{shown}\n"
