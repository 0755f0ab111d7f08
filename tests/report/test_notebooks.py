"""Every notebook end to end: the facts that its evidence must hold."""

import json
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest

from lib import evidence
from lib.bug1_shared_memory import harness
from lib.evidence import claims, figures
from lib.instruments import devices
from lib.report import machines, record
from tests.conftest import ROOT


def test_every_notebook_states_findings(report, findings):
    executed = {path.stem for path in (report / "notebooks").glob("*.ipynb")}
    assert executed == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert executed - {"08-scoreboard"} == {finding["notebook"] for finding in findings.values()}


def test_no_finding_claims_more_than_this_machine_has(findings):
    tiers = {finding["tier"] for finding in findings.values()}
    if not devices.gpus():
        assert not tiers & {"sm12x", "gpu"}
    assert all(finding["sources"] or finding["tier"] == "executed" for finding in findings.values())


def test_the_run_is_described(report):
    run = json.loads((report / "evidence.json").read_text())["run"]
    assert run["machine"]["name"] and run["versions"]["torch"] and all(len(subject["sha256"]) == 64 for subject in run["subjects"])


def test_00_the_machine(findings):
    figures = findings["machine.shared-memory-budgets"]["values"]["figures"]
    block = {(row["sm"], row["value"]) for row in figures if row["quantity"] == "shared memory per block"}
    assert block == {(90, 232448), (100, 232448), (103, 232448), (120, 101376), (121, 101376)}
    sets = findings["machine.instruction-sets"]["values"]
    assert "mma.sync NVFP4 (block_scale)" in sets["only sm_121a"] and "tcgen05.mma NVFP4" in sets["only sm_100a"]


def test_04_the_autotuner(findings):
    decided = claims.decide(list(findings.values()))
    verdicts = {claim: decided[claim]["verdict"] for claim in ("4a", "4b", "4c", "4d")}
    assert verdicts == {"4a": "confirmed", "4b": "refined", "4c": "refuted", "4d": "refined"}
    cases = findings["autotuner.exception"]["values"]["cases"]
    exact = [case for case in cases if case["outcome"] == "IndexError: list assignment index out of range"]
    assert len(exact) == 5 and {case["line"] for case in exact} == {781} and all(case["constraint"] != "[]" for case in exact)
    raising = {row["tuner"]: row for row in findings["autotuner.patches"]["values"]["raising"]}
    assert raising["published"]["look-up raises"] == 2 and raising["published"]["warm-up raises"] == raising["original"]["warm-up raises"] == 15
    assert raising["revised"]["look-up raises"] == raising["revised"]["warm-up raises"] == 0
    assert findings["autotuner.in-bounds"]["values"]["compared"] >= 10_000
    assert findings["autotuner.overlay"]["verdict"] == "confirmed"
    fate = {row["tuner"]: row for row in findings["autotuner.skipping"]["values"]["summary"]}
    assert fate["skip both"]["with a wrong scale"] > 0 and fate["revised"]["with a wrong scale"] == 0
    assert fate["right spec"]["calls that got the tuned tactic"] == 7


def test_08_the_scoreboard(report, findings):
    index = (report / "report" / "index.html").read_text()
    assert all(f'id="claim-{claim}"' in index for claim in claims.ledger()) and 'class="verdict open"' not in index
    assert 'id="Machines"' in index and all(f'href="machine-{path.name}.html"' in index for path in machines.recorded())
    assert f"{len(claims.ledger())} claims." in index and "Not everything ran" not in index
    assert (report / "report.zip").stat().st_size < 12e6


def test_every_verdict_is_one_of_the_known(findings):
    assert {finding["verdict"] for finding in findings.values()} <= set(evidence.VERDICTS)


@pytest.mark.parametrize("capability, tier, claim", [((9, 0), "gpu", None), ((12, 1), "sm12x", "1b")])
def test_01_what_a_gpu_answered_becomes_findings_of_its_tier(monkeypatch, capability, tier, claim):
    """The cells that only a GPU reaches, run on what one answered: as it was, and as if an SM12x part had said the same."""
    kept = record.read(ROOT / "outputs/recorded/h100/evidence.json")
    trials = next(pd.DataFrame(each["values"]["trials"]) for each in kept["findings"] if each["id"] == "fp4-gemm.trials")
    gpu, stated = SimpleNamespace(name="a GPU", capability=capability), {}
    monkeypatch.setattr(devices, "gpus", lambda: [gpu])
    bug = SimpleNamespace(finding=lambda id, **found: stated.update({id: found}))
    names = {"trials": trials, "gpu": gpu, "bug": bug, "accused": pd.DataFrame({"name": ["128x128x128"]}), "flashinfer": "0.6.6", "T": "https://",
             "pd": pd, "devices": devices, "harness": harness, "figures": figures}
    for cell in nbformat.read(ROOT / "notebooks/01-shared-memory.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and cell.source.startswith(("if not trials.empty", "timed = ", "if len(timed)")):
            exec(cell.source, names)
    assert {each["tier"] for each in stated.values()} == {tier}
    assert {id: (found.get("claim"), found["verdict"]) for id, found in stated.items()} == {
        "fp4-gemm.trials": (claim, "refuted" if claim else "confirmed"), "fp4-gemm.symptom-here": ("1f", "refined"), "fp4-gemm.speed": (None, "confirmed")}
    stated.clear()
    names["trials"] = trials.assign(initialize="Error Internal", asked="cudaErrorInvalidValue")
    cell = next(cell for cell in nbformat.read(ROOT / "notebooks/01-shared-memory.ipynb", as_version=4).cells if "fp4-gemm.trials" in cell.source)
    exec(cell.source, names)
    assert stated["fp4-gemm.trials"]["verdict"] == ("confirmed" if claim else "refined")
