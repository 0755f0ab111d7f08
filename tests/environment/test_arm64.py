"""The collection on aarch64, a Spark's architecture, by emulation: half an hour and more. Off unless asked for: make test T="-m emulated"."""

import json

import pytest

from lib.report import record
from tests.environment import arm64

pytestmark = [pytest.mark.emulated, pytest.mark.xdist_group("arm64"), pytest.mark.skipif(bool(arm64.missing()), reason=arm64.missing())]
SECONDS = 7200


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


@pytest.mark.parametrize("number", ["00", "02", "04", "06", "01"])
def test_a_notebook_finds_there_what_it_finds_here(ready, findings, number):
    """With the compilers for aarch64, which the collection chose: each finding of this machine's, with its verdict and values; times aside."""
    done = arm64.run(f".venv/bin/python -m lib --cell-seconds 3600 notebook {number}", capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    [executed] = (arm64.root() / "sm12x/outputs/single").glob(f"{number}-*.ipynb")
    there = {each["id"]: each for each in record.findings(executed)}
    here = {id: each for id, each in findings.items() if each["notebook"] == executed.stem}
    assert there and set(there) == set(here)
    for id, finding in here.items():
        assert (there[id]["verdict"], there[id]["tier"]) == (finding["verdict"], finding["tier"]), id
        assert decided(there[id]) == decided(finding), id


def decided(finding):
    return json.dumps([finding["parts"], finding["values"]], sort_keys=True)
