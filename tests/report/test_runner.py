"""The runner: a failure stops nothing else, an interrupt leaves nothing behind, two runs do not meet."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from lib.report import commands, record, runner
from tests.conftest import ROOT, command
from tests.evidence.test_findings import RUN, finding

GOOD = ["# Good", "parameters = 1", "from lib import evidence\nevidence.open(1, '01-good').finding("
        "'good.one', beat='verify', claim='1a', parts={'it runs': evidence.executed(True, 'x==1')}, says='It ran.')"]


def run(folder, outputs, *arguments, seconds=120):
    words, keywords = command("--notebooks", folder, *arguments, outputs=outputs)
    return subprocess.run(words, capture_output=True, timeout=seconds, **keywords)


def last_report(outputs):
    return (outputs / "report" / "index.html").read_text()


def kernels_of(process):
    return [child for child in psutil.Process(process.pid).children(recursive=True) if "ipykernel" in " ".join(child.cmdline())]


def test_a_failing_notebook_does_not_stop_the_others(notebooks, tmp_path):
    folder = notebooks(_01_good=GOOD, _02_raises=["# Raises", "1 / 0"])
    done = run(folder, tmp_path / "out", "report")
    assert done.returncode == 1
    assert "FAILED 02-raises, cell 2: ZeroDivisionError: division by zero" in done.stdout
    kept = json.loads((tmp_path / "out/evidence.json").read_text())
    assert [each["id"] for each in kept["findings"]] == ["good.one"]
    page = (tmp_path / "out/report/02-raises.html").read_text()
    assert "ZeroDivisionError" in page and "This cell failed" in page and "02-raises.html" in last_report(tmp_path / "out")


def test_a_killed_kernel_and_a_time_out_are_failures_like_any_other(notebooks, tmp_path):
    folder = notebooks(_01_killed=["# Killed", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"],
                       _02_slow=["# Slow", "import time\ntime.sleep(600)"], _03_good=GOOD)
    done = run(folder, tmp_path / "out", "--cell-seconds", "15", "report")
    assert done.returncode == 1
    assert "FAILED 01-killed, cell 2: DeadKernelError" in done.stdout
    assert "FAILED 02-slow, cell 2: CellTimeoutError" in done.stdout
    assert "DeadKernelError" in (tmp_path / "out/report/01-killed.html").read_text()
    assert "CellTimeoutError" in (tmp_path / "out/report/02-slow.html").read_text()
    assert json.loads((tmp_path / "out/evidence.json").read_text())["findings"]


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_the_last_report_and_no_kernel(notebooks, tmp_path, which):
    folder = notebooks(_01_slow=["# Slow", "import time\nprint('begun', flush=True)\ntime.sleep(600)"], _02_slow=["# Slow", "import time\ntime.sleep(600)"])
    (tmp_path / "out/report").mkdir(parents=True)
    (tmp_path / "out/report/index.html").write_text("the last good one")
    words, keywords = command("--notebooks", folder, "report", "--jobs", "2", outputs=tmp_path / "out")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **keywords)
    deadline = time.monotonic() + 90
    while len(kernels_of(process)) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(kernels_of(process)) == 2
    time.sleep(1)
    os.killpg(process.pid, which) if which == signal.SIGINT else process.terminate()
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 130 and "the last report is as it was" in output
    assert last_report(tmp_path / "out") == "the last good one"
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".building")] == []
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_two_runs_at_once_both_end_whole(notebooks, tmp_path):
    folder = notebooks(_01_good=GOOD)
    words, keywords = command("--notebooks", folder, "report", outputs=tmp_path / "out")
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **keywords) for _ in range(2)]
    assert [process.communicate(timeout=120) and process.returncode for process in both] == [0, 0]
    assert "It ran." in last_report(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"notebooks", "evidence.json", "report", "report.zip", ".lock"}


def test_one_notebook_with_parameters_of_the_readers(tmp_path):
    done = run("notebooks", tmp_path / "out", "notebook", "00", "target_arch=sm_120a")
    assert done.returncode == 0, done.stdout + done.stderr
    executed = (tmp_path / "out/single/00-machine.ipynb").read_text()
    assert 'target_arch = \\"sm_120a\\"' in executed and not (tmp_path / "out/report").exists()


@pytest.mark.parametrize("words, said", [
    (["99"], "names 0 notebooks"), (["0"], "names 9 notebooks"), (["00", "nonsense"], "is no parameter"),
    (["04", "modl=x"], "04-autotuner has no parameter 'modl'"), (["02", "target_arch=sm_121a", "Model=x"], "02-kv-cache has no parameter 'Model'")])
def test_a_wrong_notebook_or_parameter_is_explained(tmp_path, words, said):
    done = run("notebooks", tmp_path / "out", "notebook", *words)
    assert done.returncode == 1 and said in " ".join(done.stdout.split()) and "next:" in done.stdout and not (tmp_path / "out/single").exists()


def test_make_refuses_a_parameter_that_a_notebook_does_not_have(tmp_path):
    """The whole way from the command line, on the environment that runs this test: a refusal names the parameter, and those there are."""
    done = subprocess.run(["make", "--no-print-directory", "-o", ".venv/ready", "notebook", "N=04", "P=modl=x", f"RUN={sys.executable}"],
                          cwd=ROOT, capture_output=True, text=True, timeout=60)
    said = " ".join(done.stdout.split())
    assert done.returncode == 2 and "04-autotuner has no parameter 'modl'" in said and "target_arch" in said.partition("next:")[2], done.stdout + done.stderr


def test_the_scoreboard_takes_any_evidence_by_parameter_and_ends_with_the_claims_that_have_none(tmp_path):
    """Of a run with two findings: each section stands, the short account has the lines that the findings carry, and no name of a value matters."""
    found = [finding("fp4-gemm.x", "1b", "compiled", "refuted") | {"summary": "It fits."}, finding("seen.y") | {"summary": "Seen."}]
    record.write(tmp_path / "evidence.json", RUN, found)
    (tmp_path / "other").mkdir()
    record.write(tmp_path / "other/evidence.json", RUN | {"name": "spark"}, [found[0] | {"tier": "sm12x", "verdict": "confirmed"}])
    done = run("notebooks", tmp_path / "out", "notebook", "08", f"evidence_json={tmp_path / 'evidence.json'}", f"others={tmp_path / 'other'}{os.pathsep}{tmp_path / 'no'}")
    said = " ".join(done.stdout.split())
    assert done.returncode == 1 and "no finding speaks to the claims M1, M2" in said and " 1b," not in said
    executed = nbformat.read(tmp_path / "out/single/08-scoreboard.ipynb", as_version=4)
    shown = {cell.source.strip(): "".join(output.data.get("text/markdown", output.data.get("text/html", "")) for output in cell.outputs if "data" in output)
             for cell in executed.cells if cell.cell_type == "code"}
    assert shown["scoreboard.short(findings, words)"] == "- **The tiles of the first bug fit.** It fits."
    assert "≠ verdict" in shown['comparison.html("apart", shown)'] and "spark" in shown['comparison.html("apart", shown)']
    machines_shown = next(text for source, text in shown.items() if source.endswith('comparison.html("claims", shown)'))
    assert "spark" in machines_shown and "Evidence that is not shown" in machines_shown and "h100" not in machines_shown
    assert sum(any(output.output_type == "error" for output in cell.get("outputs", [])) for cell in executed.cells) == 1


def test_numbers_booleans_and_versions_of_the_readers_arrive_as_such():
    given = commands.parse(["n=4", "x=0.5", "on=true", "version=0.7.2.post1", "path=a=b", "none="], ["n", "x", "on", "version", "path", "none"], "04")
    assert given == {"n": 4, "x": 0.5, "on": True, "version": "0.7.2.post1", "path": "a=b", "none": None}


@pytest.mark.parametrize("seconds, status, said", [
    ("2", 1, "FAILED 01-good, cell 1: RuntimeError: Kernel didn't respond in 2 seconds"), ("60", 0, "It ran."),
    ("0", 1, "SM12X_START_TIMEOUT is '0'"), ("-5", 1, "SM12X_START_TIMEOUT is '-5'"), ("soon", 1, "SM12X_START_TIMEOUT is 'soon', and no whole number")])
def test_how_long_a_kernel_may_take_to_start_is_the_users_to_say(notebooks, tmp_path, monkeypatch, seconds, status, said):
    """A kernel that sleeps before it begins, found before the environment's own."""
    slow = tmp_path / "share/kernels/python3"
    slow.mkdir(parents=True)
    (slow / "kernel.json").write_text(json.dumps({"display_name": "slow", "language": "python", "argv": [
        "sh", "-c", f"sleep 6; exec {sys.executable} -m ipykernel_launcher -f {{connection_file}}"]}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    monkeypatch.setenv("SM12X_START_TIMEOUT", seconds)
    start = time.monotonic()
    done = run(notebooks(_01_good=GOOD), tmp_path / "out", "notebook", "01")
    words = " ".join(done.stdout.split())
    assert done.returncode == status and said in words and ("next:" in words or seconds in ("2", "60")), done.stdout + done.stderr
    assert seconds != "60" or time.monotonic() - start > 6, "the slow kernel was not the one that ran"


@pytest.mark.parametrize("deaths, outcome", [(0, ""), (2, ""), (3, "cell 1: RuntimeError: Kernel died before replying to kernel_info")])
def test_a_kernel_that_dies_before_it_begins_is_started_again(monkeypatch, tmp_path, deaths, outcome):
    import papermill
    notebook = tmp_path / "in.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), notebook)
    left = [RuntimeError(runner.NEVER_BEGAN)] * deaths

    def execute(*_, **__):
        if left:
            raise left.pop()
    monkeypatch.setattr(papermill, "execute_notebook", execute)
    job = runner.Job(notebook, tmp_path / "out.ipynb")
    runner.execute(job)
    assert job.error == outcome and left == [] and job.state == (runner.FAILED if outcome else runner.DONE)


def test_what_fails_in_a_cell_is_not_tried_again(notebooks, tmp_path):
    folder = notebooks(_01_raises=["# Raises", f"open({str(tmp_path / 'ran')!r}, 'a').write('x')\nraise RuntimeError({runner.NEVER_BEGAN!r})"])
    done = run(folder, tmp_path / "out", "notebook", "01")
    assert done.returncode == 1 and (tmp_path / "ran").read_text() == "x"
