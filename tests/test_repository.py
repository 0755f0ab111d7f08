"""What is committed keeps to its own rules."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from lib import evidence
from lib.evidence import claims
from lib.report import runner
from lib.subjects import patches, wheels
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def committed():
    """The files that git tracks or would track."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def requirements():
    return {line.strip() for line in (ROOT / "requirements.txt").read_text().splitlines() if line.strip() and not line.startswith("#")}


def test_requirements_are_exact_pins():
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][^ ;*]*", line) for line in requirements())
    assert {"jupyterlab", "papermill", "torch", "pandas", "plotly"} <= {line.split("==")[0] for line in requirements()}


def test_environment_is_the_same_list_and_tensorrt_llm():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    assert {line for line in listed if not line.startswith("tensorrt-llm==")} == requirements()
    assert sum(line.startswith("tensorrt-llm==") for line in listed) == 1


def test_every_wheel_is_pinned_for_both_processors():
    rows = tomllib.loads(wheels.PINS.read_text())["wheel"]
    platforms = {}
    for row in rows:
        platforms.setdefault((row["name"], row["version"]), set()).add(row["platform"])
        assert re.fullmatch("[0-9a-f]{64}", row["sha256"]) and row["bytes"] > 0
    assert all(each in ({"any"}, {"x86_64", "aarch64"}) for each in platforms.values())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_clean_short_and_has_parameters(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code), "committed with outputs"
    assert max(len(cell["source"]) for cell in code) <= 25, "a code cell is too long"
    assert len(cells) <= 60, "too many cells"
    text = "\n".join("".join(cell["source"]) for cell in code)
    assert not re.search(r"\bverdict\s*=", text), "a verdict is computed from parts, never written by hand"
    assert not re.search(r"\bgo\.|plotly|subprocess", text), "plotting and processes belong into lib"
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1 and 'target_arch = "sm_121a"' in "".join(tagged[0]["source"])


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if "01" <= path.stem[:2] <= "05"], ids=lambda path: path.stem)
def test_a_notebook_about_a_bug_has_five_beats(path):
    text = "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "markdown")
    headings = [line[3:].lower() for line in text.splitlines() if line.startswith("## ")]
    assert [heading for heading in headings if heading in evidence.findings.BEATS] == list(evidence.findings.BEATS)


LATER = ("atlas", "history", "survey", "workbench")  # rooms of the investigations after the five bugs


def lines(*folders):
    """How many lines of Python some folders of lib hold."""
    return sum(len(path.read_text().splitlines()) for folder in folders for path in (ROOT / "lib" / folder).rglob("*.py"))


def test_modules_are_short_and_do_not_print():
    for path in (ROOT / "lib").rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 280, f"{path.name} is no longer one noun"
        speaks = path.name in ("__main__.py", "console.py")
        assert speaks or not re.search(r"^\s*print\(", text, re.MULTILINE), f"{path.name} prints"


def test_what_notebooks_share_can_be_read_in_an_hour_and_the_whole_does_not_grow():
    assert lines("subjects", "instruments", "evidence") < 3000
    house = lines(".") - lines(*LATER)
    assert house < 10750, "the aim was 9,000: delete before you add"


def test_every_room_says_what_lives_there_and_the_map_names_it():
    rooms = [path for path in (ROOT / "lib").iterdir() if (path / "__init__.py").is_file()]
    assert {path.name for path in (ROOT / "lib").glob("*.py")} == {"__init__.py", "__main__.py", "cache.py", "errors.py"}
    for room in rooms:
        assert (room / "__init__.py").read_text().startswith('"""'), room.name
        assert f"\n{room.name}/" in (ROOT / "lib/__init__.py").read_text(), room.name


def test_imports_run_downward_only():
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_lines_can_be_read():
    done = subprocess.run([Path(sys.executable).with_name("ruff"), "check", "--no-cache", "--output-format", "concise", "lib", "notebooks", "tests"],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_patch_has_a_header_and_changes_something():
    for path in patches.FOLDER.glob("*.diff"):
        patch = patches.Patch(path.name)
        assert patch.header["Licence"] == "Apache-2.0" and patch.parsed.added + patch.parsed.removed


def test_the_ledger_has_the_claims_of_the_account():
    expected = ("M1 M2 M3 1a 1b 1c 1d 1e 1f 1g 1h 1i 1j 2a 2b 2c 2d 2e 2f 3a 3b 3c 3d 3e 4a 4b 4c 4d "
                "5a 5b 5c 5d 5e P1 P2 P3 P4 P5 P6 D1 D2 D3 D4 D5 D6 D7")
    assert list(claims.ledger()) == expected.split()


def test_no_path_of_a_machine_is_committed():
    pattern = re.compile(r"/(?:work|root|home|farm)/[a-z]")
    for path in committed():
        if path.suffix in {".py", ".ipynb", ".md", ".toml", ".yml", ".diff", ".json", ".txt", ".j2", ".js", ".css"}:
            assert not (found := pattern.search(path.read_text())), f"{path.relative_to(ROOT)}: {found[0]}"


def test_a_notebook_finds_lib_wherever_it_is_opened(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", "import lib; print(lib.__file__)"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(ROOT / "lib" / "__init__.py"), done.stderr


def test_the_kernel_is_the_one_of_this_environment(tmp_path):
    listed = subprocess.run([sys.executable, "-m", "jupyter_client.kernelspecapp", "list", "--json"], capture_output=True, text=True,
                            env=os.environ | runner.environment(tmp_path))
    assert json.loads(listed.stdout)["kernelspecs"]["python3"]["resource_dir"].startswith(sys.prefix)
