"""How long the doctor takes from the start of Python to its last line: with nothing named, with all pinned FlashInfers and many files."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib.subjects import wheels
from tests.instruments import fatbins

LIMIT, CODE_LIMIT = 3.0, 5.0  # s
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


def _environment(folder):
    """torch and ten others with CUDA code, of 1 GB a library, of which 400 MB load nowhere and are searched whole; and a package of cubins."""
    fatbin = [fatbins.entry("cubin", sm, size=4096) for sm in (75, 80, 90, 120)] + [fatbins.entry("ptx", 120, isa="8.8", size=4096)]
    only = fatbins.library(fatbins.entry("cubin", 90, "a"))
    many = fatbins.elf([(".nv_fatbin", fatbins.fatbin(*fatbin) * 400)])
    for package in range(11):
        info = folder / f"package_{package}-1.dist-info"
        info.mkdir()
        names = [f"package_{package}/lib{at}.so" for at in range(3)] + [f"package_{package}/{at}.py" for at in range(5000)]
        (info / "RECORD").write_text("".join(f"{name},,\n" for name in names))
        (folder / f"package_{package}").mkdir()
        for at, name in enumerate(names[:3]):
            path = folder / name
            path.write_bytes(many if package or at else only)
            os.truncate(path, 1_000_000_000 if package or at else 400_000_000)
    names = [f"cubins/{'x' * 40}/{at}.cubin" for at in range(10_000)]
    (folder / "cubins" / ("x" * 40)).mkdir(parents=True)
    (folder / "cubins-1.dist-info").mkdir()
    (folder / "cubins-1.dist-info/RECORD").write_text("".join(f"{name},,\n" for name in names))
    content = fatbins.cubin(100, "f")
    for name in names:
        (folder / name).write_bytes(content)


def doctor():
    """A row for each case (list of dict with bar, measured, limit, unit, ok)."""
    trees = [wheels.source("flashinfer-python", release) for release in RELEASES]
    with tempfile.TemporaryDirectory() as many:
        for number in range(FILES):
            Path(many, f"{number}.txt").touch()
        cases = {"nothing named": _seconds(), f"{len(trees)} FlashInfers and a folder of {FILES:,} files": _seconds(*trees, many)}
    with tempfile.TemporaryDirectory() as folder:
        _environment(Path(folder))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.so")) / 1e9
        seconds = _seconds(folder)
    code = {"bar": f"doctor, 12 packages with CUDA code: {size:,.0f} GB of libraries and 10,000 cubins", "measured": seconds, "limit": CODE_LIMIT, "unit": "s", "ok": seconds <= CODE_LIMIT}
    return [code] + [{"bar": f"doctor, {name}", "measured": seconds, "limit": LIMIT, "unit": "s", "ok": seconds <= LIMIT}
        for name, seconds in cases.items()]
