"""Notebook 08: what its findings say on other data."""

import pytest

from lib.doctor import AFFECTED, FIXED
from lib.evidence import claims
from tests.cells import holds

pytestmark = pytest.mark.xdist_group("08")
NAME = "08-releases"


def test_08_the_releases(findings):
    decided = claims.decide(list(findings.values()))
    assert (decided["4c"]["verdict"], decided["4c"]["tier"]) == ("refined", "inspected")
    index_error = findings["releases.index-error"]["values"]
    assert index_error["raising"] == index_error["n"] >= 71 and index_error["anew"] == 3
    assert index_error["look-up"]["0.6.5"] - index_error["look-up"]["0.6.6"] == index_error["extra"] == 2
    assert findings["releases.cause"]["verdict"] == "refined"
    for id in ("read-anew", "since", "doctor"):
        assert all(part["holds"] for part in findings[f"releases.{id}"]["parts"]), id


def test_what_is_read_anew_and_differs_is_seen_in_every_part_that_rests_on_it(notebook):
    def other(again):
        return again | {"0.6.8": again["0.6.8"] | {"linked": "another key"}}
    found = notebook.again("releases.read-anew", again=other)
    assert holds(found) == [True, False, True] and found.values["agree"] == 2
    assert holds(notebook.again("releases.index-error", again=other)) == [False, False]
    assert holds(notebook.again("releases.cause", again=other)) == [False, False, False, False, False]
    assert holds(notebook.again("releases.since", again=other)) == [True, False]


def test_4c_follows_what_ran(notebook):
    assert notebook.found("releases.index-error").verdict == "refined"
    mended = notebook.again("releases.index-error", raising=lambda each: each & (each.index != "0.7.2.post1"))
    assert mended.verdict == "refuted" and mended.values["raising"] == mended.values["n"] - 1
    silent = notebook.again("releases.index-error", here=lambda counts: dict.fromkeys(counts, 0))
    assert silent.verdict == "confirmed"


def test_p1_follows_the_bytes_the_list_and_the_code(notebook):
    assert holds(notebook.found("releases.cause")) == [False, False, True, False, True]
    fits = notebook.again("releases.cause", too_large=lambda table: table.head(0))
    assert holds(fits)[0] is True and fits.values["over"] == 0
    assert holds(notebook.again("releases.cause", admitted=lambda each: each & False))[1] is True
    assert holds(notebook.again("releases.cause", here=lambda counts: dict.fromkeys(counts, 0)))[3] is True
    attention = notebook.again("releases.cause", found=lambda table: table.assign(verdict=table["verdict"].mask(
        (table["what"] == "trtllm-gen runner") & (table["version"] == "0.7.0"), FIXED)))
    assert holds(attention)[4] is False and attention.values["gen"] == 1


def test_since_follows_the_releases(notebook):
    wrong = notebook.again("releases.since", kept_for_doctor=lambda facts: facts | {"newest": "0.6.6"})
    assert holds(wrong)[0] is False
    worse = notebook.again("releases.since", found=lambda table: table.assign(verdict=table["verdict"].mask(
        (table["what"] == "FP4 GEMM") & (table["version"] == "0.7.2.post1"), AFFECTED)))
    assert worse.values["mended"] == notebook.found("releases.since").values["mended"] - 1


def test_the_doctor_s_advice_is_held_against_the_releases(notebook):
    assert holds(notebook.found("releases.doctor")) == [True, True]
    silent = notebook.again("releases.doctor", advised=lambda table: table.assign(since=""))
    assert holds(silent) == [False, False] and silent.values["told"] == 0
    bold = notebook.again("releases.doctor", advised=lambda table: table.assign(since=table["since"] + " warm-up since 9.9"))
    assert holds(bold) == [True, False]
