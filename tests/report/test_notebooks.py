"""The run as a whole: every notebook states findings, each follows from its parts, and the scoreboard has every claim."""

import json

import nbformat
import pytest

from lib import evidence
from lib.evidence import claims, parts
from lib.instruments import devices
from lib.report import comparison, site
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_every_notebook_states_findings(report, findings):
    executed = {path.stem for path in (report / "notebooks").glob("*.ipynb")}
    assert executed == {path.stem for path in NOTEBOOKS}
    assert executed - {"10-scoreboard", *site.APART} == {finding["notebook"] for finding in findings.values()}


def test_what_a_finding_says_follows_from_its_parts(findings):
    for id, finding in findings.items():
        found = [evidence.parts.Part(each["holds"], each["tier"], tuple(each["sources"])) for each in finding["parts"]]
        assert bool(finding["claim"]) == bool(finding["verdict"]), id
        if finding["claim"]:
            assert found and (finding["verdict"], finding["tier"]) == (parts.verdict_of(found), parts.tier_of(found)), id


def test_no_finding_claims_more_than_this_machine_has(findings):
    tiers = {each["tier"] for finding in findings.values() for each in [finding, *finding["parts"]] if each.get("holds", True) is not None}
    if not devices.gpus():
        assert not tiers & {"sm12x", "gpu"}
    for id, finding in findings.items():
        assert finding["sources"] or finding["tier"] == "executed", id
        assert finding["tier"] != "reported" or any(each.startswith("https://") for each in finding["sources"]), id


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem not in ("10-scoreboard", *site.APART)], ids=lambda path: path.stem)
def test_no_verdict_and_no_tier_is_written_by_hand(path):
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assert "verdict=" not in code and "tier=" not in code and (".finding(" in code or ".measured(" in code)


def test_the_run_is_described(report):
    run = json.loads((report / "evidence.json").read_text())["run"]
    assert run["machine"]["name"] and run["versions"]["torch"] and all(len(subject["sha256"]) == 64 for subject in run["subjects"])
    assert run["failed"] == [] and run["started"] <= run["finished"] and run["toolchain"]["version"][:2] == "13"


def test_08_the_scoreboard(report):
    index, board = ((report / "report" / f"{name}.html").read_text() for name in ("index", "10-scoreboard"))
    for page in (index, board):
        assert all(f'id="claim-{claim}"' in page for claim in claims.ledger()) and 'class="verdict open"' not in page
        assert all(f'href="machine-{path.name}.html"' in page for path in comparison.recorded())
    assert f"{len(claims.ledger())} claims" in index and "Not everything ran" not in index
    assert (report / "report.zip").stat().st_size < 12e6
