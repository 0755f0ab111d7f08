"""Which torch the environment uses: the rule, and what follows from it. The set-up itself takes minutes and is not run here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib import environment
from tests.conftest import ROOT

VENV = Path("/somewhere/.venv")
TEXT = (ROOT / "requirements.txt").read_text()


@pytest.mark.parametrize("version, folder, used", [
    ("2.9.0a0+145a3a7bda.nv25.10", "/usr/local/lib/python3.12/dist-packages", True),
    ("2.13.0", "/opt/conda/lib/python3.12/site-packages", True),
    ("2.8.0", "/usr/lib/python3/dist-packages", False),  # too old
    ("1.13.1", "/usr/lib/python3/dist-packages", False),
    ("2.13.0", "/somewhere/.venv/lib/python3.12/site-packages", False),  # ours
    ("", "", False)])
def test_a_torch_that_is_there_is_used_unless_it_is_old_or_ours(version, folder, used):
    choice = environment.choose(version, folder, VENV, "2.13.0")
    assert bool(choice.torch) == used and (choice.folder == folder) == (used or not folder)
    assert choice.why.count("torch") == 1 and (version if used else "2.13.0") in choice.why


def test_a_torch_that_is_used_is_neither_installed_nor_replaced():
    given, own = environment.Choice("2.9.0", "/there", ""), environment.Choice("", "", "")
    (pins, loose), (everything, nothing) = (environment.requirements(TEXT, choice) for choice in (given, own))
    assert len(everything) == sum("==" in line for line in TEXT.splitlines()) and nothing == []
    assert {line.split("==")[0] for line in set(everything) - set(pins)} == {"torch", "pandas"}
    pinned = next(line for line in everything if line.startswith("pandas=="))
    assert loose == [pinned.replace("==", ">=2.2,<=")]
    assert {line.split("==")[0] for line in environment.constraints(given)} == {"torch", "numpy"} and environment.constraints(own) == []


def test_a_containers_settings_of_pip_reach_neither_the_set_up_nor_a_download(monkeypatch):
    monkeypatch.setenv("PIP_CONSTRAINT", "/etc/pip/constraint.txt")
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example")
    kept = environment.without_pip_settings()
    assert "PIP_CONSTRAINT" not in kept and kept["PIP_INDEX_URL"] == "https://packages.example"


def test_the_marker_changes_with_all_that_it_depends_on():
    choices = [environment.Choice(*each, "") for each in (("", ""), ("2.9.0", "/a"), ("2.9.0", "/b"), ("2.9.1", "/a"))]
    stamps = [environment.stamp(TEXT, choice, ROOT) for choice in choices]
    stamps += [environment.stamp(TEXT + "#", choices[0], ROOT), environment.stamp(TEXT, choices[0], "/elsewhere")]
    assert len({str(stamp) for stamp in stamps}) == len(stamps)
    assert environment.stamp(TEXT, environment.Choice("", "", "another sentence"), ROOT) == stamps[0]


def test_what_no_schema_asks_for_is_not_imported_at_each_start(tmp_path):
    (tmp_path / "unused.pth").write_text(environment.UNUSED)
    script = "import site, sys; site.addsitedir(sys.argv[1]); import jsonschema; print('lark' in sys.modules, jsonschema.validate('x', {'type': 'string'}))"
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "None"], done.stderr


def test_torch_is_found_without_being_imported(tmp_path):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "version.py").write_text("__version__ = '2.9.0a0+abc'\n")
    command = [sys.executable, "-S", "-c", "from lib import environment; print(*environment.found())"]
    keywords = {"cwd": ROOT, "env": {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}, "capture_output": True, "text": True}
    done = subprocess.run(command, **keywords)
    assert done.stdout.split() == ["2.9.0a0+abc", str(tmp_path)], done.stderr
    (tmp_path / "torch-2.9.1.dist-info").mkdir()
    (tmp_path / "torch-2.9.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.9.1\n")
    done = subprocess.run(command, **keywords)
    assert done.stdout.split() == ["2.9.1", str(tmp_path)]


def test_an_environment_that_is_as_it_should_be_is_left_alone_and_silent(tmp_path):
    """The whole command, against a marker: a second run writes and says nothing."""
    ready = tmp_path / "ready"
    script = ("import json, sys; from pathlib import Path; from lib import environment as e; folder = Path(sys.argv[1]); "
              "choice = e.choose(*e.found(), folder, '2.13.0'); "
              "(folder / 'ready').write_text(json.dumps(e.stamp(Path('requirements.txt').read_text(), choice, Path.cwd())))")
    subprocess.run([sys.executable, "-S", "-c", script, tmp_path], cwd=ROOT, check=True)
    before = ready.stat().st_mtime_ns
    done = subprocess.run([sys.executable, "-S", "-m", "lib.environment", tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and ready.stat().st_mtime_ns == before
