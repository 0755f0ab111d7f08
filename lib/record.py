"""evidence.json: collected from executed notebooks, written whole, read with care."""

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

import nbformat

from . import evidence, machine, subjects
from .errors import CollectionError

REPOSITORY = Path(__file__).parent.parent
PACKAGES = ("torch", "papermill", "nbconvert", "pandas", "plotly", "cuda-core", "cuda-bindings")


def commit():
    """The commit of this checkout, with ``+`` if files differ from it; ``unknown`` outside git."""
    def git(*arguments):
        return subprocess.run(["git", "-C", REPOSITORY, *arguments], capture_output=True, text=True, check=True).stdout.strip()
    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def describe(started, finished):
    """What a run is: machine, versions, pinned subjects with sha256, times and commit, as evidence.json holds it.

    Parameters
    ----------
    started, finished : datetime.datetime
        With their time zone.
    """
    gpus = machine.gpus()
    name = gpus[0].name if gpus else f"{platform.machine()} without a GPU"
    return {
        "machine": {"name": name, "architecture": platform.machine(), "system": f"{platform.system()} {platform.release()}",
                    "cores": os.cpu_count(), "driver": machine.driver() or "none",
                    "as found": machine.state(), "gpus": [gpu.as_dict() for gpu in gpus]},
        "versions": {"python": platform.python_version()} | {package: importlib.metadata.version(package) for package in PACKAGES},
        "subjects": [{"name": wheel.name, "version": wheel.version, "sha256": wheel.sha256} for wheel in subjects.pins()],
        "started": started.isoformat(timespec="seconds"), "finished": finished.isoformat(timespec="seconds"), "commit": commit(),
    }


def findings(notebook):
    """The findings that an executed notebook (Path) shows, in their order; of one id the last counts (list of dict)."""
    found = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            if finding := output.get("data", {}).get(evidence.MIME):
                found[finding["id"]] = finding
    return list(found.values())


def write(path, run, found):
    """Write evidence.json whole or not at all.

    Raises
    ------
    CollectionError
        If it is not as the schema says, or two notebooks state one id.
    """
    record = {"schema": 1, "run": run, "findings": found}
    evidence.validate(record, evidence.SCHEMA, path.name)
    ids = [each["id"] for each in found]
    if twice := sorted({each for each in ids if ids.count(each) > 1}):
        raise CollectionError(f"two notebooks state the finding {', '.join(twice)}", "give each finding an id of its own")
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    os.replace(unfinished, path)


def read(path):
    """Read an evidence.json.

    Raises
    ------
    CollectionError
        If the file is missing, is no JSON, or is not as the schema says.
    """
    try:
        record = json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise CollectionError(f"there is no {path}", "make report writes it") from error
    except ValueError as error:
        raise CollectionError(f"{path} is damaged: {error}", "make it anew with make report") from error
    evidence.validate(record, evidence.SCHEMA, str(path))
    return record
