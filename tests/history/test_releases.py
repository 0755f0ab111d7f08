"""The releases: what is asked of a wheel, what is kept, since when, and what the doctor makes of it."""

import json
import shutil
import zipfile
from fnmatch import fnmatch

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from lib import workers
from lib.bug1_shared_memory import gemm, tiles
from lib.doctor import AFFECTED, FIXED, Check
from lib.doctor import releases as doctor
from lib.errors import CollectionError
from lib.history import charts, kept, releases, verdicts
from lib.subjects import wheels

pytestmark = pytest.mark.xdist_group("08")


@pytest.fixture(scope="module")
def rows():
    return kept.load()[0]


@pytest.fixture(scope="module")
def found(rows):
    return verdicts.table(rows)


def test_the_parts_that_are_asked_for_say_what_the_whole_wheel_says(tmp_path):
    version, patterns = kept.pinned()[-1], releases.named()
    tree = wheels.source(releases.PROJECT, version)
    with zipfile.ZipFile(wheels.wheel(releases.PROJECT, version)) as zipped:
        members = zipped.infolist()
    asked = [each for each in members if any(fnmatch(each.filename, pattern) for pattern in patterns)]
    for each in asked:
        (tmp_path / each.filename).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree / each.filename, tmp_path / each.filename)
    assert json.loads(json.dumps(releases.judge(tmp_path, members, version))) == releases.whole(version)
    assert sum(each.compress_size for each in asked) < 500_000 < wheels.pin(releases.PROJECT, version).bytes / 100


def test_a_wheel_of_another_version_or_layout_is_refused_by_name(tmp_path):
    tree = wheels.source(releases.PROJECT, "0.6.6")
    with pytest.raises(CollectionError, match="9.9 says that it is 0.6.6"):
        releases.judge(tree, [], "9.9")
    (tmp_path / "flashinfer_python-9.9.dist-info").mkdir()
    (tmp_path / "flashinfer_python-9.9.dist-info/METADATA").write_text("Version: 9.9\n")
    with pytest.raises(CollectionError, match="9.9 is laid out anew"):
        releases.judge(tmp_path, [], "9.9")


def test_what_is_kept_is_of_the_wheels_that_are_pinned(rows):
    pins = {version: wheels.pin(releases.PROJECT, version) for version in kept.pinned()}
    kept_of = {row["version"]: (row["sha256"], row["bytes"]) for row in rows}
    assert {version: (pin.sha256, pin.bytes) for version, pin in pins.items()}.items() <= kept_of.items()
    assert len(kept_of) == len(rows) == len({row["sha256"] for row in rows}) >= 71
    assert [row["uploaded"] for row in rows] == sorted(row["uploaded"] for row in rows)


def test_nothing_of_upstream_is_kept(rows):
    text = kept.FILE.read_text()
    assert not any(word in text for word in ("://", "StageCountAuto", "base_profile", "#include"))
    assert len(text) < 150_000 and {len(row["said"]["look-up"]) for row in rows} == {16}


def outcomes(answers, fail=()):
    def ask(function, questions, title, processes=False, **more):
        return [workers.Outcome(each, None, CollectionError("it is no wheel", "next")) if each["sha256"] in fail
                else workers.Outcome(each, answers[each["sha256"]], None) for each in questions]
    return ask


def as_in_the_report(real):
    """`gemm.measure` by what the report has measured of the same kernels, so that nothing is compiled for a test alone."""
    def measure(kernels, front):
        version, = [each for each in kept.pinned() if wheels.pin(releases.PROJECT, each).sha256 == front.identity]
        known = [*tiles.of_tensorrt_llm(("bf16", "fp32")), *tiles.of_flashinfer(wheels.source(releases.PROJECT, version), version)]
        rows = dict(zip((each.cpp() for each in known), real(known, front).to_dict("records")))
        return pd.DataFrame([rows[each.cpp()] for each in kernels])
    return measure


def test_a_release_that_cannot_be_read_costs_itself_and_keeps_what_was_kept(rows, tmp_path, monkeypatch):
    files = [row for row in rows if row["version"] in kept.pinned()]
    answers = {row["sha256"]: releases.whole(row["version"]) for row in files}
    monkeypatch.setattr(gemm, "measure", as_in_the_report(gemm.measure))
    monkeypatch.setattr(kept, "FILE", tmp_path / "history.json")
    monkeypatch.setattr(releases, "published", lambda: [type("File", (), row) for row in files])
    monkeypatch.setattr(workers, "ask", outcomes(answers, fail=[files[1]["sha256"]]))
    assert list(kept.refresh()) == [files[1]["version"]]
    assert kept.load()[0] == [files[0], files[2]]
    monkeypatch.setattr(workers, "ask", outcomes(answers))
    assert kept.refresh() == {} and kept.load()[0] == files
    monkeypatch.setattr(workers, "ask", outcomes(answers, fail=[files[0]["sha256"]]))
    assert list(kept.refresh()) == [files[0]["version"]] and kept.load()[0] == files
    answers[files[2]["sha256"]] = answers[files[2]["sha256"]] | {"headers": "another CUTLASS"}
    monkeypatch.setattr(workers, "ask", outcomes(answers))
    kept.refresh()
    assert kept.load()[0][2]["said"]["sizes"] is None
    unknown = verdicts.table(kept.load()[0])
    assert set(unknown.loc[(unknown["upload"] == 2) & (unknown["how"] == verdicts.COMPILED), "note"]) == {"these were not compiled"}


def test_the_doctor_knows_what_the_wheels_said():
    assert json.loads(verdicts.SINCE.read_text()) == verdicts.facts(*kept.load())


NAMES = ["0.5.0rc1", "0.5.0", "0.6.7.post1", "0.6.8rc1", "0.6.8", "0.6.10"]


@given(st.lists(st.sampled_from([AFFECTED, FIXED]), min_size=6, max_size=6), st.permutations(NAMES))
def test_since_is_the_release_after_the_last_that_is_affected(told, uploaded):
    said = dict(zip(NAMES, told))
    frame = pd.DataFrame([{"bug": 1, "what": "it", "how": verdicts.READ, "product": "FlashInfer", "version": each,
                           "verdict": said[each]} for each in uploaded])
    made = verdicts.since(frame).to_dict("records")
    ill = [each for each in NAMES if said[each] == AFFECTED]
    later = [each for each in NAMES if ill and Version(each) > Version(ill[-1])]
    final = [each for each in later if not Version(each).is_prerelease]
    row = {"bug": 1, "what": "it", "first": ill and ill[0], "since": (later or [""])[0], "final": (final or [""])[0]}
    assert made == ([row] if ill else [])


@pytest.mark.parametrize("version, bug, what, says", [
    ("0.6.3", 1, "FP4 GEMM", "FP4 GEMM since 0.6.4."), ("0.6.8", 1, "MXFP8 GEMM", "MXFP8 GEMM since 0.7.0 (0.7.0rc3)."),
    ("0.6.6", 1, "grouped GEMM", "in no release up to 0.7.2.post1: grouped GEMM."), ("0.7.0", 1, "MXFP8 GEMM", ""),
    ("0.6.4", 1, "FP4 GEMM", ""), ("version unknown", 1, "FP4 GEMM", ""), ("0.6.3", 2, "FP4 GEMM", "")])
def test_the_doctor_says_since_when_and_promises_nothing_to_who_has_it(version, bug, what, says):
    told = doctor.mended(version, bug, [Check(what, AFFECTED), Check("another", AFFECTED)])
    assert told.endswith(says) and bool(told) == bool(says)
    assert doctor.mended(version, bug, [Check(what, FIXED)]) == ""


def test_the_map_has_each_release_and_the_course_of_each_check(found, rows):
    courses = dict(verdicts.courses(found).to_numpy())
    assert courses["4 linked sizes, run"] == "fixed from 0.6.5, affected from 0.6.6, fixed from 0.6.7"
    assert courses["4 look-up"] == "affected in all"
    drawn, = [trace for trace in charts.heat(found).data if trace.type == "heatmap"]
    assert drawn.z.shape == (len(courses), len(rows)) and len(drawn.x) == len(rows)
    linked, names = drawn.z[list(courses).index("4 linked sizes, run")], [row["version"] for row in rows]
    assert len(set(linked[names.index("0.6.7"):])) == 1 and linked[names.index("0.6.5")] != linked[names.index("0.6.6")]


def test_a_change_is_a_verdict_or_a_reason(found):
    turns = verdicts.changes(found)
    widened = turns[turns["check"] == "3 trtllm-gen module"]
    assert widened["version"].tolist() == ["0.6.7"] and widened["was"].tolist() == widened["verdict"].tolist() == [AFFECTED]
    turns = verdicts.changes(found[found["version"] != "0.6.6"])
    assert turns.loc[turns["check"] == "4 linked sizes, run", "version"].tolist() == ["0.6.5"]
