"""The commands behind make: report, notebook, fetch. The only module that prints."""

import argparse
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from . import cache, evidence, ledger, record, runner, scoreboard, subjects, tensorrt_llm, toolchain
from .errors import CollectionError

PARTS = ("notebooks", "evidence.json", "report", "report.zip")
console = Console()


def progress(jobs):
    """The live table: a line per notebook."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for job in jobs:
        cells = f"cell {job.cell} of {job.cells}" if job.cells else ""
        table.add_row(job.name, job.state, cells, f"{job.elapsed:.0f} s" if job.started else "", job.error[:100])
    return table


def follow(jobs, at_once):
    """Run jobs and show how far they are: a live table in a terminal, else a line for every change of state and every 15 s."""
    if console.is_terminal:
        with Live(progress(jobs), console=console, refresh_per_second=5) as live:
            for jobs in runner.run(jobs, at_once):
                live.update(progress(jobs))
        return
    said, last = {}, time.monotonic()
    for jobs in runner.run(jobs, at_once):
        beat = time.monotonic() - last > 15
        last = time.monotonic() if beat else last
        for job in jobs:
            if said.get(job.name) != job.state or (beat and job.state == runner.RUNNING):
                said[job.name] = job.state
                print(f"{job.name}: {job.state}, cell {job.cell} of {job.cells}, {job.elapsed:.0f} s {job.error}".rstrip(), flush=True)


def fetch(_=None):
    """Bring every subject and the toolchain into the cache, and say what is there."""
    def one(wheel):
        known = wheel.path.is_file()
        subjects.wheel(wheel.name, wheel.version, verify=True)
        if wheel.role == "subject" and wheel.name != "flashinfer-cubin":
            subjects.source(wheel.name, wheel.version)
        came = "in the cache" if known else "fetched"
        console.print(f"  {wheel.requirement} {came}, {wheel.bytes / 1e6:.1f} MB, sha256 {wheel.sha256[:12]}…")

    console.print(f"subjects, in {cache.root()}")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, subjects.pins()))
    console.print(f"  CUDA toolchain {toolchain.find().version}")
    found = tensorrt_llm.find() or tensorrt_llm.fetch()
    console.print(f"  TensorRT-LLM: {found or 'not here (neither installed, nor TRTLLM_SRC, nor the network); recorded facts stand in'}")


def publish(built):
    """Put a finished run in place of the last one, part by part, each with one rename; `built` lies in the same folder."""
    outputs = built.parent
    with open(outputs / ".lock", "w") as lock, tempfile.TemporaryDirectory(dir=outputs, prefix=".old-") as old:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for part in PARTS:
            if (outputs / part).exists():
                os.rename(outputs / part, Path(old, part))
            os.rename(built / part, outputs / part)


def parse(pairs):
    """Parameters for a notebook from ``name=value`` words; numbers and booleans are taken as such."""
    import yaml
    for pair in pairs:
        if "=" not in pair:
            raise CollectionError(f"{pair!r} is no parameter", 'write P="name=value name=value"')
    return {name: yaml.safe_load(value) for name, _, value in (pair.partition("=") for pair in pairs)}


def report(arguments):
    """Run all notebooks, collect the evidence, build the site, swap it in, and show the scoreboard."""
    from . import site
    fetch()
    started, outputs = datetime.now(UTC), arguments.outputs
    with tempfile.TemporaryDirectory(dir=outputs, prefix=".building-") as folder:
        built = Path(folder)
        (built / "notebooks").mkdir()
        (built / "report").mkdir()
        jobs = [runner.Job(path, built / "notebooks" / path.name, cell_seconds=arguments.cell_seconds)
                for path in sorted(Path(arguments.notebooks).glob("[0-9]*.ipynb"))]
        last = [job for job in jobs if job.name == site.SCOREBOARD]
        console.print(f"notebooks, {arguments.jobs} at once")
        follow(runner.longest_first([job for job in jobs if job not in last], outputs / "notebooks"), arguments.jobs)
        found = [finding for job in jobs if job.output.is_file() for finding in record.findings(job.output)]
        record.write(built / "evidence.json", record.describe(started, datetime.now(UTC)), found)
        for job in last:
            job.variables = {"SM12X_EVIDENCE": str(built / "evidence.json")}
        follow(last, 1)
        site.build(built, built / "report")
        shutil.make_archive(str(built / "report"), "zip", built, "report")
        publish(built)
    failures(jobs)
    board(found)
    console.print(f"report: {outputs / 'report' / 'index.html'}")
    return any(job.state == runner.FAILED for job in jobs)


def failures(jobs):
    """Print each notebook that failed, with its cell and error."""
    for job in jobs:
        if job.error:
            console.print(f"FAILED {job.name}, {job.error}", style="bold red", highlight=False, markup=False)


def board(found):
    """Print one screen: bugs down, verdicts across, each claim with its tier."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("bug", *evidence.VERDICTS):
        table.add_column(column)
    for bug, name in scoreboard.BUGS.items():
        mine = [(claim, finding) for claim, finding in scoreboard.decided(found) if claim.bug == bug and finding]
        cells = [" ".join(claim.id for claim, finding in mine if finding["verdict"] == verdict) for verdict in evidence.VERDICTS]
        if mine:
            table.add_row(f"{bug or ''} {name}", *cells)
    console.print(table)
    missing = [claim.id for claim, finding in scoreboard.decided(found) if finding is None]
    console.print(f"{len(found)} findings; " + (f"no finding yet for {len(missing)} of {len(ledger.claims())} claims" if missing else "every claim has one"))


def details(found):
    """Print each finding of a notebook with its sentence."""
    for finding in found:
        about = f"{finding['claim']} " if finding["claim"] else ""
        console.print(f"{about}{finding['verdict']} ({finding['tier']}) {finding['summary']}", highlight=False, markup=False)


def notebook(arguments):
    """Run one notebook with parameters of the reader's, into outputs/single/, apart from the report."""
    paths = sorted(Path(arguments.notebooks).glob(f"{arguments.number}*.ipynb"))
    if len(paths) != 1:
        known = ", ".join(path.stem for path in sorted(Path(arguments.notebooks).glob("[0-9]*.ipynb")))
        raise CollectionError(f"{arguments.number!r} names {len(paths)} notebooks", f"use the number of one of: {known}")
    folder = arguments.outputs / "single"
    folder.mkdir(exist_ok=True)
    job = runner.Job(paths[0], folder / paths[0].name, parse(arguments.parameters), arguments.cell_seconds)
    follow([job], 1)
    failures([job])
    details(record.findings(job.output))
    console.print(f"executed notebook: {job.output}")
    return job.state == runner.FAILED


def main():
    parser = argparse.ArgumentParser(prog="python -m lib", description=__doc__)
    parser.add_argument("--notebooks", default=runner.FOLDER, help="the folder of the notebooks")
    parser.add_argument("--outputs", type=Path, default=record.REPOSITORY / "outputs", help="the folder of what is made")
    parser.add_argument("--cell-seconds", type=int, default=runner.CELL_SECONDS, help="the longest that one cell may take")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("report", help=report.__doc__)
    command.add_argument("--jobs", type=int, default=os.cpu_count(), help="notebooks at once")
    command.set_defaults(run=report)
    command = commands.add_parser("notebook", help=notebook.__doc__)
    command.add_argument("number")
    command.add_argument("parameters", nargs="*")
    command.set_defaults(run=notebook)
    commands.add_parser("fetch", help=fetch.__doc__).set_defaults(run=fetch)
    arguments = parser.parse_args()
    for name in (signal.SIGINT, signal.SIGTERM):  # a shell's background job starts with SIGINT ignored
        signal.signal(name, signal.default_int_handler)
    os.environ.update(runner.environment(Path(sys.prefix) / "jupyter"))
    arguments.outputs.mkdir(parents=True, exist_ok=True)
    try:
        sys.exit(bool(arguments.run(arguments)))
    except CollectionError as error:
        console.print(f"{error}", style="bold red", highlight=False, markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("stopped; the last report is as it was")
        sys.exit(130)


if __name__ == "__main__":
    main()
