"""The commands behind make: fetch, report, record, notebook."""

import fcntl
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import papermill
import yaml

from lib import cache
from lib.errors import CollectionError
from lib.instruments import devices
from lib.report import comparison, console, machines, record, runner, site
from lib.subjects import tensorrt_llm, wheels


def fetch(_=None):
    """Bring every subject and the toolchain into the cache; status 1 if one cannot be had."""
    steps = set()

    def one(wheel):
        known = wheel.path.is_file()
        if wheels.SILENT in steps and not known:
            return wheel, "the package index does not answer"
        try:
            wheels.wheel(wheel.name, wheel.version)
        except CollectionError as error:
            steps.add(error.next_step)
            console.warn(f"  {wheel.requirement} CANNOT BE HAD: {error.what}")
            return wheel, error.what
        if wheel.role == "subject" and wheel.name != "flashinfer-cubin":
            wheels.source(wheel.name, wheel.version)
        console.say(f"  {wheel.requirement} {'in the cache' if known else 'fetched'}, "
                    f"{wheel.bytes / 1e6:.1f} MB, sha256 {wheel.sha256[:12]}…")
        return wheel, ""

    console.say(f"subjects, in {cache.root()}")
    pool = ThreadPoolExecutor(4)
    asked = [pool.submit(one, wheel) for wheel in wheels.pins()]
    try:
        brought = [each.result() for each in asked]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if pending := [each for each in asked if not each.done()]:
            runner.stop(pending)
    using = record.compiler()
    theirs = "" if using["from"] == "pinned" else ", of SM12X_CUDA_HOME"
    console.say(f"  CUDA toolchain {using['version']}{theirs}")
    found = tensorrt_llm.find() or tensorrt_llm.fetch() or (
        "not here (neither installed, nor TRTLLM_SRC, nor the network); recorded facts stand in")
    console.say(f"  TensorRT-LLM: {found}")
    for step in sorted(steps):
        console.say(f"  next: {step}; what needs a missing subject fails, and the rest runs")
    return {wheel.requirement: reason for wheel, reason in brought if reason}


def publish(built):
    """Put a finished run in place of the last one, part by part, each with one rename."""
    outputs = built.parent
    with (open(outputs / ".lock", "w") as lock,
          tempfile.TemporaryDirectory(dir=outputs, prefix=".old-") as old):
        fcntl.flock(lock, fcntl.LOCK_EX)
        for part in ("notebooks", "evidence.json", "report", "report.zip"):
            if (outputs / part).exists():
                os.rename(outputs / part, Path(old, part))
            os.rename(built / part, outputs / part)


def job(arguments, path, folder, parameters):
    """A notebook (Path) to run into a folder (`runner.Job`)."""
    return runner.Job(path, folder / path.name, parameters, arguments.cell_seconds)


def collect(arguments, built):
    """Fetch, run all notebooks but the scoreboard into `built`; its jobs and evidence come back."""
    missing, started, folder = fetch(), datetime.now(UTC), built / "notebooks"
    folder.mkdir()
    paths = sorted(Path(arguments.notebooks).glob("[0-9]*.ipynb"))
    jobs = [job(arguments, path, folder, {}) for path in paths if path.stem != site.SCOREBOARD]
    console.say(f"notebooks, {arguments.jobs} at once")
    console.follow(runner.longest_first(jobs, arguments.outputs / "notebooks"), arguments.jobs)
    found = [finding for each in jobs if each.output.is_file()
             for finding in record.findings(each.output)]
    failed = {each.name: each.error for each in jobs if each.error}
    run = record.describe(started, datetime.now(UTC), failed, missing)
    return jobs, record.write(built / "evidence.json", run, found)


def report(arguments):
    """Run all notebooks, the scoreboard last, build the site, and put it in place."""
    outputs = arguments.outputs
    with tempfile.TemporaryDirectory(dir=outputs, prefix=".building-") as folder:
        built = Path(folder)
        recorded = machines.recorded(arguments.recorded or outputs / "recorded")
        others = [path.absolute() for path in (*recorded, *arguments.evidence)]
        jobs, kept = collect(arguments, built)
        given = {"evidence_json": str(built / "evidence.json"),
                 "others": os.pathsep.join(map(str, others))}
        last = [job(arguments, path, built / "notebooks", given)
                for path in Path(arguments.notebooks).glob(f"{site.SCOREBOARD}.ipynb")]
        console.follow(last, 1)
        shown = comparison.runs(kept, others)
        (built / "report").mkdir()
        site.build(built, built / "report", shown)
        shutil.make_archive(str(built / "report"), "zip", built, "report")
        publish(built)
    console.failures(jobs + last)
    console.board(kept["findings"])
    console.beside(shown)
    console.say(f"report: {outputs / 'report' / 'index.html'}")
    return any(each.error for each in jobs + last)


def recording(arguments):
    """Run all notebooks, and keep this machine's evidence in outputs/recorded/NAME/."""
    record.named(arguments.name)
    if not devices.gpus():
        console.say("no GPU here: this records what a CPU decides")
    with tempfile.TemporaryDirectory(dir=arguments.outputs, prefix=".recording-") as folder:
        jobs, kept = collect(arguments, Path(folder))
        console.failures(jobs)
        console.board(kept["findings"])
        run = kept["run"] | ({"note": arguments.note} if arguments.note else {})
        place = arguments.recorded or arguments.outputs / "recorded"
        path = record.keep(place, arguments.name, run, kept["findings"], Path(folder))
    console.say(f"recorded: {path}, {path.stat().st_size:,} B of {record.LARGEST:,}, "
                f"on {run['machine']['name']}")
    return any(each.error for each in jobs)


def parse(pairs, known, name):
    """Parameters (dict) from ``name=value`` words; numbers and booleans are such."""
    given = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise CollectionError(f"{pair!r} is no parameter", 'write P="name=value name=value"')
        if key not in known:
            raise CollectionError(f"{name} has no parameter {key!r}",
                                  f"use one of: {', '.join(known) or 'none, it has no parameters'}")
        given[key] = yaml.safe_load(value)
    return given


def notebook(arguments):
    """Run one notebook with parameters of the reader's, into outputs/single/."""
    every = sorted(Path(arguments.notebooks).glob("[0-9]*.ipynb"))
    paths = [path for path in every if path.name.startswith(arguments.number)]
    if len(paths) != 1:
        raise CollectionError(f"{arguments.number!r} names {len(paths)} notebooks",
                              f"use the number of one of: {', '.join(path.stem for path in every)}")
    [path], folder = paths, arguments.outputs / "single"
    given = parse(arguments.parameters, list(papermill.inspect_notebook(str(path))), path.stem)
    folder.mkdir(exist_ok=True)
    single = job(arguments, path, folder, given)
    console.follow([single], 1)
    console.failures([single])
    console.details(record.findings(single.output))
    console.say(f"executed notebook: {single.output}")
    return bool(single.error)
