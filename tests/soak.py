"""``python -m tests.soak SECONDS``: runs are killed, starved of disk and corrupted at random; the last report must stay.

By hand, not in CI. At the end no process and no file of a broken run is left over.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import nbformat
import psutil

from lib.report import commands, guard, record
from tests.conftest import command

OURS = "SM12X_SOAK"  # in the environment of all that this soak starts
GOOD = """import time
time.sleep(3)
from lib import evidence
evidence.open(1, '01-good').finding('good.one', beat='verify', claim='1a', parts={'it runs': evidence.executed(True, 'x==1')}, says='It ran.')"""
WORKS = "import subprocess\nsubprocess.run(['sleep', '4'])"


def write(folder, **sources):
    """Notebooks of a cell each."""
    for name, source in sources.items():
        cells = [nbformat.v4.new_markdown_cell(f"# {name}"), nbformat.v4.new_code_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name.strip('_').replace('_', '-')}.ipynb")


def begin(folder, outputs, limit="unlimited"):
    """A report under way (Popen); no file of it may have more than `limit` blocks."""
    words, keywords = command("--notebooks", folder, "report", "--jobs=2", outputs=outputs)
    return subprocess.Popen(["sh", "-c", 'ulimit -f "$0"; exec "$@"', limit, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **keywords)


def marks():
    """The marks of all runs of this soak that have a process (set of str): another run beside it is none of its own."""
    found = set()
    for process in psutil.process_iter():
        try:
            held = process.environ()
        except psutil.Error:
            continue
        if held.get(OURS) == os.environ[OURS]:
            found.add(held.get(guard.VARIABLE))
    return found - {None}


def tortured(folder, outputs, chance):
    """One run with one fault; what it was (str)."""
    fault = chance.choice(["kill", "kill", "terminate", "interrupt", "full", "worker", "notebook", "output"])
    if fault == "notebook":
        (folder / "02-works.ipynb").write_bytes(chance.randbytes(99))
    process = begin(folder, outputs, str(chance.choice([20, 200, 2000])) if fault == "full" else "unlimited")
    moment = time.monotonic() + chance.uniform(0.5, 16)
    while time.monotonic() < moment and process.poll() is None:
        time.sleep(0.05)
    sent = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
    if fault in sent:
        process.send_signal(sent[fault])
    if fault == "worker" and process.poll() is None:
        for child in psutil.Process(process.pid).children():
            if "ipykernel" in " ".join(child.cmdline()):
                child.kill()
    built = [path for path in outputs.glob(".building-*") if not (path / "evidence.json").exists()]  # what is read later on
    for path in [file for each in built for file in each.glob("notebooks/*.ipynb")] if fault == "output" else ():
        path.write_bytes(path.read_bytes()[:chance.randrange(200)])
    _, said = process.communicate(timeout=120)
    assert "Traceback" not in said, f"after {fault}:\n{said}"
    write(folder, _02_works=WORKS)
    return fault


def whole(outputs):
    """Hold the published report to be whole, and a good one."""
    kept = record.read(outputs / "evidence.json")
    assert [each["id"] for each in kept["findings"]] == ["good.one"] and kept["run"]["failed"] == []
    assert "It ran." in (outputs / "report/index.html").read_text() and (outputs / "report.zip").stat().st_size > 1e6
    assert all(nbformat.read(outputs / "notebooks" / name, as_version=4).cells for name in ("01-good.ipynb", "02-works.ipynb"))


def main(seconds):
    """Try faults for so many seconds, and say how many."""
    seed = time.time_ns()
    os.environ[OURS] = str(seed)
    chance, tried = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory(prefix="sm12x-soak-") as place:
        folder, outputs = Path(place, "notebooks"), Path(place, "outputs")
        folder.mkdir()
        write(folder, _01_good=GOOD, _02_works=WORKS)
        assert begin(folder, outputs).wait(300) == 0, "a run without a fault failed"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fault = tortured(folder, outputs, chance)
            tried[fault] += 1
            with commands.building(outputs) as mine:  # as the next run begins
                left = {path.name for path in outputs.iterdir()} - {*commands.PARTS, "failed", mine.name}
            assert not left, f"after {fault}, of seed {seed}: {left}"
            whole(outputs)
            print(f"{sum(tried.values())}: {fault}, the report is whole", flush=True)
        deadline = time.monotonic() + 20
        while (late := marks()) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not late, f"processes are left: {late}"
        assert begin(folder, outputs).wait(300) == 0
        whole(outputs)
        assert {path.name for path in outputs.iterdir()} == {*commands.PARTS}
        shutil.rmtree(outputs)
    print(f"{sum(tried.values())} faults ({', '.join(f'{count} {name}' for name, count in sorted(tried.items()))}): "
          "each time the good report stayed whole, and no process and no file was left over")


if __name__ == "__main__":
    os.environ.pop(guard.VARIABLE, None)
    main(float(sys.argv[1]) if sys.argv[1:] and sys.argv[1] else 600)
