"""Findings: verdicts and tiers that parts come to, sentences that follow values, and a file that is whole or not there."""

import json
import math
from dataclasses import asdict

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib import evidence
from lib.errors import CollectionError
from lib.evidence import claims, parts
from lib.evidence.findings import sentence
from lib.instruments import devices
from lib.report import record, scoreboard
from tests.cells import of

GOOD = {"beat": "verify", "claim": "4a", "parts": {"it raises": evidence.executed(True, "x==1")}, "says": "{n} of {n} raise.", "values": {"n": 1}}
LINK = "https://example.org/page"


def stated(id="a.b", **changes):
    bug = evidence.open(4, "04-autotuner")
    bug.finding(id, **GOOD | changes)
    return bug.findings[id]


def test_a_finding_is_kept_and_shows_itself():
    found = stated(values={"n": np.int64(1), "table": pd.DataFrame({"n": np.array([1, 2])}), "nan": math.nan})
    bundle = found._repr_mimebundle_()
    assert bundle[evidence.findings.MIME]["values"] == {"n": 1, "table": [{"n": 1}, {"n": 2}], "nan": None}
    json.dumps(bundle[evidence.findings.MIME], allow_nan=False)
    assert (found.verdict, found.tier, found.summary, found.sources) == ("confirmed", "executed", "1 of 1 raise.", ["x==1"])
    assert bundle["text/plain"] == "confirmed (executed), claim 4a: 1 of 1 raise.\n  ✓ it raises (executed)"


def test_the_card_shows_verdict_tier_parts_sentence_and_where_to_look():
    html = stated(parts={"it raises": evidence.executed(True, "x==1"), "it was seen": evidence.read(False, LINK),
                         "it was timed": evidence.modelled(None)}, sources=["https://example.org/" + "a1" * 20])._repr_mimebundle_()["text/html"]
    order = [">refined<", " reported ·", "claim 4a", "1 of 1 raise.", ">✓<", "it raises", "(executed)", ">✗<", "it was seen", "(reported)",
             ">?<", "it was timed", "(modelled)", "<code>x==1</code>", f"<a href='{LINK}'>example.org/page</a>", "a1a1'>example.org/a1a1a1a1</a>"]
    places = [html.index(each) for each in order]
    assert places == sorted(places)


def test_html_of_a_finding_is_escaped():
    hostile = "<script>alert(1)</script>"
    found = stated(parts={hostile: evidence.executed(True, hostile, f"https://'onclick='{hostile}")}, says="{word}", values={"word": hostile})
    html = found._repr_mimebundle_()["text/html"]
    assert "<script>" not in html and "'onclick='" not in html


@pytest.mark.parametrize("wrong", [{"beat": "end"}, {"claim": "9z"}, {"says": "", "values": {}}, {"id": "No Id"}, {"parts": {}}, {"claim": None}, {"claim": ""}])
def test_unknown_words_and_missing_parts_are_refused(wrong):
    with pytest.raises(CollectionError):
        stated(**wrong)


PART = some.builds(evidence.parts.Part, some.sampled_from([True, False, None]), some.sampled_from(evidence.parts.TIERS), some.just((LINK,)))


@given(some.lists(PART, max_size=6))
def test_the_verdict_is_that_of_a_conjunction(found):
    holds = [part.holds for part in found]
    verdict = parts.verdict_of(found)
    assert verdict == parts.verdict_of(found[::-1])
    assert (verdict == "untested") == all(each is None for each in holds)
    assert (verdict == "confirmed") == (bool(holds) and all(each is True for each in holds))
    assert (verdict == "refuted") == (False in holds and True not in holds)
    assert verdict in evidence.findings.VERDICTS
    if verdict == "confirmed":
        turned = [*found, evidence.parts.Part(False, "compiled", ())]
        assert parts.verdict_of(turned) == "refined", "one part that fails is seen among any number that hold"


@given(some.lists(PART, max_size=6))
def test_the_tier_is_that_of_the_weakest_part_that_was_decided(found):
    decided = [part.tier for part in found if part.holds is not None]
    tier = parts.tier_of(found)
    assert (tier is None) == (not decided) == (parts.verdict_of(found) == "untested")
    assert all(evidence.parts.TIERS.index(each) <= evidence.parts.TIERS.index(tier) for each in decided)
    assert not decided or tier in decided
    assert parts.tier_of([*found, evidence.read(True, LINK)]) == "reported", "what was only read is never more"


@pytest.mark.parametrize("holds", [1, 0, "yes", 0.5, np.array([True]), pd.Series([True, False])])
def test_a_part_that_is_neither_true_nor_false_is_refused(holds):
    with pytest.raises(CollectionError, match="says neither"):
        evidence.compiled(holds)
    assert evidence.compiled(np.bool_(True)).holds is True


@pytest.mark.parametrize("links", [(), ("somebody",), ("http://example.org",)])
def test_what_was_read_needs_a_link(links):
    with pytest.raises(CollectionError, match="needs a link"):
        evidence.read(True, *links)
    with pytest.raises(CollectionError, match="needs a link"):
        evidence.open(4, "n").measured("a.b", beat="claim", by=evidence.read, says="It was read.", sources=links)


@pytest.mark.parametrize("capability, tier", [(None, None), ((9, 0), "gpu"), ((10, 0), "gpu"), ((12, 0), "sm12x"), ((12, 1), "sm12x")])
def test_only_a_gpu_that_is_here_runs(monkeypatch, capability, tier):
    class Gpu:
        pass

    Gpu.capability = capability
    monkeypatch.setattr(devices, "gpus", lambda: [Gpu] if capability else [])
    monkeypatch.setattr(devices, "state", lambda: {"device": "one"})
    if not capability:
        with pytest.raises(CollectionError, match="none is here"):
            evidence.ran(True)
        return
    found = stated(parts={"it ran": evidence.ran(True)})
    assert found.tier == tier and found.values["as found"] == {"device": "one"}
    assert "as found" not in stated().values


def test_an_observation_is_measured_and_has_no_verdict():
    bug = evidence.open(1, "01")
    bug.measured("a.b", beat="claim", by=evidence.inspected, says="{n} names were read.", values={"n": 3}, sources=["x==1"])
    bug.measured("a.c", beat="claim", by=evidence.compiled, says="It was read.", parts={"as published": evidence.read(True, LINK)})
    assert [(each.claim, each.verdict, each.tier) for each in bug.findings.values()] == [(None, None, "inspected"), (None, None, "reported")]
    assert bug.findings["a.b"]._repr_mimebundle_()["text/plain"] == "measured (inspected): 3 names were read."
    assert ">measured<" in bug.findings["a.b"].card() and bug.findings["a.c"].sources == [LINK]


def test_a_claim_of_which_nothing_could_be_decided_is_untested():
    found = stated(parts={"it was run on a Spark": evidence.parts.Part(None, "sm12x", ())})
    assert (found.verdict, found.tier) == ("untested", None) and repr(found).startswith("untested (nothing decided)")
    assert "nothing decided" in found.card()


@pytest.mark.parametrize("says", ["5 of {n} fit.", "{n} fit in 99 KiB.", "{n} of 1,369 load.", "{n} take 2.5 ms.", "3 things.", "About 10% of {n}."])
def test_a_sentence_has_no_number_of_its_own(says):
    with pytest.raises(CollectionError, match="of its own"):
        sentence(says, {"n": 1}, "a.b")


@pytest.mark.parametrize("says, expected", [
    ("{over} of {n} need {budget:,} B.", "0 of 6 need 101,376 B."), ("SM121 and sm_120a, FP4, 128x128x256B, #12310, 0.6.6: {n}.", "SM121 and sm_120a, FP4, 128x128x256B, #12310, 0.6.6: 6."),
    ("{share:.1%} of {rows[1][name]} is {word}.", "25.0% of b is 128x64."), ("Nothing {fits}.", "Nothing True.")])
def test_a_sentence_is_filled_from_the_values(says, expected):
    values = {"over": 0, "n": 6, "budget": 101376, "share": 0.25, "rows": [{"name": "a"}, {"name": "b"}], "word": "128x64", "fits": True}
    assert sentence(says, values, "a.b") == expected


@given(some.lists(some.integers() | some.floats(allow_nan=False), min_size=1, max_size=6))
def test_a_sentence_has_at_most_three_numbers(numbers):
    values = {f"n{chr(97 + i)}": number for i, number in enumerate(numbers)}
    says = " and ".join(f"{{{name}}}" for name in values) + " and {word}."
    if len(numbers) <= 3:
        assert sentence(says, values | {"word": "more"}, "a.b") == " and ".join(map(str, numbers)) + " and more."
    else:
        with pytest.raises(CollectionError, match=f"has {len(numbers)} numbers"):
            sentence(says, values | {"word": "more"}, "a.b")


@pytest.mark.parametrize("says", ["{m} of {n}.", "{n.m}", "{rows[5]}", "{rows[m]}", "{}"])
def test_a_field_that_the_values_lack_is_named(says):
    with pytest.raises(CollectionError, match="which its values lack") as error:
        sentence(says, {"n": 1, "rows": []}, "a.b")
    assert error.value.next_step == "its values are: n, rows"


def finding(id="a.b", claim=None, tier="executed", verdict="confirmed"):
    """A finding as evidence.json holds it."""
    return {"id": id, "bug": 1, "beat": "verify", "claim": claim, "verdict": verdict if claim else None, "tier": tier, "parts": [], "summary": "s",
            "values": {}, "unit": "", "sources": [], "notebook": "01", "recorded": False}


RUN = {"machine": {"name": "m"}, "versions": {}, "subjects": [], "started": "a", "finished": "b", "commit": "c"}


def of_schema_1(*found):
    """Findings as a recorded run of schema 1 holds them since it was converted: no parts."""
    return {"schema": 2, "run": RUN | {"upgraded from": 1}, "findings": [each | {"parts": []} for each in found]}


def test_a_record_is_written_and_read(tmp_path):
    record.write(tmp_path / "evidence.json", RUN, [finding()])
    assert record.read(tmp_path / "evidence.json")["findings"] == [finding() | {"digest": evidence.findings.digest(finding())}]
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.json"]


def test_one_id_in_two_notebooks_is_refused(tmp_path):
    with pytest.raises(CollectionError, match="a.b"):
        record.write(tmp_path / "evidence.json", RUN, [finding(), finding()])
    assert not (tmp_path / "evidence.json").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 3}', '{"schema": 2, "run": {}, "findings": []}', json.dumps({"schema": 2, "run": RUN, "findings": [{}]})])
def test_a_file_that_is_not_ours_is_refused_by_name(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(CollectionError, match="other.json"):
        record.read(tmp_path / "other.json")
    with pytest.raises(CollectionError, match="nowhere.json"):
        record.read(tmp_path / "nowhere.json")


def test_the_last_statement_of_an_id_counts(tmp_path):
    outputs = [nbformat.v4.new_output("display_data", {evidence.findings.MIME: finding(claim="1a", verdict=verdict)}) for verdict in ("refuted", "refined")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])
    nbformat.write(notebook, tmp_path / "n.ipynb")
    found, wrong = record.findings(tmp_path / "n.ipynb")
    assert [(cell, each["verdict"]) for cell, each in found.values()] == [(1, "refined")] and wrong == []


WRONG = [{"id": "No Id"}, {"id": 3}, {"values": []}, {"verdict": "true"}, {"parts": [{}]}, {"more": 1}, {"values": {"n": math.nan}}, {"values": {"text": "\ud800"}}, {"summary": ""}]


@pytest.mark.parametrize("change", WRONG)
def test_a_finding_that_is_none_is_named_with_its_cell_and_the_rest_is_kept(tmp_path, change):
    shown = [nbformat.v4.new_output("display_data", {evidence.findings.MIME: each}) for each in (finding("a.good"), finding("a.bad") | change, finding("a.last"))]
    cells = [nbformat.v4.new_markdown_cell("x"), nbformat.v4.new_code_cell("note", metadata={"tags": ["papermill-error-cell-tag"]}), nbformat.v4.new_code_cell("x", outputs=shown)]
    (tmp_path / "n.ipynb").write_text(json.dumps(nbformat.v4.new_notebook(cells=cells)))
    found, [(cell, why)] = record.findings(tmp_path / "n.ipynb")
    assert list(found) == ["a.good", "a.last"] and cell == 2 and f"the finding {change.get('id', 'a.bad')} is" in why


def test_a_finding_that_is_no_object_is_named(tmp_path):
    cells = [nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("display_data", {evidence.findings.MIME: "text"})])]
    (tmp_path / "n.ipynb").write_text(json.dumps(nbformat.v4.new_notebook(cells=cells)))
    assert record.findings(tmp_path / "n.ipynb") == ({}, [(1, "the finding text is not as the schema says: the whole: 'text' is not of type 'object'")])


VALUES = {"n": 1, "seconds": 2.5, "rows": [{"bytes": 3, "ms": 4.5}], "names": {"b", "a"}}


@pytest.mark.parametrize("values", [{"n": 2}, {"rows": [{"bytes": 4, "ms": 4.5}]}, {"rows": []}, {"names": {"a"}}, {"more": None}])
def test_another_value_is_another_digest(values):
    assert digest(values=VALUES | values) != digest(values=VALUES)


@pytest.mark.parametrize("values", [{"seconds": 9}, {"rows": [{"bytes": 3, "ms": 9}]}, {"as found": {"clock": 9}}, {"rows": [{"bytes": 3}, {"source": "device"}]}])
def test_a_time_that_the_finding_names_and_a_state_of_the_gpu_are_no_part_of_the_digest(values):
    assert digest(values=VALUES | values) == digest(values=VALUES)
    assert "seconds" in values or "as found" in values or digest(values=VALUES | {"rows": [{"bytes": 3, "ms": 9}]}, varies=["seconds"]) != digest(values=VALUES, varies=["seconds"])


def test_another_verdict_or_part_is_another_digest_and_another_sentence_of_a_time_is_not():
    assert digest(parts={"it raises": evidence.executed(False, "x==1")}) != digest() != digest(parts={"it ends": evidence.executed(True, "x==1")})
    assert digest(says="It raises.") == digest()


def digest(varies=("seconds", "ms"), **changes):
    return evidence.findings.digest(asdict(stated(varies=varies, **changes)))


def test_each_finding_of_a_record_has_the_digest_of_what_it_holds_and_a_portable_one_its_own(tmp_path):
    found = [asdict(stated(values={"n": 1, "code": "x", "place": str(record.REPOSITORY / "lib")}))]
    kept = record.write(tmp_path / "evidence.json", RUN, found)["findings"]
    again = record.read(record.keep(tmp_path / "recorded", "h100", RUN, kept, tmp_path))["findings"]
    assert again[0]["values"] == {"n": 1, "place": "<checkout>/lib"}
    for each in (*kept, *again):
        assert each["digest"] == evidence.findings.digest(each)
    assert kept[0]["digest"] != again[0]["digest"]


@pytest.mark.parametrize("name", [pytest.param(path.stem, marks=pytest.mark.xdist_group(path.stem[:2]))
                                  for path in sorted((record.REPOSITORY / "notebooks").glob("0[0-7]-*.ipynb"))])
def test_two_runs_on_one_machine_agree_in_all_their_findings(cells, findings, name):
    """The report's kernel and this process, of another hash seed, in another order."""
    again = {id: evidence.findings.digest(asdict(each)) for id, each in of(cells(name).after[-1]).items()}
    assert again == {id: each["digest"] for id, each in findings.items() if each["notebook"] == name}


@given(some.lists(some.tuples(some.sampled_from(["1a", "1b", None]), some.sampled_from([*evidence.parts.TIERS, None])), max_size=8))
def test_the_strongest_tier_decides_and_of_equals_the_last(stated):
    found = [finding(f"f.{i}", claim, tier) for i, (claim, tier) in enumerate(stated)]
    decided = claims.decide(found)
    assert list(decided) == list(claims.ledger())
    rank = [*evidence.parts.TIERS, None].index
    for claim in ("1a", "1b"):
        about = [each for each in found if each["claim"] == claim]
        best = min((rank(each["tier"]) for each in about), default=None)
        expected = [each for each in about if rank(each["tier"]) == best][-1:]
        assert ([decided[claim]] if decided[claim] else []) == expected


def test_an_observation_decides_no_claim_and_an_undecided_part_less_than_any_other():
    open, told = finding("a.open", "1a", None, "untested"), finding("a.told", "1a", "reported")
    assert claims.decide([told, open, finding("a.seen", None, "sm12x")])["1a"] is told
    assert claims.decide([open])["1a"] is open


def test_a_claim_that_any_machine_decided_on_sm12x_needs_no_spark_any_more():
    here, there = finding("a.here", "1b", "compiled"), finding("a.there", "1b", "sm12x")
    assert list(scoreboard.on_a_spark([here])["claim"]) == ["1b"]
    assert scoreboard.on_a_spark([here, there]).empty


@pytest.mark.parametrize("tiers, listed", [(["reported"], False), (["reported", "compiled"], True), (["sm12x"], False), (["gpu"], True), ([], False)])
def test_what_only_others_reported_is_nothing_that_a_spark_decides(tiers, listed):
    parts = [{"says": tier, "holds": True, "tier": tier, "sources": []} for tier in tiers]
    weakest = max(tiers, key=evidence.parts.TIERS.index, default=None)
    assert bool(len(scoreboard.on_a_spark([finding("a.b", "1b", weakest) | {"parts": parts}]))) == listed
