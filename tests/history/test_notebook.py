"""Notebook 08: what its findings say on other data."""

import pytest

from lib.doctor import AFFECTED, FIXED
from lib.evidence import claims

pytestmark = pytest.mark.xdist_group("08")
NAME = "08-releases"


@pytest.fixture(scope="module")
def eight(cells):
    return cells(NAME)


def parts(finding):
    return [part["holds"] for part in finding.parts]


def test_08_the_releases(findings):
    decided = claims.decide(list(findings.values()))
    assert (decided["4c"]["verdict"], decided["4c"]["tier"]) == ("refined", "inspected")
    index_error = findings["releases.index-error"]["values"]
    assert index_error["raising"] == index_error["n"] >= 71 and index_error["anew"] == 3
    assert index_error["look-up"]["0.6.5"] - index_error["look-up"]["0.6.6"] == index_error["extra"] == 2
    assert findings["releases.cause"]["verdict"] == "refined"
    for id in ("read-anew", "since", "doctor"):
        assert all(part["holds"] for part in findings[f"releases.{id}"]["parts"]), id


def test_what_is_read_anew_and_differs_is_seen_in_every_part_that_rests_on_it(eight):
    def other(again):
        return again | {"0.6.8": again["0.6.8"] | {"linked": "another key"}}
    found = eight.again("releases.read-anew", again=other)
    assert parts(found) == [True, False, True] and found.values["agree"] == 2
    assert parts(eight.again("releases.index-error", again=other)) == [False, False]
    assert parts(eight.again("releases.cause", again=other)) == [False, False, False, False, False]
    assert parts(eight.again("releases.since", again=other)) == [True, False]


def test_4c_follows_what_ran(eight):
    assert eight.found("releases.index-error").verdict == "refined"
    mended = eight.again("releases.index-error", raising=lambda each: each & (each.index != "0.7.2.post1"))
    assert mended.verdict == "refuted" and mended.values["raising"] == mended.values["n"] - 1
    silent = eight.again("releases.index-error", here=lambda counts: dict.fromkeys(counts, 0))
    assert silent.verdict == "confirmed"


def test_p1_follows_the_bytes_the_list_and_the_code(eight):
    assert parts(eight.found("releases.cause")) == [False, False, True, False, True]
    fits = eight.again("releases.cause", too_large=lambda table: table.head(0))
    assert parts(fits)[0] is True and fits.values["over"] == 0
    assert parts(eight.again("releases.cause", admitted=lambda each: each & False))[1] is True
    assert parts(eight.again("releases.cause", here=lambda counts: dict.fromkeys(counts, 0)))[3] is True
    attention = eight.again("releases.cause", found=lambda table: table.assign(verdict=table["verdict"].mask(
        (table["what"] == "trtllm-gen runner") & (table["version"] == "0.7.0"), FIXED)))
    assert parts(attention)[4] is False and attention.values["gen"] == 1


def test_since_follows_the_releases(eight):
    wrong = eight.again("releases.since", kept_for_doctor=lambda facts: facts | {"newest": "0.6.6"})
    assert parts(wrong)[0] is False
    worse = eight.again("releases.since", found=lambda table: table.assign(verdict=table["verdict"].mask(
        (table["what"] == "FP4 GEMM") & (table["version"] == "0.7.2.post1"), AFFECTED)))
    assert worse.values["mended"] == eight.found("releases.since").values["mended"] - 1


def test_the_doctor_s_advice_is_held_against_the_releases(eight):
    assert parts(eight.found("releases.doctor")) == [True, True]
    silent = eight.again("releases.doctor", advised=lambda table: table.assign(since=""))
    assert parts(silent) == [False, False] and silent.values["told"] == 0
    bold = eight.again("releases.doctor", advised=lambda table: table.assign(since=table["since"] + " warm-up since 9.9"))
    assert parts(bold) == [True, False]
