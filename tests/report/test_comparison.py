"""Several machines: each file that cannot be shown is refused by its name, the rest is shown, and differences are found from either side."""

import gzip
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib import evidence
from lib.evidence import claims
from lib.report import comparison, record
from tests.evidence.test_findings import RUN, finding
from tests.report.test_runner import GOOD, run


def written(folder, place, machine="m", findings=None, **more):
    path = folder / place / "evidence.json"
    path.parent.mkdir(parents=True)
    kept = {"schema": 2, "run": RUN | {"machine": {"name": machine}, "toolchain": {"version": "13"}} | more, "findings": findings or [finding()]}
    path.write_text(json.dumps(kept))
    return path.parent


def deep(levels):
    return "[" * levels + "]" * levels


def text_of(**more):
    return json.dumps({"schema": 2, "run": RUN, "findings": [finding(claim="1a")]} | more)


BAD = {
    "empty": ("", "is damaged"), "cut": (text_of()[:-9], "is damaged"), "list": ("[1]", "is not of type 'object'"), "page": ("<!doctype html>", "is damaged"),
    "foreign": ('{"results": []}', "is a required property"), "schema-3": (text_of(schema=3), "schema: 2 was expected"), "schema-1": (text_of(schema=1), "schema: 2 was expected"), "number": (text_of(findings=[7]), "findings.0"),
    "verdict": (text_of(findings=[finding(claim="1a", verdict="true")]), "findings.0.verdict"), "twice": (text_of(findings=[finding(), finding()]), "two notebooks state"),
    "nan": (text_of(run=RUN | {"x": float("nan")}), "is damaged"), "infinite": (text_of().replace('"values": {}', '"values": {"x": 1e999}'), "is damaged"),
    "surrogate": (text_of(run=RUN | {"commit": "\ud800"}), "is damaged"), "bytes": (b"\xff\xfe\x00{", "is damaged"),
    "deep": (text_of().replace('"values": {}', f'"values": {{"x": {deep(60)}}}'), "levels"), "abyss": (deep(200_000), "is damaged"),
    "many": (text_of(findings=[finding(f"f.{i}") for i in range(1001)]), "1,001 findings"), "huge": (" " * 5_000_001, "5,000,001 B"),
    "no-name": (text_of(run=RUN | {"machine": {}}), "run.machine"), "other-name": (text_of(run=RUN | {"name": "../../up"}), "run.name"),
    "part": (text_of(findings=[finding(claim="1a") | {"parts": [{"says": "x", "holds": "yes", "tier": "gpu", "sources": []}]}]), "findings.0.parts.0.holds"),
    "long-error": (json.dumps({"schema": 2, "run": "r" * 100_000, "findings": []}), "not as the schema says"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_shown_is_refused_by_name_and_the_rest_is_shown(tmp_path, name):
    text, why = BAD[name]
    (tmp_path / name).mkdir()
    (tmp_path / name / "evidence.json").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    shown, refused = comparison.gather([written(tmp_path, "one", "A"), tmp_path / name, written(tmp_path, "two", "B")])
    assert [each.label for each in shown] == ["A", "B"]
    [(path, reason)] = refused
    assert name in path and name in reason and why in reason and len(reason) <= 300 and str(tmp_path) not in reason


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    shown, refused = comparison.gather([tmp_path / "nowhere", tmp_path / "folder", tmp_path / "pipe"])
    assert not shown and [reason[:11] for _, reason in refused] == ["there is no"] * 3


def test_machines_of_one_name_are_told_apart_and_one_run_is_shown_once(tmp_path):
    names = ["h100", "H100", "this machine", "", "\u202eGB10\n\x00", "x" * 300, "../..", "h100 (2)"]
    paths = [written(tmp_path, str(i), name, commit=str(i)) for i, name in enumerate(names)]
    shown, refused = comparison.gather([*paths, paths[0]])
    assert len(shown) == len(names) and not refused
    assert len({each.label.casefold() for each in shown} | {comparison.HERE}) == len(names) + 1
    assert len({each.page.casefold() for each in shown}) == len(names)
    assert all(each.label.isprintable() and len(each.label) <= 50 and "/" not in each.page and ".." not in each.page[:10] for each in shown)
    assert shown[0].label == "h100" and shown[1].label == "H100 (2)"


def test_recorded_runs_are_found_in_order_and_hidden_folders_are_not(tmp_path):
    for name in ("h200", "h100", ".old"):
        written(tmp_path, name)
    assert [path.name for path in comparison.recorded(tmp_path)] == ["h100", "h200"] and comparison.recorded(tmp_path / "no") == []


def test_other_machines_are_given_by_their_paths_in_one_text_or_else_are_the_recorded_ones(tmp_path):
    mine, path = {"run": RUN, "findings": []}, written(tmp_path, "h200", "H200")
    shown = comparison.runs(mine, f"{path}{os.pathsep}{tmp_path / 'x'}")
    assert [each.label for each in shown.others] == ["H200"] and len(shown.refused) == len(shown.compared) == 1
    assert comparison.runs(mine, "").others == []
    assert [each.label for each in comparison.runs(mine).others] == [path.name for path in comparison.recorded()]


VALUES = some.recursive(some.none() | some.booleans() | some.integers(0, 3) | some.sampled_from(["a", "b"]),
                        lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from(["x", "seconds", "as found"]), inner), max_leaves=6)
FINDINGS = some.lists(some.builds(
    lambda id, claim, tier, verdict, values: finding(f"f.{id}", claim, tier, verdict) | {"values": {"v": values}},
    some.integers(0, 6), some.sampled_from(["1a", "1b", None]), some.sampled_from(["gpu", "compiled", "inspected", "executed"]),
    some.sampled_from(evidence.findings.VERDICTS), VALUES), max_size=6, unique_by=lambda each: each["id"])


def side(findings, commit="c", **more):
    return comparison.runs({"run": RUN | {"commit": commit} | more, "findings": findings}, "").here


@given(FINDINGS, FINDINGS)
def test_differences_are_the_same_from_either_side(one, other):
    there, back = comparison.compare(side(one), side(other, "d")), comparison.compare(side(other, "d"), side(one))
    assert there.settings == [("commit", "c", "d")] and back.settings == [("commit", "d", "c")]
    assert there.claims == back.claims
    assert [(id, b, a) for id, a, b in there.verdicts] == back.verdicts
    assert there.steady == back.steady and there.only == back.only[::-1]
    assert [(id, [(place, b, a) for place, a, b in found]) for id, found in there.values] == back.values
    decided, decided_there = claims.decide(one), claims.decide(other)
    assert there.claims.keys() == {
        claim for claim in decided if [(decided[claim] or {}).get(key) for key in ("verdict", "tier")] != [(decided_there[claim] or {}).get(key) for key in ("verdict", "tier")]}


@given(FINDINGS)
def test_equal_runs_do_not_differ(found):
    same = comparison.compare(side(found), side(json.loads(json.dumps(found))))
    assert (same.settings, same.claims, same.verdicts, same.values, same.only) == ([], {}, [], [], ([], []))
    assert same.steady == sum(each["tier"] in ("compiled", "inspected") for each in found)


@pytest.mark.parametrize("change, expected", [
    ({"tiles": [{"bytes": 83969}]}, [("tiles[0].bytes", 83968, 83969)]), ({"tiles": []}, [("tiles", [{"bytes": 83968}], [])]),
    ({"new": 0}, [("new", "nothing", 0)]), ({"flag": 1}, [("flag", True, 1)]), ({"ratio": 0.5}, [("ratio", 0.25, 0.5)]),
    ({"seconds": 9}, []), ({"rows": [{"source": "header", "value": 1, "seconds": 9}]}, []), ({"as found": {"device": "x"}}, []),
    ({"rows": [{"source": "header", "value": 1}, {"source": "device", "value": 2}]}, [])])
def test_a_byte_that_a_compiler_gave_otherwise_is_found_and_a_time_is_not(change, expected):
    values = {"tiles": [{"bytes": 83968}], "flag": True, "ratio": 0.25, "seconds": 1, "rows": [{"source": "header", "value": 1}]}
    mine, theirs = (finding(tier="compiled") | {"values": each} for each in (values, values | change))
    one, other = side([mine | {"varies": ["seconds"]}]), side([theirs])  # one that is recorded may not name them
    assert comparison.compare(one, other).values == ([("a.b", expected)] if expected else [])
    assert "seconds" not in change or comparison.compare(side([mine]), other).values


def test_a_claim_that_one_machine_lacks_is_not_called_another_verdict():
    found = comparison.compare(side([finding(claim="1a")]), side([finding("c.d", "1b", "gpu")]))
    assert found.claims == {"1a": "missing", "1b": "missing"}
    here, there = side([finding(claim="1a")]), comparison.Machine("h", "h", RUN, [])
    html = comparison.html("apart", comparison.Runs(here, [there], [comparison.compare(here, there)], [])).data
    assert "No finding on one of them" in html and "≠" not in html


OLDER = {"upgraded from": 1}


@pytest.mark.parametrize("theirs, steady, expected", [
    ({"tiles": [{"bytes": 83968, "label": "x"}], "gone": 1}, 1, []),  # names that only one has are no difference, at any depth
    ({"tiles": [{"bytes": 83969}], "gone": 1}, 1, [("tiles[0].bytes", 83968, 83969)]), ({"gone": 1}, 0, []), ({}, 0, [])])
def test_beside_an_older_run_only_what_both_name_is_compared(theirs, steady, expected):
    mine = finding("a.b", "1a", "compiled") | {"values": {"tiles": [{"bytes": 83968, "fits": True}], "over": 0}}
    other = finding("a.b", "1a", "compiled") | {"values": theirs}
    for one, there in ((side([mine]), side([other], **OLDER)), (side([mine], **OLDER), side([other]))):
        found = comparison.compare(one, there)
        assert (found.steady, found.values) == (steady, [("a.b", expected)] if expected else [])
    assert comparison.compare(side([mine]), side([other])).values, "of one form every difference counts"


def test_an_older_run_is_said_to_be_older_where_it_is_shown():
    here, old, new = side([finding(claim="1a")]), comparison.Machine("old one", "o", RUN | OLDER, [finding(claim="1a")]), comparison.Machine("new one", "n", RUN, [])
    shown = comparison.Runs(here, [old, new], [comparison.compare(here, each) for each in (old, new)], [])
    words = [" ".join(comparison.html(part, shown).data.split()) for part in ("claims", "apart")]
    assert "old one was recorded by an older form" in words[0] and "new one was recorded" not in words[0]
    assert words[1].count("as far as they have names of both forms") == 1


def test_the_report_shows_other_machines_and_says_which_it_cannot(notebooks, tmp_path):
    folder = notebooks(_01_good=GOOD)
    out = tmp_path / "out"
    written(out / "recorded", "h100", "NVIDIA H100", [finding(claim="1a", tier="gpu") | {"recorded": True}], name="h100")
    given = written(tmp_path, "spark", "NVIDIA GB10", [finding("only.there", "1a", "sm12x", "refuted") | {"summary": "measured there"}])
    (tmp_path / "broken.json").write_text("{")
    done = run(folder, out, "report", "--evidence", given, tmp_path / "broken.json", seconds=180)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0 and "beside this machine: h100" in said and "beside this machine: NVIDIA GB10" in said
    assert "NOT SHOWN" in said and "broken.json is damaged" in said
    pages = {path.name: path.read_text() for path in (out / "report").glob("*.html")}
    assert "broken.json is damaged" in pages["index.html"] and "≠ verdict" in pages["claim-1a.html"] and "≠ tier" in pages["claim-1a.html"]
    assert "measured there" in pages["claim-1a.html"] and "measured there" in pages["machine-NVIDIA-GB10.html"]
    assert {"machine-h100.html", "machine-NVIDIA-GB10.html"} <= pages.keys()
    assert json.loads(gzip.decompress((out / "report/evidence-h100.json.gz").read_bytes()))["run"]["name"] == "h100"
    ours = record.read(out / "evidence.json")["findings"]
    assert [each["id"] for each in ours] == ["good.one"] and "1 confirmed" in pages["index.html"], "never mixed in"
