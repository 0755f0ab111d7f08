"""The commands behind make: fetch, report, record, notebook, survey, history, lab."""

import fcntl
import json
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import papermill

from lib import cache, workers
from lib.errors import CollectionError
from lib.history import kept as releases
from lib.history import verdicts as mended
from lib.instruments import devices
from lib.report import comparison, console, guard, record, runner, site
from lib.subjects import parameters, tensorrt_llm, wheels
from lib.survey import holdings, verdicts

PARTS = ("notebooks", "evidence.json", "report", "report.zip")  # of a report, in the outputs
REPLACED = ".replaced"  # where the last report is while a new one takes its place


def fetch(_=None):
    """Bring every subject and the toolchain into the cache; status 1 if one cannot be had."""
    missing, steps = {}, set()

    def one(wheel):
        known = wheel.path.is_file()
        if wheels.SILENT in steps and not known:
            missing[wheel.requirement] = "the package index does not answer"
            return
        try:
            wheels.wheel(wheel.name, wheel.version)
            if wheel.role == "subject" and wheel.name != "flashinfer-cubin":
                wheels.source(wheel.name, wheel.version)
        except CollectionError as error:
            steps.add(error.next_step)
            missing[wheel.requirement] = error.what
            console.warn(f"  {wheel.requirement} CANNOT BE HAD: {error.what}")
        else:
            console.say(f"  {wheel.requirement} {'in the cache' if known else 'fetched'}, "
                        f"{wheel.bytes / 1e6:.1f} MB, sha256 {wheel.sha256[:12]}…")

    console.say(f"subjects, in {cache.root()}")
    for _ in runner.together(one, wheels.pins(), 4):
        pass
    using = record.compiler()
    theirs = "" if using["from"] == "pinned" else ", of SM12X_CUDA_HOME"
    console.say(f"  CUDA toolchain {using['version']}{theirs}")
    answers = wheels.SILENT not in steps
    found = tensorrt_llm.find() or (answers and tensorrt_llm.fetch()) or (
        "not here (neither installed, nor TRTLLM_SRC, nor the network); recorded facts stand in")
    console.say(f"  TensorRT-LLM: {found}")
    for step in sorted(steps):
        console.say(f"  next: {step}; what needs a missing subject fails, and the rest runs")
    return dict(sorted(missing.items()))


@contextmanager
def locked(place, how=fcntl.LOCK_EX):
    """Hold a file or folder (Path) for a block; the system lets go of it when a process dies."""
    held = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(held, how)
        yield
    finally:
        os.close(held)


@contextmanager
def building(outputs):
    """A folder for a run (Path), gone at the end; what runs that were killed left goes first."""
    with ExitStack() as held:
        with locked(outputs):
            restore(outputs)
            for dead in outputs.glob(".building-*"):
                with suppress(BlockingIOError), locked(dead, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(dead)
            folder = Path(tempfile.mkdtemp(dir=outputs, prefix=".building-"))
            held.enter_context(locked(folder))
            held.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def restore(outputs):
    """Put the last report back where a new one that took its place was cut off; under a lock."""
    for part in (outputs / REPLACED).glob("*"):
        remove(outputs / part.name)
        os.rename(part, outputs / part.name)
    remove(outputs / REPLACED)


def remove(path):
    """Remove a file or a folder (Path), if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def publish(built, target):
    """Put a finished run into `target` (Path) whole; cut off, the last one comes back."""
    target.mkdir(exist_ok=True)
    with locked(target), tempfile.TemporaryDirectory(dir=built) as old:
        restore(target)
        (target / REPLACED).mkdir()
        try:
            for part in PARTS:
                if (target / part).exists():
                    os.rename(target / part, target / REPLACED / part)
                os.rename(built / part, target / part)
            os.rename(target / REPLACED, Path(old, REPLACED))
        finally:
            restore(target)


def every(arguments):
    """All notebooks, in order (list of Path)."""
    return sorted(Path(arguments.notebooks).glob("[0-9]*.ipynb"))


def stated(jobs):
    """The findings of notebooks that ran (list of dict); one that is none, or has the id of another
    notebook's, costs itself alone, and a notebook that was damaged since has failed."""
    found = {}
    for job in jobs:
        try:
            shown, job.refused = record.findings(job.output)
        except (OSError, ValueError) as error:
            job.error = job.error or f"{type(error).__name__}: the executed notebook is damaged"
            runner.mark(job, type(error).__name__, "the executed notebook is damaged")
            continue
        for id, (cell, finding) in shown.items():
            if found.setdefault(id, finding) is not finding:
                first = found[id]["notebook"]
                job.refused.append((cell, f"the finding {id} is that of {first}, too"))
    return list(found.values())


def failures(jobs):
    """What failed in notebooks that ran, as evidence.json has it (list of dict)."""
    return [failure for job in jobs for failure in job.failures]


def collect(arguments, built):
    """Fetch, run all notebooks but the scoreboard into `built`; its jobs and evidence come back."""
    missing, started, folder = fetch(), datetime.now(UTC), built / "notebooks"
    folder.mkdir()
    jobs = [runner.Job(path, folder / path.name, {}, arguments.cell_seconds)
            for path in every(arguments) if path.stem != site.SCOREBOARD]
    console.say(f"notebooks, {arguments.jobs} at once")
    console.follow(runner.longest_first(jobs, arguments.outputs / "notebooks"), arguments.jobs)
    found = stated(jobs)
    run = record.describe(started, datetime.now(UTC), failures(jobs), missing)
    return jobs, record.write(built / "evidence.json", run, found)


def report(arguments):
    """Run all notebooks, the scoreboard last, build the site, and put it in place; where one
    failed, in outputs/failed/, and the last report stays."""
    outputs = arguments.outputs
    recorded = comparison.recorded(arguments.recorded or outputs / "recorded")
    others = [Path(path).absolute() for path in (*recorded, *sum(arguments.evidence, []))]
    with building(outputs) as built:
        jobs, kept = collect(arguments, built)
        given = {"evidence_json": str(built / "evidence.json"), "others": [*map(str, others)]}
        last = [runner.Job(path, built / "notebooks" / path.name, given, arguments.cell_seconds)
                for path in every(arguments) if path.stem == site.SCOREBOARD]
        console.follow(last, 1)
        jobs += last
        run = kept["run"] | {"failed": failures(jobs)}
        kept = record.write(built / "evidence.json", run, kept["findings"])
        shown = comparison.runs(kept, others)
        (built / "report").mkdir()
        site.build(built, built / "report", shown)
        shutil.make_archive(str(built / "report"), "zip", built, "report")
        kept_back = any(job.error for job in jobs) and not arguments.keep
        publish(built, outputs / "failed" if kept_back else outputs)
    console.failures(jobs)
    console.board(kept["findings"])
    console.beside(shown)
    if kept_back:
        console.warn(f"report of this failed run: {outputs / 'failed/report/index.html'}; the last "
                     "good one stays as it was (make report KEEP=1 puts a failed one in its place)")
    else:
        remove(outputs / "failed")
        console.say(f"report: {outputs / 'report' / 'index.html'}")
    return failures(jobs)


def recording(arguments):
    """Run all notebooks, and keep this machine's evidence in outputs/recorded/NAME/."""
    record.named(arguments.name)
    if not devices.gpus():
        console.say("no GPU here: this records what a CPU decides")
    with building(arguments.outputs) as folder:
        jobs, kept = collect(arguments, folder)
        console.failures(jobs)
        console.board(kept["findings"])
        run = kept["run"] | ({"note": arguments.note} if arguments.note else {})
        place = arguments.recorded or arguments.outputs / "recorded"
        path = record.keep(place, arguments.name, run, kept["findings"], folder)
    console.say(f"recorded: {path}, {path.stat().st_size:,} B of {record.LARGEST:,}, "
                f"on {run['machine']['name']}")
    return failures(jobs)


def chosen(arguments):
    """The one notebook whose name begins as the reader says (Path)."""
    paths = [path for path in every(arguments) if path.name.startswith(arguments.number)]
    if len(paths) != 1:
        names = ", ".join(path.stem for path in every(arguments))
        raise CollectionError(f"{arguments.number!r} names {len(paths)} notebooks",
                              f"use the number of one of: {names}")
    return paths[0]


def notebook(arguments):
    """Run one notebook with parameters of the reader's, into outputs/single/."""
    path, folder = chosen(arguments), arguments.outputs / "single"
    known = list(papermill.inspect_notebook(str(path)))
    given = parameters.parse(" ".join(arguments.parameters), known, path.stem)
    folder.mkdir(exist_ok=True)
    jobs = [runner.Job(path, folder / path.name, given, arguments.cell_seconds)]
    console.follow(jobs, 1)
    found = stated(jobs)
    console.failures(jobs)
    console.details(found)
    console.say(f"executed notebook: {folder / path.name}")
    return failures(jobs)


def survey(arguments):
    """Read what published wheels hold for SM120 and SM121, and keep it; or of one that is named,
    as ``name`` or ``name==version``, show it."""
    which = arguments.which.replace(" ", "")
    answers = workers.ask(holdings.wheel, verdicts.wanted(which), "the wheels")
    rows = [each.answer for each in answers if not each.error]
    failed = [each for each in answers if each.error]
    if rows:
        libraries = {f"SM{sm}": verdicts.library_table(rows, sm) for sm in verdicts.GPUS}
        console.survey(verdicts.table(rows), libraries if which else {})
    for each in rows if which else ():
        for path, known in each.get("ptxas", {}).items():
            console.say(f"  {each['machine']}, {path}: knows {', '.join(known)}")
    for each in rows:
        for path, why in each.get("unread", {}).items():
            console.warn(f"{each['file']}: {path} was not read: {why}")
    for each in failed:
        console.warn(f"{each.question['project']} for {each.question['machine']}: {each.error}")
    if not which:
        verdicts.keep(rows, [each.question for each in failed])
        console.say(f"kept: {verdicts.KEPT}, {verdicts.KEPT.stat().st_size:,} B")
    return failed


def lab(arguments):
    """Become JupyterLab on the notebooks, or on one, with options of the reader's."""
    place = chosen(arguments) if arguments.number else Path(arguments.notebooks)
    place = place.absolute().relative_to(record.REPOSITORY)
    checkpoints = Path(os.environ["JUPYTER_DATA_DIR"], "checkpoints")
    options = [f"--notebook-dir={record.REPOSITORY}", f"--LabApp.default_url=/lab/tree/{place}",
               f"--FileCheckpoints.checkpoint_dir={checkpoints}"]
    options += ["--allow-root"] if os.geteuid() == 0 else []  # in a container there is no other
    del os.environ[guard.VARIABLE]  # it is to outlive this run, which ends here
    os.execv(sys.executable,
             [sys.executable, "-m", "jupyterlab", *options, *arguments.options])


def history(_):
    """Read every release of FlashInfer, and keep what it says; status 1 if one could not be."""
    failed = releases.refresh()
    facts = mended.facts(*releases.load())
    mended.SINCE.write_text(json.dumps(facts, indent=1) + "\n")
    for version, error in failed.items():
        console.warn(f"  {version} COULD NOT BE READ, what was kept of it stays: {error}")
    console.say(f"{len(releases.load()[0])} releases; kept: {releases.FILE}, {mended.SINCE}")
    return failed
