"""Evidence: words that are known, tiers that were earned, and a file that is whole or not there."""

import json
import math

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib import evidence
from lib.errors import CollectionError
from lib.evidence import claims
from lib.instruments import devices
from lib.report import record, scoreboard

GOOD = {"beat": "verify", "verdict": "confirmed", "tier": "executed", "summary": "1 of 1"}


def test_a_finding_is_kept_and_shows_itself():
    bug = evidence.open(4, "04-autotuner")
    bug.finding("a.b", claim="4a", values={"table": pd.DataFrame({"n": np.array([1, 2])}), "nan": math.nan}, sources=["x==1"], **GOOD)
    found = bug.findings["a.b"]
    bundle = found._repr_mimebundle_()
    assert bundle[evidence.MIME]["values"] == {"table": [{"n": 1}, {"n": 2}], "nan": None}
    json.dumps(bundle[evidence.MIME], allow_nan=False)


def test_html_of_a_finding_is_escaped():
    bug = evidence.open(4, "04-autotuner")
    bug.finding("a.b", **GOOD | {"summary": "<script>alert(1)</script>"})
    assert "<script>" not in bug.findings["a.b"]._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize("wrong", [{"verdict": "true"}, {"beat": "end"}, {"tier": "felt"}, {"claim": "9z"}, {"summary": ""}, {"id": "No Id"}])
def test_unknown_words_are_refused(wrong):
    with pytest.raises(CollectionError):
        evidence.open(4, "n").finding(**{"id": "a.b"} | GOOD | wrong)


@pytest.mark.parametrize("tier, capability, allowed", [
    ("gpu", None, False), ("gpu", (9, 0), True), ("sm12x", None, False), ("sm12x", (9, 0), False), ("sm12x", (12, 1), True)])
def test_a_tier_must_be_earned(monkeypatch, tier, capability, allowed):
    class Gpu:
        pass

    Gpu.capability = capability
    monkeypatch.setattr(devices, "gpus", lambda: [Gpu] if capability else [])
    state = lambda: evidence.open(1, "n").finding("a.b", **GOOD | {"tier": tier})  # noqa: E731
    if allowed:
        state()
    else:
        with pytest.raises(CollectionError, match="was claimed"):
            state()


def test_a_report_needs_a_link():
    with pytest.raises(CollectionError, match="without a link"):
        evidence.open(1, "n").finding("a.b", **GOOD | {"tier": "reported"}, sources=["somebody"])


def finding(id="a.b", claim=None, tier="executed", verdict="confirmed"):
    return {"id": id, "bug": 1, "beat": "verify", "claim": claim, "verdict": verdict, "tier": tier, "summary": "s", "values": {},
            "unit": "", "sources": [], "notebook": "01", "recorded": False}


RUN = {"machine": {"name": "m"}, "versions": {}, "subjects": [], "started": "a", "finished": "b", "commit": "c"}


def test_a_record_is_written_and_read(tmp_path):
    record.write(tmp_path / "evidence.json", RUN, [finding()])
    assert record.read(tmp_path / "evidence.json")["findings"] == [finding()]
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.json"]


def test_one_id_in_two_notebooks_is_refused(tmp_path):
    with pytest.raises(CollectionError, match="a.b"):
        record.write(tmp_path / "evidence.json", RUN, [finding(), finding()])
    assert not (tmp_path / "evidence.json").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2, "run": {}, "findings": []}', json.dumps({"schema": 1, "run": RUN, "findings": [{}]})])
def test_a_file_that_is_not_ours_is_refused_by_name(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(CollectionError, match="other.json"):
        record.read(tmp_path / "other.json")
    with pytest.raises(CollectionError, match="nowhere.json"):
        record.read(tmp_path / "nowhere.json")


def test_the_last_statement_of_an_id_counts(tmp_path):
    outputs = [nbformat.v4.new_output("display_data", {evidence.MIME: finding(verdict=verdict)}) for verdict in ("refuted", "refined")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])
    nbformat.write(notebook, tmp_path / "n.ipynb")
    assert [each["verdict"] for each in record.findings(tmp_path / "n.ipynb")] == ["refined"]


@given(some.lists(some.tuples(some.sampled_from(["1a", "1b", None]), some.sampled_from(evidence.TIERS)), max_size=8))
def test_the_strongest_tier_decides_and_of_equals_the_last(stated):
    found = [finding(f"f.{i}", claim, tier) for i, (claim, tier) in enumerate(stated)]
    decided = claims.decide(found)
    assert list(decided) == list(claims.ledger())
    for claim in ("1a", "1b"):
        about = [each for each in found if each["claim"] == claim]
        best = min((evidence.TIERS.index(each["tier"]) for each in about), default=None)
        expected = [each for each in about if evidence.TIERS.index(each["tier"]) == best][-1:]
        assert ([decided[claim]] if decided[claim] else []) == expected


def test_a_claim_that_any_machine_decided_on_sm12x_needs_no_spark_any_more():
    here, there = finding("a.here", "1b") | {"tier": "compiled"}, finding("a.there", "1b") | {"tier": "sm12x"}
    assert [row["claim"] for row in scoreboard.on_a_spark([here])] == ["1b"]
    assert scoreboard.on_a_spark([here, there]) == []
