"""Notebook 09: what it states, and that it states otherwise when the wheels are other."""

import copy

import pytest

from tests.cells import parts

pytestmark = pytest.mark.xdist_group("09")
NAME = "09-will-it-run"


def with_code(*images, package="", machine="", newest=None):
    """The wheels that are kept, with other images in every fatbin of those that are meant."""
    def change(rows):
        rows = copy.deepcopy(rows)
        for row in rows:
            meant = row["project"] == (package or row["project"]) and row["machine"] == (machine or row["machine"])
            if row["state"] == "wheel" and meant and newest in (None, row["newest"]):
                row["libraries"] = {path: {" ".join(images): sum(counts.values())} for path, counts in row["libraries"].items()}
        return rows
    return change


def test_what_it_states(notebook):
    assert set(parts(notebook.found("wheels.anew")).values()) == {True}
    complaints = parts(notebook.found("wheels.complaints"))
    assert set(complaints.values()) == {True, None}
    assert [says for says, holds in complaints.items() if holds is None] == ["sglang 29317 is so", "flashinfer 5238 is so"]
    assert all(notebook.found(id).verdict is None for id in ("wheels.anew", "wheels.complaints", "wheels.datacenter", "wheels.suffix"))
    assert notebook.found("wheels.anew").tier == "inspected" and notebook.found("wheels.complaints").tier == "modelled"
    assert len(notebook.after[-1]["read_now"]) == 3


def test_a_wheel_that_differs_from_what_is_kept_makes_its_part_false(notebook):
    other = notebook.again("wheels.anew", kept=with_code("sm_80", package="bitsandbytes"))
    assert parts(other)["the wheels read anew hold what was kept"] is False
    wrong = notebook.again("wheels.anew", counts=lambda table: table.assign(same=False))
    assert parts(wrong)["cuobjdump lists as many images of each target"] is False


@pytest.mark.parametrize("complaint, change", [
    ("MEDS_EIC_AR 163", with_code("sm_120f", package="sgl-kernel")), ("flashinfer 3294", with_code("sm_120a", package="flashinfer-cubin")),
    ("vllm 52708", with_code("sm_121a", package="vllm"))])
def test_a_complaint_is_not_so_of_other_wheels(notebook, complaint, change):
    assert parts(notebook.again("wheels.complaints", kept=change))[f"{complaint} is so"] is False


def test_the_other_complaints_are_not_so_of_other_wheels(notebook):
    def change(rows):
        rows = copy.deepcopy(rows)
        for row in rows:
            if row["project"] == "triton":
                row["ptxas"] = {"ptxas": ["121", "121a"]}
            if row["project"] == "onnxruntime-gpu":
                row |= {"state": "wheel", "libraries": {"a.so": {"sm_121": 1}}, "unread": {}, "ptxas": {}}
        return rows

    found = parts(notebook.again("wheels.complaints", kept=change))
    assert found["triton 8539 is so"] is False and found["onnxruntime 26351 is so"] is False


def test_the_pattern_and_the_year_follow_the_wheels(notebook):
    everywhere = notebook.again("wheels.datacenter", kept=with_code("sm_100", "sm_120f"))
    assert parts(everywhere)["some are for datacenter Blackwell alone"] is False
    nowhere = notebook.again("wheels.year", kept=with_code("sm_100f"))
    assert nowhere.values["now"] < notebook.found("wheels.year").values["now"]
    names = notebook.after[-1]
    alone = notebook.again("wheels.datacenter", without=lambda _: names["datacenter"])
    assert parts(alone)["most have code for this GPU beside it"] is False and len(names["alone"]) < len(names["datacenter"])


def test_the_letter_follows_the_wheels(notebook):
    said = "on a Spark's processor the newest are free of it", "wheels load on SM120 and not on SM121"
    without = notebook.again("wheels.suffix", states=lambda table: table[table["package"] != "sgl-kernel"])
    assert parts(without)[said[0]] is True
    mended = notebook.again("wheels.suffix", states=lambda table: table.assign(SM121=table["SM120"]))
    assert parts(mended)[said[1]] is False


def test_the_first_screen_is_a_sentence_and_a_picture(notebook):
    assert "packages bring or compile code that loads" in notebook.sources[3] and "charts.board" in notebook.sources[4]
