"""Probes of TensorRT-LLM itself: probes/ run in processes of their own, whatever they do there."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pandas as pd
import psutil

from lib.errors import CollectionError
from lib.instruments import devices

FOLDER = Path(__file__).parents[2] / "probes"
STATUSES = ("ok", "error", "missing", "skipped")
FIELDS = ("probe", "case", "status", "message", "seconds")
MOST_BYTES = 2**26  # that a probe may print
THROUGH = "ran through"
MARK = "SM12X_PROBE"  # in the environment of a probe and of all that it starts
WHERE = ("import importlib.util as u; s = u.find_spec('tensorrt_llm'); "
         "print(s.origin if s and s.has_location else '')")
NOWHERE = "name the Python that has it in TRTLLM_PYTHON"


def installation():
    """The TensorRT-LLM to run, of ``TRTLLM_PYTHON``, else of this Python; it is not imported.

    Gives the Python (str), and the folder that it would import the package from (Path). Raises
    CollectionError if there is none.
    """
    python = os.environ.get("TRTLLM_PYTHON") or sys.executable
    try:
        origin = subprocess.run([python, "-c", WHERE], capture_output=True, text=True,
                                timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise CollectionError(f"{python} does not run: {type(error).__name__}", NOWHERE) from error
    if not origin:
        raise CollectionError(f"{python} has no TensorRT-LLM to import", NOWHERE)
    return python, Path(origin).parents[1]


def why_not():
    """Why no probe runs here, in one line; the empty string where one does."""
    if not devices.gpus():
        return f"No CUDA GPU here ({devices.why_none()}); TensorRT-LLM itself is not run."
    try:
        return installation() and ""
    except CollectionError as error:
        return f"TensorRT-LLM itself is not run: {error}"


def ask(number, *, seconds=600, parameters=None, environment=None, python=None):
    """Run the probe of a bug (1 to 5), and read what it answered, whatever it did.

    After `seconds` it is killed, with all that it started. `parameters` (dict) are over the probe's
    own, `environment` (dict) over this process's, such as ``PYTHONPATH`` of an overlay. `python`
    (str) is run GPU or not; else `installation`'s, and none where `why_not` has a reason.

    Gives an answer a row (DataFrame: `FIELDS`, and a column for each of the values), and how the
    probe ended, in one line (str).
    """
    if not python and (reason := why_not()):
        return pd.DataFrame(columns=FIELDS), reason
    script = next(FOLDER.glob(f"{number:02}-*.py"))
    command = [python or installation()[0], script, json.dumps(parameters or {})]
    mark = f"{os.getpid()}-{uuid.uuid4().hex}"
    around = os.environ | {"PYTHONUNBUFFERED": "1"} | (environment or {}) | {MARK: mark}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began, stopped = time.monotonic(), ""
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                     env=around, start_new_session=True)
        except OSError as error:
            return pd.DataFrame(columns=FIELDS), f"{command[0]} does not start: {error.strerror}"
        try:
            while child.poll() is None and not stopped:
                time.sleep(0.02)
                if time.monotonic() - began > seconds:
                    stopped = f"was killed after its limit of {seconds:g} s"
                elif os.fstat(out.fileno()).st_size + os.fstat(err.fileno()).st_size > MOST_BYTES:
                    stopped = f"was killed: it printed more than {MOST_BYTES >> 20} MiB"
        finally:  # also where the reader interrupts
            end(child, mark)
        spent = time.monotonic() - began
        out.seek(0), err.seek(0)
        said, complained = (each.read(MOST_BYTES).decode(errors="replace") for each in (out, err))
    rows, rubbish = answers(number, said)
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=FIELDS)
    how = stopped or ending(child.returncode)
    return table, sentence(number, how, spent, table, rubbish, complained)


def ending(status):
    """What a process's status says of its end."""
    if status < 0:
        names = {-each.value: each.name for each in signal.Signals}
        return f"was ended by {names.get(status, f'signal {-status}')}"
    return f"ended with status {status}" if status else THROUGH


def end(child, mark):
    """Kill a probe's process group, and all that has its mark, in whatever session it is."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                process.kill()
                process.wait(10)


def answers(number, said):
    """The answers among a probe's lines (list of dict), and how many other lines there are."""
    rows, lines = [], [line for line in said.splitlines() if line.strip()]
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            read = json.loads(line)
            if read["probe"] == number and read["status"] in STATUSES:
                fixed = {field: read[field] for field in FIELDS}
                rows.append(fixed | read["values"] | fixed)
    return rows, len(lines) - len(rows)


def sentence(number, how, spent, table, rubbish, complained):
    """How a probe ended, in one line (str)."""
    counts = table["status"].value_counts()
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if status in counts)
    line = f"Probe {number} {how}, in {spent:.1f} s, with {told or 'no answer'}"
    line += f"; {rubbish} lines were no answers" if rubbish else ""
    last = complained.strip().splitlines()[-1:] if how != THROUGH else []
    return f"{line}; last words: {last[0].strip()[:200]}" if last else f"{line}."
