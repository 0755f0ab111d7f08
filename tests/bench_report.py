"""How long a report takes, cold and warm, how much memory, and what the runner adds to papermill."""

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from lib import cache
from lib.bug4_autotuner import autotuner, tuning
from lib.report import runner, site
from lib.subjects import wheels
from tests.conftest import CHROMIUM, ROOT, command

LAST = [ROOT / "notebooks/10-scoreboard.ipynb"]  # reads what the others state
STATING = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path not in LAST and path.stem not in site.APART]


def _timed(words, **keywords):
    """Run to the end: seconds, and the highest sum of unshared memory of the process and its children, in bytes."""
    start, highest = time.perf_counter(), 0
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **keywords)
    done = threading.Event()

    def watch():
        nonlocal highest
        while not done.wait(0.3):
            total = 0
            for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
                try:
                    total += member.memory_full_info().uss
                except psutil.Error:
                    pass
            highest = max(highest, total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    process.wait()
    done.set()
    return time.perf_counter() - start, highest


def _row(bar, measured, limit, unit):
    return {"bar": bar, "measured": measured, "limit": limit, "unit": unit, "ok": measured <= limit}


def report_cold_and_warm():
    """A report with nothing cached but the downloads, then one with everything cached."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "cache")
        empty.mkdir()
        (empty / "wheels").symlink_to(cache.root() / "wheels")
        words, keywords = command("report", outputs=Path(folder, "out"))
        environment = os.environ | {"SM12X_CACHE": str(empty)}
        cold, cold_memory = _timed(words, env=environment, **keywords)
        warm, warm_memory = _timed(words, env=environment, **keywords)
    return [_row("report, cold after downloads", cold, 480, "s"), _row("report, warm", warm, 60, "s"),
            _row("report, cold: peak memory", cold_memory / 1e9, 8, "GB"), _row("report, warm: peak memory", warm_memory / 1e9, 4, "GB")]


def _best_schedule(seconds):
    """The shortest time in which two cores can do jobs of these lengths."""
    splits = itertools.product((0, 1), repeat=len(seconds))
    return min(max(sum(t for t, s in zip(seconds, split) if s), sum(t for t, s in zip(seconds, split) if not s)) for split in splits)


def _papermill(paths, folder, environment, *more):
    """Seconds that papermill's command line takes for notebooks, one after the other."""
    start = time.perf_counter()
    for path in paths:
        subprocess.run([sys.executable, "-m", "papermill", path, Path(folder, path.name), "--cwd", path.parent, "--no-progress-bar", *more],
                       cwd=ROOT, env=environment, capture_output=True, check=True)
    return time.perf_counter() - start


def report_against_papermill():
    """The whole of ``make report``, warm, against papermill's command line over the same notebooks one after the other."""
    environment = os.environ | runner.environment(Path(sys.prefix) / "jupyter")
    with tempfile.TemporaryDirectory() as folder:
        words, keywords = command("report", outputs=Path(folder, "out"))
        _timed(words, **keywords)
        evidence = ("-p", "evidence_json", Path(folder, "out/evidence.json"))
        ours, theirs = [], []
        for _ in range(2):
            ours.append(_timed(words, **keywords)[0])
            theirs.append(_papermill(STATING, folder, environment) + _papermill(LAST, folder, environment, *evidence))
    return [_row(f"make report ({min(ours):.0f} s) over sequential papermill ({min(theirs):.0f} s)", min(ours) / min(theirs), 1.0, "ratio")]


def runner_against_papermill():
    """One job against papermill's command line over the same notebooks, in both orders; two jobs against the best schedule."""
    environment = os.environ | runner.environment(Path(sys.prefix) / "jupyter")
    script = ("import sys; from pathlib import Path; from lib.report import runner; out = Path(sys.argv[1]); "
              "jobs = [runner.Job(Path(p), out / Path(p).name) for p in sys.argv[4:]]; "
              "list(runner.together(runner.execute, runner.longest_first(jobs, Path(sys.argv[3])), int(sys.argv[2])));"
              "print(*[round(j.elapsed, 3) for j in jobs])")
    with tempfile.TemporaryDirectory() as folder:
        def ours(at_once, last="nowhere"):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", script, folder, str(at_once), str(last), *STATING], cwd=ROOT, env=environment, capture_output=True,
                                  text=True, check=True)
            return time.perf_counter() - start, [float(word) for word in done.stdout.split()]

        ours(2)
        rounds = [(ours(1), _papermill(STATING, folder, environment)), tuple(reversed((_papermill(STATING, folder, environment), ours(1))))]
        single = sum(mine[0] for mine, _ in rounds) / sum(other for _, other in rounds)
        alone = [min(times) for times in zip(*(mine[1] for mine, _ in rounds))]
        two = min(ours(2, folder)[0] for _ in range(2))
    return [_row("one job over papermill's command line", single, 1.0, "ratio"),
            _row("two jobs over the best schedule of two cores", two / _best_schedule(alone), 1.15, "ratio")]


def index_in_a_browser():
    """The time until the index of the last report answers in headless Chromium, and the size of the site."""
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = opened.new_page()
        start = time.perf_counter()
        page.goto((ROOT / "outputs" / "report" / "index.html").as_uri(), wait_until="load")
        page.locator("a.skip").focus()
        seconds = time.perf_counter() - start
        opened.close()
    size = sum(path.stat().st_size for path in (ROOT / "outputs" / "report").iterdir())
    return [_row("index answers in Chromium", seconds, 2, "s"), _row("size of the site", size / 1e6, 12, "MB")]


def autotuner_look_up():
    """The patched look-up over the original, cached and computed."""
    tree = wheels.source("flashinfer-python", "0.6.6")
    changed = autotuner.patched(tree, "04-autotuner.revised.flashinfer-0.6.6.diff")
    cost = tuning.look_up_cost(autotuner.load(tree), changed, rounds=200)
    return [_row(f"patched look-up, {path}", ratio, 1.05, "ratio") for path, ratio in zip(cost["path"], cost["ratio"])]
