"""How long the GPU programs of notebook 01 take to build, all of them and nothing from the cache; on a machine with a GPU."""

import os
import tempfile
import time
from pathlib import Path
from unittest import mock

from lib import cache
from lib.bug1_shared_memory import binaries, harness
from lib.instruments import devices

LIMIT = 180.0  # s, on 16 cores


def anew(kind, inputs, ask):
    """`cache.remember` that remembers nothing."""
    folder = Path(tempfile.mkdtemp())
    return cache.Answer(ask(folder), folder, "", 0.0)


def build():
    """One row, or none without a GPU that a kernel is described for (list of dict with bar, measured, limit, unit, ok)."""
    wanted = harness.for_device(devices.gpus()[0].sm) if devices.gpus() else []
    if not wanted:
        return []
    start = time.perf_counter()
    with mock.patch.object(cache, "remember", anew):
        made = binaries.build(wanted, "0.6.6")
    seconds = time.perf_counter() - start
    whole = not any(isinstance(each, Exception) for each in made)
    return [{"bar": f"building {len(wanted)} GPU programs on {os.cpu_count()} cores", "measured": seconds, "limit": LIMIT, "unit": "s",
             "ok": whole and seconds <= LIMIT}]
