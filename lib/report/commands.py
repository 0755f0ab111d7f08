"""The commands behind make: fetch, report, record, notebook."""

import fcntl
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import yaml

from lib import cache
from lib.errors import CollectionError
from lib.instruments import devices
from lib.report import console, machines, record, runner, site
from lib.subjects import tensorrt_llm, wheels

PARTS = ("notebooks", "evidence.json", "report", "report.zip")


def at_once():
    """How many notebooks to run at the same time: one a core, but one by one where a GPU is."""
    return 1 if devices.gpus() else os.cpu_count()


def bring():
    """Bring every subject and the toolchain into the cache, and say what is there.

    What cannot be had is said, and the rest goes on.

    Returns
    -------
    dict of str to str
        The requirements that cannot be had, each with the reason.

    Raises
    ------
    CollectionError
        If a file in the cache is not what was pinned: it must not be examined.
    """
    steps = set()

    def one(wheel):
        known = wheel.path.is_file()
        try:
            wheels.wheel(wheel.name, wheel.version, verify=True)
        except CollectionError as error:
            if wheel.path.is_file():
                raise
            steps.add(error.next_step)
            console.warn(f"  {wheel.requirement} CANNOT BE HAD: {error.what}")
            return wheel, error.what
        if wheel.role == "subject" and wheel.name != "flashinfer-cubin":
            wheels.source(wheel.name, wheel.version)
        came = "in the cache" if known else "fetched"
        console.say(f"  {wheel.requirement} {came}, {wheel.bytes / 1e6:.1f} MB, "
                    f"sha256 {wheel.sha256[:12]}…")
        return wheel, ""

    console.say(f"subjects, in {cache.root()}")
    with ThreadPoolExecutor(4) as pool:
        brought = list(pool.map(one, wheels.pins()))
    using = record.compiler()
    theirs = "" if using["from"] == "pinned" else ", of SM12X_CUDA_HOME"
    console.say(f"  CUDA toolchain {using['version']}{theirs}")
    found = tensorrt_llm.find() or tensorrt_llm.fetch()
    console.say(f"  TensorRT-LLM: {found}" if found else
                "  TensorRT-LLM: not here (neither installed, nor TRTLLM_SRC, nor the network); "
                "recorded facts stand in")
    for step in sorted(steps):
        console.say(f"  next: {step}; until then, what needs a missing subject fails, "
                    "and the rest runs")
    return {wheel.requirement: reason for wheel, reason in brought if reason}


def fetch(_=None):
    """Bring every subject and the toolchain into the cache; status 1 if one cannot be had."""
    return bool(bring())


def publish(built):
    """Put a finished run in place of the last one, part by part, each with one rename."""
    outputs = built.parent
    with (open(outputs / ".lock", "w") as lock,
          tempfile.TemporaryDirectory(dir=outputs, prefix=".old-") as old):
        fcntl.flock(lock, fcntl.LOCK_EX)
        for part in PARTS:
            if (outputs / part).exists():
                os.rename(outputs / part, Path(old, part))
            os.rename(built / part, outputs / part)


def collect(arguments, built, others):
    """Fetch, run all notebooks into `built`, the scoreboard last; write evidence.json.

    Parameters
    ----------
    arguments : argparse.Namespace
        Of the command.
    built : Path
        An empty folder.
    others : list of Path
        Evidence of other machines, for the scoreboard.

    Returns
    -------
    jobs : list of runner.Job
    run : dict
        As `record.describe` gives it.
    found : list of dict
        The findings.
    """
    missing, started = bring(), datetime.now(UTC)
    (built / "notebooks").mkdir()
    paths = sorted(Path(arguments.notebooks).glob("[0-9]*.ipynb"))
    jobs = [runner.Job(path, built / "notebooks" / path.name, cell_seconds=arguments.cell_seconds)
            for path in paths]
    last = [job for job in jobs if job.name == site.SCOREBOARD]
    first = [job for job in jobs if job not in last]
    console.say(f"notebooks, {arguments.jobs} at once")
    console.follow(runner.longest_first(first, arguments.outputs / "notebooks"), arguments.jobs)
    found = [finding for job in jobs if job.output.is_file()
             for finding in record.findings(job.output)]
    run = record.describe(started, datetime.now(UTC), missing=missing)
    run["failed"] = {job.name: job.error for job in jobs if job.error}
    record.write(built / "evidence.json", run, found)
    for job in last:
        job.parameters = {"evidence_json": str(built / "evidence.json"),
                          "others": os.pathsep.join(map(str, others))}
    console.follow(last, 1)
    if late := {job.name: job.error for job in last if job.error}:
        run["failed"] |= late
        record.write(built / "evidence.json", run, found)
    return jobs, run, found


def report(arguments):
    """Run all notebooks, collect the evidence, build the site, and put it in place."""
    outputs = arguments.outputs
    with tempfile.TemporaryDirectory(dir=outputs, prefix=".building-") as folder:
        built = Path(folder)
        recorded = machines.recorded(arguments.recorded or outputs / "recorded")
        paths = [path.absolute() for path in (*recorded, *arguments.evidence)]
        jobs, _, found = collect(arguments, built, paths)
        others, refused = machines.gather(paths)
        (built / "report").mkdir()
        site.build(built, built / "report", others, refused)
        shutil.make_archive(str(built / "report"), "zip", built, "report")
        publish(built)
    console.failures(jobs)
    console.board(found)
    console.beside(others, refused)
    console.say(f"report: {outputs / 'report' / 'index.html'}")
    return any(job.state == runner.FAILED for job in jobs)


def recording(arguments):
    """Run all notebooks, and keep this machine's evidence in outputs/recorded/NAME/."""
    record.named(arguments.name)
    if not devices.gpus():
        console.say("no GPU here: this records what a CPU decides")
    with tempfile.TemporaryDirectory(dir=arguments.outputs, prefix=".recording-") as folder:
        jobs, run, found = collect(arguments, Path(folder), [])
        console.failures(jobs)
        console.board(found)
        noted = {"note": arguments.note} if arguments.note else {}
        place = arguments.recorded or arguments.outputs / "recorded"
        kept = record.keep(place, arguments.name, run | noted, found, Path(folder))
    console.say(f"recorded: {kept}, {kept.stat().st_size:,} B of {record.LARGEST:,}, "
                f"on {run['machine']['name']}")
    return any(job.state == runner.FAILED for job in jobs)


def parse(pairs, known, name):
    """Parameters for a notebook from ``name=value`` words; numbers and booleans are such.

    Raises
    ------
    CollectionError
        If a word is no such pair, or the notebook has no parameter of that name.
    """
    for pair in pairs:
        key, equals, _ = pair.partition("=")
        if not equals:
            raise CollectionError(f"{pair!r} is no parameter", 'write P="name=value name=value"')
        if key not in known:
            raise CollectionError(f"{name} has no parameter {key!r}",
                                  f"use one of: {', '.join(known) or 'none, it has no parameters'}")
    return {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def notebook(arguments):
    """Run one notebook with parameters of the reader's, into outputs/single/."""
    paths = sorted(Path(arguments.notebooks).glob(f"{arguments.number}*.ipynb"))
    if len(paths) != 1:
        every = sorted(Path(arguments.notebooks).glob("[0-9]*.ipynb"))
        raise CollectionError(f"{arguments.number!r} names {len(paths)} notebooks",
                              f"use the number of one of: {', '.join(path.stem for path in every)}")
    folder = arguments.outputs / "single"
    folder.mkdir(exist_ok=True)
    given = parse(arguments.parameters, runner.parameters(paths[0]), paths[0].stem)
    job = runner.Job(paths[0], folder / paths[0].name, given, arguments.cell_seconds)
    console.follow([job], 1)
    console.failures([job])
    console.details(record.findings(job.output))
    console.say(f"executed notebook: {job.output}")
    return job.state == runner.FAILED
