"""The runner: a failure stops nothing else, an interrupt leaves nothing behind, two runs do not meet."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest

from lib import cache
from lib.__main__ import parser
from lib.errors import CollectionError
from lib.report import commands, guard, record, runner
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
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):  # one that has ended meanwhile
            found += [child] if "ipykernel" in " ".join(child.cmdline()) else []
    return found


def test_a_failing_notebook_does_not_stop_the_others(notebooks, tmp_path):
    folder = notebooks(_01_good=GOOD, _02_raises=["# Raises", "1 / 0"])
    done = run(folder, tmp_path / "out", "report")
    assert done.returncode == 1
    assert "FAILED 02-raises, cell 2: ZeroDivisionError: division by zero" in done.stdout
    assert not (tmp_path / "out/report").exists() and "outputs" not in done.stderr
    failed = tmp_path / "out/failed"
    kept = json.loads((failed / "evidence.json").read_text())
    assert [each["id"] for each in kept["findings"]] == ["good.one"]
    assert kept["run"]["failed"] == [{"notebook": "02-raises", "cell": 2, "error": "ZeroDivisionError: division by zero"}]
    page = (failed / "report/02-raises.html").read_text()
    assert "ZeroDivisionError" in page and "This cell failed" in page and "02-raises.html" in last_report(failed)


def test_a_killed_kernel_and_a_time_out_are_failures_like_any_other(notebooks, tmp_path):
    folder = notebooks(_01_killed=["# Killed", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"],
                       _02_slow=["# Slow", "import time\ntime.sleep(600)"], _03_good=GOOD)
    done = run(folder, tmp_path / "out", "--cell-seconds", "15", "report")
    assert done.returncode == 1
    assert "FAILED 01-killed, cell 2: DeadKernelError" in done.stdout
    assert "FAILED 02-slow, cell 2: CellTimeoutError" in done.stdout
    assert "DeadKernelError" in (tmp_path / "out/failed/report/01-killed.html").read_text()
    assert "CellTimeoutError" in (tmp_path / "out/failed/report/02-slow.html").read_text()
    assert json.loads((tmp_path / "out/failed/evidence.json").read_text())["findings"]


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_the_last_report_and_no_kernel(notebooks, tmp_path, which):
    folder = notebooks(_01_slow=["# Slow", "import time\nprint('begun', flush=True)\ntime.sleep(600)"], _02_slow=["# Slow", "import time\ntime.sleep(600)"], _03_waits=GOOD)
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
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"notebooks", "evidence.json", "report", "report.zip"}


def test_one_notebook_with_parameters_of_the_readers(tmp_path):
    done = run("notebooks", tmp_path / "out", "notebook", "00", "target_arch=sm_120a")
    assert done.returncode == 0, done.stdout + done.stderr
    executed = (tmp_path / "out/single/00-machine.ipynb").read_text()
    assert 'target_arch = \\"sm_120a\\"' in executed and not (tmp_path / "out/report").exists()


@pytest.mark.parametrize("words, said", [
    (["99"], "names 0 notebooks"), (["0"], rf"names {len(list((ROOT / 'notebooks').glob('0*.ipynb')))} notebooks"), (["00", "nonsense"], "is no parameter"),
    (["04", "modl=x"], "04-autotuner has no parameter 'modl'"), (["02", "target_arch=sm_121a", "Model=x"], "02-kv-cache has no parameter 'Model'")])
def test_a_wrong_notebook_or_parameter_is_explained(tmp_path, words, said):
    arguments = parser().parse_args(["--notebooks", str(ROOT / "notebooks"), "--outputs", str(tmp_path / "out"), "notebook", *words])
    with pytest.raises(CollectionError, match=said) as raised:
        arguments.run(arguments)
    assert raised.value.next_step and not (tmp_path / "out").exists()


def test_make_refuses_a_parameter_that_a_notebook_does_not_have(tmp_path):
    """The whole way from the command line, on the environment that runs this test: a refusal names the parameter, and those there are."""
    done = subprocess.run(["make", "--no-print-directory", "-o", ".venv/ready", "notebook", "N=04", "P=modl=x", f"RUN={sys.executable}"],
                          cwd=ROOT, capture_output=True, text=True, timeout=60)
    said = " ".join(done.stdout.split())
    assert done.returncode == 2 and "04-autotuner has no parameter 'modl'" in said and "target_arch" in said.partition("next:")[2], done.stdout + done.stderr


def test_the_scoreboard_takes_any_evidence_by_parameter_and_ends_with_the_claims_that_have_none(tmp_path):
    """Of a run with two findings: each section stands, the short account has the lines that the findings carry, and no name of a value matters."""
    found = [finding("fp4-gemm.x", "1b", "compiled", "refuted") | {"summary": "It fits."}, finding("seen.y") | {"summary": "Seen."}]
    failed = {"notebook": "02-kv-cache", "cell": 3, "error": "ValueError: of a test"}
    record.write(tmp_path / "evidence.json", RUN | {"failed": [failed]}, found)
    (tmp_path / "other").mkdir()
    record.write(tmp_path / "other/evidence.json", RUN | {"name": "spark"}, [found[0] | {"tier": "sm12x", "verdict": "confirmed"}])
    done = run("notebooks", tmp_path / "out", "notebook", "10", f"evidence_json={tmp_path / 'evidence.json'}", f"others={tmp_path / 'other'}{os.pathsep}{tmp_path / 'no'}")
    said = " ".join(done.stdout.split())
    assert done.returncode == 1 and "no finding speaks to the claims M1, M2" in said and " 1b," not in said
    executed = nbformat.read(tmp_path / "out/single/10-scoreboard.ipynb", as_version=4)
    shown = {cell.source.strip(): "".join(output.data.get("text/markdown", output.data.get("text/html", "")) for output in cell.outputs if "data" in output)
             for cell in executed.cells if cell.cell_type == "code"}
    assert "It fits." in shown['scoreboard.html("answers", findings)'] and "No notebook of this run speaks to it." in shown['scoreboard.html("answers", findings)']
    missing = next(text for source, text in shown.items() if source.startswith("# what is missing"))
    assert "02-kv-cache failed in cell 3: ValueError: of a test" in missing and "claims M1, M2" in missing and " 1b," not in missing
    assert "≠ verdict" in shown['comparison.html("apart", shown)'] and "spark" in shown['comparison.html("apart", shown)']
    machines_shown = next(text for source, text in shown.items() if source.endswith('comparison.html("claims", shown)'))
    assert "spark" in machines_shown and "Evidence that is not shown" in machines_shown and "h100" not in machines_shown
    assert sum(any(output.output_type == "error" for output in cell.get("outputs", [])) for cell in executed.cells) == 1


@pytest.mark.parametrize("seconds, status, said", [
    ("2", 1, "FAILED 01-good, cell 1: RuntimeError: Kernel didn't respond in 2 seconds"), ("60", 0, "It ran."),
    ("soon", 1, "SM12X_START_TIMEOUT is 'soon', and no whole number")])
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
    for wrong in ("0", "-5", "1.5"):
        monkeypatch.setenv("SM12X_START_TIMEOUT", wrong)
        with pytest.raises(CollectionError, match=f"SM12X_START_TIMEOUT is '{wrong}'"):
            runner.start_seconds()


@pytest.mark.parametrize("deaths, outcome", [(0, ""), (2, ""), (3, "RuntimeError: Kernel died before replying to kernel_info")])
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
    assert job.error == outcome and left == [] and job.state == ("failed" if outcome else "done")


def test_what_fails_in_a_cell_is_not_tried_again(notebooks, tmp_path):
    folder = notebooks(_01_raises=["# Raises", f"open({str(tmp_path / 'ran')!r}, 'a').write('x')\nraise RuntimeError({runner.NEVER_BEGAN!r})"])
    done = run(folder, tmp_path / "out", "notebook", "01")
    assert done.returncode == 1 and (tmp_path / "ran").read_text() == "x"


def ended(processes, seconds=15):
    """Whether processes end by themselves."""
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def test_what_is_published_last_stays_although_a_later_run_fails_unless_it_is_kept(notebooks, tmp_path):
    folder, out = notebooks(_01_good=GOOD), tmp_path / "out"
    assert run(folder, out, "report").returncode == 0
    before = (out / "evidence.json").read_bytes(), (out / "report/index.html").read_bytes()
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), folder / "02-bad.ipynb")
    (folder / "03-none.ipynb").write_text("{")
    done = run(folder, out, "report")
    assert done.returncode == 1 and "FAILED 03-none, cell 1: NotJSONError" in done.stdout and "out/failed/report/index.html" in "".join(done.stdout.split())
    assert before == ((out / "evidence.json").read_bytes(), (out / "report/index.html").read_bytes())
    assert [(each["notebook"], each["cell"]) for each in record.read(out / "failed/evidence.json")["run"]["failed"]] == [("02-bad", 1), ("03-none", 1)]
    assert "NotJSONError" in (out / "failed/report/03-none.html").read_text()
    assert run(folder, out, "report", "--keep").returncode == 1 and not (out / "failed").exists()
    assert "NotJSONError" in (out / "report/03-none.html").read_text()


@pytest.mark.parametrize("at", range(5))
def test_a_report_that_is_cut_off_while_it_is_put_in_place_leaves_the_last_one(tmp_path, monkeypatch, at):
    """After each of the renames."""
    def parts(folder, text):
        for name in commands.PARTS:
            (folder / name).mkdir(parents=True)
            (folder / name / "text").write_text(text)
        return folder
    out, built, renamed = parts(tmp_path / "out", "last"), parts(tmp_path / "out/.building-x", "new"), []
    rename = os.rename

    def cut_off(*places):
        if len(renamed) >= at:
            raise SystemExit("killed")
        renamed.append(places)
        rename(*places)
    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(os, "rename", cut_off)
        commands.publish(built, out)
    with commands.building(out) as folder:
        assert {path.name for path in out.iterdir()} == {*commands.PARTS, folder.name}
    assert {(out / name / "text").read_text() for name in commands.PARTS} == {"last"}


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_no_notebooks_at_once_is_refused(capsys, jobs):
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["report", f"--jobs={jobs}"])
    assert "give 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("target, name, text", [("notebook", "P", "back_ends=trtllm-gen; touch {}"), ("notebook", "N", '"; touch {}; echo "'), ("record", "NAME", '"; touch {}; $(touch {})'),
                                                 ("report", "EVIDENCE", "'; touch {}"), ("report", "JOBS", "0; touch {}"), ("lab", "N", "$(touch {})"),
                                                 ("record", "NOTE", """it's "$HOME" and $(touch {}), `id`; 5 $""")])
def test_what_a_reader_gives_to_make_is_not_run(tmp_path, target, name, text):
    """Nothing is expanded, by make or by the shell: it arrives as it is, in one word."""
    (tmp_path / "say").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "say").chmod(0o755)
    given = {"N": "07", "NAME": "x", name: text.format(*[tmp_path / "run"] * 2)}
    done = subprocess.run(["make", "--no-print-directory", "-o", ".venv/ready", target, *map("=".join, given.items()), f"RUN={tmp_path / 'say'}"],
                          cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not (tmp_path / "run").exists() and given[name] in {line.partition("=")[2] or line for line in done.stdout.splitlines()} | set(
        done.stdout.splitlines())


def test_clean_removes_what_dead_runs_left_and_keeps_what_was_recorded(tmp_path):
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    left = [".venv", "outputs/.building-1", "outputs/.recording-2", "outputs/failed", "outputs/report", "notebooks/.ipynb_checkpoints"]
    kept = ["outputs/recorded/h100", "notebooks", "outputs"]
    for name in left + kept:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert not [name for name in left if (tmp_path / name).exists()] and all((tmp_path / name).is_dir() for name in kept)


def test_words_of_make_are_split_as_a_shell_would():
    assert parser().parse_args(["report", "--evidence", "/a:b 'c d'"]).evidence == [["/a:b", "c d"]]
    with pytest.raises(SystemExit):
        parser().parse_args(["report", "--evidence", "'"])


def test_after_a_kill_workers_and_what_they_started_end_and_the_next_run_clears_up(notebooks, tmp_path):
    out = tmp_path / "out"
    folder = notebooks(_01_slow=["# Slow", "import subprocess\nsubprocess.run(['setsid', 'sleep', '600'])"])
    arguments, keywords = command("--notebooks", folder, "report", outputs=out)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **keywords)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        family = psutil.Process(process.pid).children(recursive=True)
        if any(each.name() == "sleep" for each in family):
            break
        time.sleep(0.2)
    assert any(each.name() == "sleep" for each in family)
    process.kill()
    assert process.wait(20) == -9 and ended(family)
    assert len(list(out.glob(".building-*"))) == 1
    with commands.building(out) as mine:
        assert list(out.glob(".building-*")) == [mine]
        with commands.building(out) as other:
            assert mine.is_dir() and other.is_dir(), "one that lives is left"


def test_a_second_interrupt_is_as_clean_as_one(notebooks, tmp_path):
    folder = notebooks(_01_stubborn=["# Stubborn", "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)"])
    arguments, keywords = command("--notebooks", folder, "report", outputs=tmp_path / "out")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **keywords)
    deadline = time.monotonic() + 90
    while not kernels_of(process) and time.monotonic() < deadline:
        time.sleep(0.2)
    family = psutil.Process(process.pid).children(recursive=True)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in output and "as it was" in output and ended(family)
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_cannot_be_written_is_a_sentence(notebooks, tmp_path):
    (tmp_path / "file").write_text("")
    done = run(notebooks(_01_good=GOOD), tmp_path / "file/out", "report")
    assert done.returncode == 1 and "next: free some space" in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_a_full_disk_is_a_sentence(notebooks, tmp_path):
    """No file may have more than 100 kB: what is too large for that is plotly, on its way into the site."""
    arguments, keywords = command("--notebooks", notebooks(_01_good=GOOD), "report", outputs=tmp_path / "out")
    limited = ["sh", "-c", 'ulimit -f 200; exec "$@"', "sh", *arguments]
    done = subprocess.run(limited, capture_output=True, timeout=120, **keywords)
    assert done.returncode == 1 and "next: free some space" in done.stdout and "Traceback" not in done.stdout + done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_what_a_cell_prints_is_cut_in_its_notebook_and_further_on_its_page(notebooks, tmp_path):
    folder = notebooks(_01_prints=["# Prints", "print('x' * 30_000_000)"])
    assert run(folder, tmp_path / "out", "report").returncode == 0
    kept, shown = tmp_path / "out/notebooks/01-prints.ipynb", tmp_path / "out/report/01-prints.html"
    assert runner.KEPT < kept.stat().st_size < 1.01 * runner.KEPT and runner.SHOWN < shown.stat().st_size < 1.2 * runner.SHOWN
    assert "10,000,000 of 30,000,001 characters" in kept.read_text() and "1,000,000 of " in shown.read_text()


def test_a_mark_finds_only_what_was_started_with_it():
    marked = subprocess.Popen(["sleep", "60"], env={guard.VARIABLE: "of a test"})
    other = subprocess.Popen(["sleep", "60"], env={guard.VARIABLE: "of another"})
    try:
        assert guard.send("of a test", signal.SIGKILL) == 1 and marked.wait(10) == -9 and other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_the_lab_opens_where_it_is_told_and_outlives_what_began_it(monkeypatch):
    """JupyterLab's own list of its settings: no checkpoint goes beside a notebook."""
    done = subprocess.run(["make", "--no-print-directory", "-o", ".venv/ready", "lab", "N=04", "L=--show-config", f"RUN={sys.executable}"],
                          cwd=ROOT, capture_output=True, text=True, timeout=90)
    shown = done.stdout + done.stderr
    assert done.returncode == 0 and "/lab/tree/notebooks/04-autotuner.ipynb" in shown, shown
    became = []
    monkeypatch.setattr(os, "execv", lambda _, words: became.extend(words))
    for name in ("JUPYTER_DATA_DIR", guard.VARIABLE):
        monkeypatch.setenv(name, "of a test")
    arguments = parser().parse_args(["lab", "--options=--ip=0.0.0.0"])
    arguments.run(arguments)
    assert "--LabApp.default_url=/lab/tree/notebooks" in became and became[-1] == "--ip=0.0.0.0"
    checkpoints = next(line for line in shown.splitlines() if ".checkpoint_dir" in line)
    assert str(Path(sys.prefix) / "jupyter/data/checkpoints") in checkpoints


def test_an_invalid_finding_costs_itself_and_not_the_run(notebooks, tmp_path):
    """One without a beat, and one whose id another notebook has: named by cell, on the page and in the evidence, and the rest is published."""
    bad = "from IPython.display import display\nfrom lib import evidence\ndisplay({evidence.findings.MIME: {'id': 'bad.one'}, 'text/plain': 'its text'}, raw=True)"
    folder = notebooks(_01_good=GOOD, _02_twice=["# Twice", GOOD[2].replace("01-good", "02-twice")], _03_bad=["# Bad", bad])
    done, said = run(folder, tmp_path / "out", "report"), ["the finding good.one is that of 01-good, too", "the finding bad.one is not as the schema says"]
    assert done.returncode == 1 and f"FAILED 02-twice, cell 2: {said[0]}" in done.stdout and f"FAILED 03-bad, cell 2: {said[1]}" in done.stdout
    kept = record.read(tmp_path / "out/evidence.json")
    assert [each["id"] for each in kept["findings"]] == ["good.one"] and not (tmp_path / "out/failed").exists()
    assert [(each["notebook"], each["cell"]) for each in kept["run"]["failed"]] == [("02-twice", 2), ("03-bad", 2)]
    for name, words in zip(("02-twice", "03-bad"), said):
        assert words in (tmp_path / f"out/report/{name}.html").read_text() and words in last_report(tmp_path / "out")


READ_ONLY = """import errno, os, sys
ROOT = os.environ["READ_ONLY"]
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate", "os.utime", "shutil.rmtree"}


def refuse(event, arguments):
    change = event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
    for path in arguments[:2] if change else ():
        if isinstance(path, str | os.PathLike) and os.path.realpath(path).startswith(ROOT):
            raise OSError(errno.EROFS, "Read-only file system", str(path))


sys.addaudithook(refuse)
"""
ASKS = ["# Asks", "parameters = 1", """from lib.instruments import ptxas, toolchain
from lib.evidence import compiled, open
limits = ptxas.limits(toolchain.find(), 'sm_121a')
open(1, '01-asks').measured('limits.one', beat='verify', by=compiled, says='It was asked.', values={'limits': limits})"""]


@pytest.mark.parametrize("warm", [True, False])
def test_a_read_only_cache_is_enough_for_a_report_if_it_is_warm(notebooks, tmp_path, monkeypatch, warm):
    """Every Python process of the run is refused all changes below the cache, as by a file system that is mounted read-only."""
    (tmp_path / "sitecustomize.py").write_text(READ_ONLY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("READ_ONLY", str((cache.root() if warm else tmp_path / "cache").resolve()))
    if not warm:
        monkeypatch.setenv("SM12X_CACHE", str(tmp_path / "cache"))
    done = run(notebooks(_01_asks=ASKS), tmp_path / "out", *(["report"] if warm else ["notebook", "01"]))
    assert done.returncode == (0 if warm else 1), done.stdout + done.stderr
    assert warm == ("no permission" not in done.stdout.replace("\n", " ")) and "Traceback" not in done.stdout + done.stderr
    assert not warm or record.read(tmp_path / "out/evidence.json")["run"]["missing"] == {}
