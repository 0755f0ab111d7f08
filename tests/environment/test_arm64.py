"""The collection on aarch64, a Spark's architecture, by emulation: about half an hour. Off unless asked for: make test T="-m emulated"."""

import json

import nbformat
import pytest

from lib.report import record
from tests.conftest import ROOT
from tests.environment import arm64

pytestmark = [pytest.mark.emulated, pytest.mark.xdist_group("arm64"), pytest.mark.skipif(bool(arm64.missing()), reason=arm64.missing())]
SECONDS = 7200
TIMED = {"autotuner.in-bounds"}  # its values are times
WHOLE_KERNELS = "program = harness.nvfp4("  # from here on notebook 01 compiles whole kernels: over five minutes a file by emulation


@pytest.fixture(scope="module")
def ready():
    """An environment that the collection set up there by itself, with the torch that is there already."""
    done = arm64.run("make --no-print-directory PYTHON=python3 .venv/ready && .venv/bin/python -c "
                     "'import platform, torch; print(platform.machine(), torch.__version__, torch.__file__)'", capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.split()[-3:]


def test_the_set_up_there_uses_the_torch_that_is_there(ready):
    machine, version, place = ready
    assert machine == "aarch64" and version.startswith("2.9.1") and place.startswith("/usr/local/lib/")


@pytest.mark.parametrize("number", ["00", "02", "04", "06"])
def test_a_notebook_finds_there_what_it_finds_here(ready, findings, number):
    """With the compilers for aarch64, which the collection chose: each finding of this machine's, with its verdict and values; times aside."""
    there = run("notebooks", number)
    assert set(there) == {id for id, each in findings.items() if each["notebook"].startswith(number)}
    assert {id: decided(each) for id, each in there.items()} == {id: decided(findings[id]) for id in there}


def test_the_sizes_of_kernels_there_are_those_here(ready, findings):
    """Notebook 01 as far as every kernel's shared memory is known, and the launcher before and after the patch."""
    whole = next((ROOT / "notebooks").glob("01-*.ipynb"))
    notebook = nbformat.read(whole, as_version=4)
    notebook.cells = notebook.cells[:next(at for at, cell in enumerate(notebook.cells) if cell.source.startswith(WHOLE_KERNELS))]
    folder = arm64.root() / "sm12x/outputs/sizes"
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / whole.name)
    there = run("outputs/sizes", "01")
    assert {"fp4-gemm.dense-tiles", "fp4-gemm.oversized", "fp4-gemm.revised"} <= set(there)
    assert {id: decided(each) for id, each in there.items()} == {id: decided(findings[id]) for id in there}


def run(folder, number):
    """The findings (dict by id) of a notebook of a folder, run there."""
    done = arm64.run(f".venv/bin/python -m lib --notebooks {folder} --cell-seconds 3600 notebook {number}", capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    [executed] = (arm64.root() / "sm12x/outputs/single").glob(f"{number}-*.ipynb")
    return {id: finding for id, (_, finding) in record.findings(executed)[0].items()}


def decided(finding):
    """What must not depend on the machine, as text; of times the parts alone."""
    fields = ["verdict", "tier", "parts"] + ["values"] * (finding["id"] not in TIMED)
    return json.dumps([finding.get(each) for each in fields], sort_keys=True)
