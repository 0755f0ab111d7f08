"""How long the doctor takes from the start of Python to its last line: with nothing named, with all pinned FlashInfers and many files."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib.subjects import wheels

LIMIT = 3.0  # s
RELEASES = ("0.6.6", "0.6.8", "0.7.2.post1")
FILES = 50_000


def _seconds(*folders):
    """The worst of three runs of the command (float)."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "lib.doctor", *map(str, folders)],
                       cwd=Path(__file__).parent.parent, check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return max(taken)


def doctor():
    """A row for each case (list of dict with bar, measured, limit, unit, ok)."""
    trees = [wheels.source("flashinfer-python", release) for release in RELEASES]
    with tempfile.TemporaryDirectory() as many:
        for number in range(FILES):
            Path(many, f"{number}.txt").touch()
        cases = {"nothing named": _seconds(), f"{len(trees)} FlashInfers and a folder of {FILES:,} files": _seconds(*trees, many)}
    return [{"bar": f"doctor, {name}", "measured": seconds, "limit": LIMIT, "unit": "s", "ok": seconds <= LIMIT}
        for name, seconds in cases.items()]
