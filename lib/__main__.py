"""The commands behind make: report, record, notebook, fetch. The only module that prints."""

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

from . import cache, evidence, ledger, machine, machines, record, runner, scoreboard, subjects, tensorrt_llm
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


def bring():
    """Bring every subject and the toolchain into the cache, and say what is there; what cannot be had is said, and the rest goes on.

    A file in the cache that is not what was pinned stops everything (CollectionError): it must not be examined.
    The answer has the requirements that cannot be had, each with the reason (dict of str to str).
    """
    steps = set()

    def one(wheel):
        known = wheel.path.is_file()
        try:
            subjects.wheel(wheel.name, wheel.version, verify=True)
        except CollectionError as error:
            if wheel.path.is_file():
                raise
            steps.add(error.next_step)
            console.print(f"  {wheel.requirement} CANNOT BE HAD: {error.what}", style="bold red", highlight=False, markup=False)
            return wheel, error.what
        if wheel.role == "subject" and wheel.name != "flashinfer-cubin":
            subjects.source(wheel.name, wheel.version)
        came = "in the cache" if known else "fetched"
        console.print(f"  {wheel.requirement} {came}, {wheel.bytes / 1e6:.1f} MB, sha256 {wheel.sha256[:12]}…")
        return wheel, ""

    console.print(f"subjects, in {cache.root()}")
    with ThreadPoolExecutor(4) as pool:
        missing = {wheel.requirement: reason for wheel, reason in pool.map(one, subjects.pins()) if reason}
    using = record.compiler()
    console.print(f"  CUDA toolchain {using['version']}" + (", of SM12X_CUDA_HOME" if using["from"] != "pinned" else ""))
    found = tensorrt_llm.find() or tensorrt_llm.fetch()
    console.print(f"  TensorRT-LLM: {found or 'not here (neither installed, nor TRTLLM_SRC, nor the network); recorded facts stand in'}")
    for step in sorted(steps):
        console.print(f"  next: {step}; until then, what needs a missing subject fails, and the rest runs", highlight=False, markup=False)
    return missing


def fetch(_=None):
    """Bring every subject and the toolchain into the cache; status 1 if one cannot be had."""
    return bool(bring())


def publish(built):
    """Put a finished run in place of the last one, part by part, each with one rename; `built` lies in the same folder."""
    outputs = built.parent
    with open(outputs / ".lock", "w") as lock, tempfile.TemporaryDirectory(dir=outputs, prefix=".old-") as old:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for part in PARTS:
            if (outputs / part).exists():
                os.rename(outputs / part, Path(old, part))
            os.rename(built / part, outputs / part)


def at_once():
    """How many notebooks to run at the same time by default: one for each core, but one by one where some measure a GPU."""
    return 1 if machine.gpus() else os.cpu_count()


def parse(pairs):
    """Parameters for a notebook from ``name=value`` words; numbers and booleans are taken as such."""
    import yaml
    for pair in pairs:
        if "=" not in pair:
            raise CollectionError(f"{pair!r} is no parameter", 'write P="name=value name=value"')
    return {name: yaml.safe_load(value) for name, _, value in (pair.partition("=") for pair in pairs)}


def collect(arguments, built, others):
    """Fetch, run all notebooks into `built`, the last one fed with what they and other machines found; evidence.json (jobs, run, findings)."""
    from . import site
    missing, started = bring(), datetime.now(UTC)
    (built / "notebooks").mkdir()
    jobs = [runner.Job(path, built / "notebooks" / path.name, cell_seconds=arguments.cell_seconds)
            for path in sorted(Path(arguments.notebooks).glob("[0-9]*.ipynb"))]
    last = [job for job in jobs if job.name == site.SCOREBOARD]
    console.print(f"notebooks, {arguments.jobs} at once")
    follow(runner.longest_first([job for job in jobs if job not in last], arguments.outputs / "notebooks"), arguments.jobs)
    found = [finding for job in jobs if job.output.is_file() for finding in record.findings(job.output)]
    run = record.describe(started, datetime.now(UTC), missing=missing)
    record.write(built / "evidence.json", run, found)
    for job in last:
        job.variables = {"SM12X_EVIDENCE": str(built / "evidence.json"), "SM12X_OTHERS": os.pathsep.join(map(str, others))}
    follow(last, 1)
    run["failed"] = {job.name: job.error for job in jobs if job.error}
    record.write(built / "evidence.json", run, found)
    return jobs, run, found


def report(arguments):
    """Run all notebooks, collect the evidence, build the site, swap it in, and show the scoreboard."""
    from . import site
    outputs = arguments.outputs
    with tempfile.TemporaryDirectory(dir=outputs, prefix=".building-") as folder:
        built = Path(folder)
        paths = [path.absolute() for path in (*machines.recorded(arguments.recorded or outputs / "recorded"), *arguments.evidence)]
        jobs, _, found = collect(arguments, built, paths)
        others, refused = machines.gather(paths)
        (built / "report").mkdir()
        site.build(built, built / "report", others, refused)
        shutil.make_archive(str(built / "report"), "zip", built, "report")
        publish(built)
    failures(jobs)
    board(found)
    beside(others, refused)
    console.print(f"report: {outputs / 'report' / 'index.html'}")
    return any(job.state == runner.FAILED for job in jobs)


def recording(arguments):
    """Run all notebooks, and keep this machine's evidence for other machines' reports: outputs/recorded/NAME/evidence.json."""
    record.named(arguments.name)
    if not machine.gpus():
        console.print("no GPU here: this records what a CPU decides")
    with tempfile.TemporaryDirectory(dir=arguments.outputs, prefix=".recording-") as folder:
        jobs, run, found = collect(arguments, Path(folder), [])
        failures(jobs)
        board(found)
        noted = {"note": arguments.note} if arguments.note else {}
        kept = record.keep(arguments.recorded or arguments.outputs / "recorded", arguments.name, run | noted, found, Path(folder))
    console.print(f"recorded: {kept}, {kept.stat().st_size:,} B of {record.LARGEST:,}, on {run['machine']['name']}", highlight=False, markup=False)
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


def beside(others, refused):
    """Print which other machines are in the report, and which files are not, with the reason."""
    for machine in others:
        console.print(f"beside this machine: {machine.label}, {len(machine.findings)} findings", highlight=False, markup=False)
    for path, reason in refused:
        console.print(f"NOT SHOWN {path}: {reason}", style="bold red", highlight=False, markup=False)


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
    parser.add_argument("--recorded", type=Path, help="the folder of recorded runs; recorded/ in that of what is made")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("report", help=report.__doc__)
    command.add_argument("--jobs", type=int, default=at_once(), help="notebooks at once; with a GPU one, so that none disturbs another's times")
    command.add_argument("--evidence", type=Path, nargs="+", default=[], help="evidence of other machines: files, or folders with an evidence.json")
    command.set_defaults(run=report)
    command = commands.add_parser("record", help=recording.__doc__)
    command.add_argument("name", help="of the folder under outputs/recorded/")
    command.add_argument("--note", default="", help="what readers of the run should know of it")
    command.add_argument("--jobs", type=int, default=at_once(), help="notebooks at once; with a GPU one, so that none disturbs another's times")
    command.set_defaults(run=recording)
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
        console.print(f"stopped; the last {'recording' if arguments.run is recording else 'report'} is as it was")
        sys.exit(130)


if __name__ == "__main__":
    main()
