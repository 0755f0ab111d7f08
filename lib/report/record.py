"""evidence.json: collected from executed notebooks, written whole, read with care."""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lib import cache, evidence
from lib.errors import CollectionError
from lib.instruments import devices, toolchain
from lib.report import runner
from lib.subjects import wheels

REPOSITORY = Path(__file__).parents[2]
LARGEST = 1_500_000  # bytes of a recorded run
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
PACKAGES = ("torch", "papermill", "nbconvert", "pandas", "plotly", "cuda-core", "cuda-bindings")


def commit():
    """``SM12X_COMMIT``, or this checkout's, with ``+`` if files differ; else ``unknown`` (str)."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    stated = os.environ.get("SM12X_COMMIT")
    if not stated and shutil.which("git"):
        stated = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stdout
    return (stated or "unknown").strip()


def compiler():
    """The CUDA toolchain of a run (dict): ``from``, ``version``, and ``why`` there is none."""
    given = os.environ.get("SM12X_CUDA_HOME")
    found = {"from": "SM12X_CUDA_HOME" if given else "pinned"}
    try:
        return found | {"version": toolchain.find().version}
    except CollectionError as error:
        return found | {"version": "none", "why": error.what}


def describe(started, finished, failed, missing):
    """What a run is (dict): machine, versions, pinned subjects, times (datetimes) and commit;
    what failed (as `Job.failures`), and missing subjects with the reason (dict of str)."""
    gpus, processor = devices.gpus(), platform.machine()
    return {
        "machine": {
            "name": gpus[0].name if gpus else f"{processor} without a GPU",
            "architecture": processor, "system": f"{platform.system()} {platform.release()}",
            "cores": os.cpu_count(), "driver": devices.cuda_version() or "none",
            "as found": devices.state(), "gpus": [gpu.as_dict() for gpu in gpus]},
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in PACKAGES},
        "subjects": [{"name": wheel.name, "version": wheel.version, "sha256": wheel.sha256}
                     for wheel in wheels.pins()],
        "toolchain": compiler(), "failed": failed, "missing": missing,
        "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"), "commit": commit()}


def findings(notebook):
    """What an executed notebook (Path) states: its findings, of one id the last (dict of id to cell
    and dict), and why others are none (list of cell and str)."""
    found, wrong = {}, []
    for number, cell in enumerate(runner.executed(notebook).cells, 1):
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            if evidence.findings.MIME not in data:
                continue
            finding = data[evidence.findings.MIME]
            if why := flaw(finding):
                wrong.append((number, why))
            else:
                found[finding["id"]] = number, finding
    return found, wrong


def flaw(finding):
    """Why something that a notebook shows is no finding (str); empty if it is one."""
    name = f"the finding {str(finding.get('id') if isinstance(finding, dict) else finding)[:80]}"
    try:
        evidence.findings.validate(finding, evidence.findings.FINDING, name)
        compact(finding).encode()
    except CollectionError as error:
        return error.what
    except ValueError as error:  # a number that is none, text that is no Unicode
        return f"{name} is damaged: {error}"
    return ""


def write(path, run, found, largest=None):
    """Write evidence.json (Path) whole or not at all (its dict), each finding with its digest: in
    `largest` bytes, if stated."""
    found = [finding | {"digest": evidence.findings.digest(finding)} for finding in found]
    record = {"schema": 2, "run": run, "findings": found}
    check(record, path.name)
    text = compact(record) if largest else json.dumps(record, indent=1, ensure_ascii=False)
    if largest and (size := len(text.encode()) + 1) > largest:
        sizes = sorted(((len(compact(each).encode()), each["id"]) for each in found))[:-6:-1]
        most = ", ".join(f"{id} {each:,} B" for each, id in sizes)
        raise CollectionError(f"the evidence has {size:,} B, and a recorded run may have "
                              f"{largest:,} B; the largest findings: {most}",
                              "keep fewer rows in the values of these findings, and record again")
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text + "\n")
    os.replace(unfinished, path)
    return record


def compact(value):
    """JSON without white space (str); a number that is none is a ValueError."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def check(record, name):
    """Hold a record against the schema, and its ids against each other, or a CollectionError."""
    evidence.findings.validate(record, evidence.parts.SCHEMA, name)
    ids = [each["id"] for each in record["findings"]]
    if twice := sorted({each for each in ids if ids.count(each) > 1}):
        raise CollectionError(f"{name}: two notebooks state the finding {', '.join(twice)}",
                              "give each finding an id of its own")


def portable(value):
    """A record that can be passed on: no lines of others' source (``code``), words for paths."""
    folders = {cache.root(): "<cache>", sys.prefix: "<environment>", REPOSITORY: "<checkout>",
               Path.home(): "~"}
    words = {str(place): word for place, word in folders.items() if len(Path(place).parts) > 1}
    longest = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    pattern = re.compile(rf"(?<![\w./-])(?:{longest})(?![\w.-])")

    def walk(value):
        if isinstance(value, dict):
            return {walk(key): walk(item) for key, item in value.items() if key != "code"}
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, str):
            return pattern.sub(lambda found: words[found[0]], value)
        return value
    return walk(value)


def keep(folder, name, run, found, scratch):
    """Keep a finished run as ``<folder>/<name>/evidence.json`` (Path), its findings marked so;
    `scratch` is on the same disk, and the last one stays if the new one is refused there."""
    named(name)
    if not found:
        raise CollectionError("no notebook stated a finding, so nothing was recorded",
                              "mend what failed, and record again")
    marked = [each | {"recorded": True} for each in found]
    write(scratch / "recorded.json", portable({"name": name} | run), portable(marked), LARGEST)
    (folder / name).mkdir(parents=True, exist_ok=True)
    os.replace(scratch / "recorded.json", folder / name / "evidence.json")
    return folder / name / "evidence.json"


def named(name):
    """Refuse (CollectionError) a name that is no `NAME`."""
    if not NAME.fullmatch(name):
        raise CollectionError(f"{name!r} cannot be the name of a recorded run",
                              "use letters, digits, -, _ and ., as in: make record NAME=h100")


def read(path, largest=None):
    """Read an evidence.json (dict) of at most `largest` bytes, and refuse what is none."""
    path = Path(path)
    try:
        if not path.is_file():
            raise CollectionError(f"there is no file {path}", "make report writes evidence.json")
        if largest and (size := path.stat().st_size) > largest:
            raise CollectionError(f"{path} has {size:,} B, and at most {largest:,} B are read",
                                  "keep fewer rows in the values of its findings")
        record = json.loads(path.read_text(encoding="utf-8"))
        compact(record).encode()  # refuses text that is no Unicode, and numbers that are none
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {error.strerror}",
                              "make it readable, or name another file") from error
    except (ValueError, RecursionError) as error:
        raise CollectionError(f"{path} is damaged: {error}", "make it with make report") from error
    check(record, str(path))
    return record
