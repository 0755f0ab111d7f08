"""Notebook 04: what its findings say on other data, on TensorRT-LLM's trees, and on what a GPU answered."""

import functools
import json
from types import SimpleNamespace

import pandas as pd
import pytest

from lib.bug4_autotuner import autotuner, tuning
from lib.evidence import claims
from lib.instruments import devices
from lib.subjects import wheels
from tests.bug4_autotuner.test_tensorrt_llm import LAYOUT, WITH_TUNER, WITHOUT
from tests.cells import parts
from tests.conftest import ROOT, tree_of

pytestmark = pytest.mark.xdist_group("04")
NAME = "04-autotuner"


@pytest.fixture
def quick(monkeypatch):
    """Fewer random inputs and rounds, for a run of the whole notebook with parameters."""
    monkeypatch.setattr(tuning, "agree", functools.partial(tuning.agree, examples=300))
    monkeypatch.setattr(tuning, "look_up_cost", functools.partial(tuning.look_up_cost, rounds=4))


def test_04_the_autotuner(findings):
    decided = claims.decide(list(findings.values()))
    verdicts = {claim: (decided[claim]["verdict"], decided[claim]["tier"]) for claim in ("4a", "4b", "4c", "4d")}
    if not devices.gpus():
        assert verdicts == {"4a": ("confirmed", "executed"), "4b": ("refined", "modelled"),
                            "4c": ("refined", "inspected"), "4d": ("refined", "executed")}
    cases = findings["autotuner.exception"]["values"]["cases"]
    exact = [case for case in cases if case["outcome"] == "IndexError: list assignment index out of range"]
    assert len(exact) == 5 and {case["line"] for case in exact} == {781} and all(case["constraint"] != "[]" for case in exact)
    raising = {row["tuner"]: row for row in findings["autotuner.patches"]["values"]["raising"]}
    assert raising["published"]["look-up raises"] == 2 and raising["published"]["warm-up raises"] == raising["original"]["warm-up raises"] == 15
    assert raising["revised"]["look-up raises"] == raising["revised"]["warm-up raises"] == 0
    assert findings["autotuner.in-bounds"]["values"]["compared"] >= 10_000
    assert all(part["holds"] for part in findings["autotuner.overlay"]["parts"])
    fate = {row["tuner"]: row for row in findings["autotuner.skipping"]["values"]["summary"]}
    assert fate["skip both"]["with a wrong scale"] > 0 and fate["revised"]["with a wrong scale"] == 0
    assert fate["right spec"]["tuned"] == 7


def test_4a_a_look_up_that_no_longer_raises_refutes(cells):
    found = cells(NAME).again("autotuner.exception", cases=lambda table: table.assign(outcome="ok"))
    assert found.verdict == "refuted" and "0 of 16" in found.summary
    other = cells(NAME).again("autotuner.exception", cases=lambda table: table.replace("[(2, 1)]", "[]"))
    assert other.verdict == "confirmed" and "constraint or dynamic" in other.summary


def test_4b_follows_the_scales_and_the_spec(cells):
    one = cells(NAME).again("autotuner.cause", called=lambda table: table.assign(rank=[1, 2, 2, 2, 3], outcome="ok"))
    assert parts(one) == {"on SM121 a spec does not fit its tensor": False, "only SM121 gets a tensor of that shape": True}
    assert "no architecture" in one.summary
    both = cells(NAME).again("autotuner.cause", called=lambda table: table.assign(rank=[2, 2, 2, 2, 1]))
    assert both.verdict == "confirmed" and both.tier == "modelled"


def test_4c_a_message_that_tuples_cannot_raise_changes_the_part(cells):
    held = cells(NAME).found("autotuner.hardware")
    assert held.verdict == "refined" and parts(held)["it takes a GPU to come up"] is False
    found = cells(NAME).again("autotuner.hardware", exact=lambda table: table[:0])
    assert parts(found)["it takes a GPU to come up"] is True and "in 0 of" in found.summary


def test_4d_each_part_follows_its_measurement(cells):
    none = lambda table: table.assign(**{"warm-up raises": 0})
    whole = cells(NAME)
    assert parts(whole.found("autotuner.skipping")) == {
        "in bounds nothing changes": True, "the account's cases no longer raise": True, "warm-up no longer raises": False}
    calm = whole.again("autotuner.skipping", raising=none, fate=lambda table: table.assign(raised=False))
    assert calm.verdict == "confirmed"
    driven = whole.again("autotuner.skipping", raising=none, outcomes=lambda each: each)
    assert parts(driven)["warm-up no longer raises"] is False
    differs = whole.again("autotuner.skipping", agreement=tuning.Agreement(3, "a difference"), outcomes=lambda each: each)
    assert parts(differs)["in bounds nothing changes"] is False
    left = whole.again("autotuner.skipping", raising=lambda table: table.assign(**{"account's cases raise": 1}), outcomes=lambda each: each)
    assert parts(left)["the account's cases no longer raise"] is False


def test_observations_follow_their_data(cells):
    whole = cells(NAME)
    mended = whole.again("autotuner.newest", newest_cases=lambda table: table.assign(outcome="ok"))
    assert "in 0 of 16" in mended.summary and mended.summary.endswith("is mended.")
    assert "some still do" in whole.again("autotuner.patches", raising=lambda table: table.assign(**{"warm-up raises": 4})).summary
    changed = whole.again("autotuner.overlay", laid=lambda table: table.assign(**{"file as before": False}))
    assert parts(changed)["the file is as it was"] is False and changed.summary.endswith("has changed.")
    differs = whole.again("autotuner.in-bounds", agreement=tuning.Agreement(3, "x"), look_up_costs=lambda table: table)
    assert "a key differs" in differs.summary and not any(parts(differs).values())


@pytest.mark.parametrize("name, installed", [(WITH_TUNER[0], False), (WITH_TUNER[1], True)])
def test_on_its_own_file_4a_and_4d_are_executed(cells, quick, monkeypatch, name, installed):
    if installed:  # as an installed package is found, with no checkout named
        monkeypatch.syspath_prepend(str(tree_of(name)))
        monkeypatch.delenv("TRTLLM_SRC", raising=False)
    whole = cells(NAME, trtllm_src="" if installed else str(tree_of(name)))
    raised, skipping = whole.found("autotuner.exception"), whole.found("autotuner.skipping")
    assert (raised.verdict, raised.tier, len(raised.parts)) == ("confirmed", "executed", 2)
    assert (skipping.verdict, skipping.tier) == ("refined", "executed") and whole.after[-1]["as_read"] in skipping.sources
    assert [row["warm-up raises"] for row in skipping.values["in TensorRT-LLM"]] == [13, 13, 0]
    assert "raises in 13 of 15 cases, and its warm-up in 13" in whole.found("autotuner.tensorrt-llm").summary
    gone = whole.again("autotuner.exception", own_cases=lambda table: table.assign(outcome="ok"))
    assert gone.verdict == "refined"
    assert whole.after[-1]["best"] == "04-autotuner.revised.tensorrt-llm.diff"


@pytest.mark.parametrize("name", WITHOUT)
def test_a_tree_without_the_file_is_said_in_one_sentence(cells, quick, name):
    whole = cells(NAME, trtllm_src=str(tree_of(name)))
    found = whole.found("autotuner.tensorrt-llm")
    assert found.tier == "reported" and found.summary == "The TensorRT-LLM at hand has no tensorrt_llm/_torch/autotuner.py with specs."
    assert whole.found("autotuner.skipping").verdict == "refined"


def test_a_layout_that_no_patch_fits_and_that_no_longer_raises(cells, quick, tmp_path, capsys):
    file = tmp_path / "tensorrt_llm/_torch/autotuner.py"
    file.parent.mkdir(parents=True)
    file.write_text(LAYOUT.replace("        for each in tuning_config.constraint_specs:", "        for each in ():"))
    whole = cells(NAME, trtllm_src=str(tmp_path))
    found = whole.found("autotuner.exception")
    assert found.verdict == "refined" and parts(found)["TensorRT-LLM's own does, as it is here"] is False
    assert whole.found("autotuner.skipping").verdict == "refined"
    assert "No patch of patches/ fits this TensorRT-LLM." in capsys.readouterr().out


@pytest.mark.parametrize("version", ["0.6.8", "0.7.2.post1"])
def test_every_pinned_version_goes_through(cells, quick, version):
    whole = cells(NAME, flashinfer=version)
    assert whole.found("autotuner.exception").values["exact"] == 6 and whole.found("autotuner.skipping").verdict == "refined"


RECORDED = json.loads((ROOT / "outputs/recorded/h100/evidence.json").read_text())
DEFAULT_COST = next(each for each in RECORDED["findings"] if each["id"] == "autotuner.default-cost")
ANSWERED = DEFAULT_COST["values"]


class Answering:
    """An operator that answers what an H100 answered."""

    valid, default = list(range(7)), 0
    described = lambda self: pd.DataFrame(ANSWERED["tactics"])
    errors = lambda self, sizes: pd.DataFrame(ANSWERED["errors"])
    times = lambda self, sizes: pd.DataFrame(ANSWERED["times"])


def answer(name):
    """What the tuner did on the H100, in the form of `tuning.drive`."""
    launched = next(row for row in ANSWERED["launches"] if row["tuner"] == name)
    chosen = {row["m"]: row["chosen"] for row in ANSWERED["cost"] if row["tuner"] == name}
    launched = {column: each for column, each in launched.items() if column != "tuner"}
    return {**launched, "tactics": chosen or {1: "0"}, "said": []}


@pytest.mark.parametrize("capability, tier", [((9, 0), "gpu"), ((12, 1), "sm12x")])
@pytest.mark.parametrize("mended", [False, True])
def test_what_a_gpu_answered_becomes_a_finding_of_its_tier(cells, monkeypatch, capability, tier, mended):
    whole = cells(NAME)
    names = {id(tuner): name for name, tuner in whole.after[-1]["tuners"].items()}

    def drive(tuner, dimension, operator, sizes, tuned=512, buckets=()):
        if dimension == 0 or mended:
            return answer("right spec")
        return answer(names[id(tuner)] + (", warm-up at m = 1" if tuned == 1 else ""))

    monkeypatch.setattr(tuning, "drive", drive)
    monkeypatch.setattr(devices, "gpus", lambda: [SimpleNamespace(name="a GPU", capability=capability)])
    found = whole.again("autotuner.default-cost", operator=Answering(), runs=True)
    assert found.tier == tier and found.verdict == ("confirmed" if mended else "refined")
    assert list(parts(found).values()) == ([True] * 3 if mended else [True, False, False])
    if mended:
        assert "0 of 10 calls" in found.summary
    else:
        assert f"{ANSWERED['fallen']} of 10 calls" in found.summary and f"takes {ANSWERED['median']:.2f} times" in found.summary
        for name in ("cost", "defaults"):
            mine, recorded = pd.DataFrame(found.values[name]), pd.DataFrame(ANSWERED[name])
            pd.testing.assert_frame_equal(mine, recorded[mine.columns], check_dtype=False)
    launches = {row["tuner"]: row for row in found.values["launches"]}
    assert len(launches) == 7 and launches["skip both, warm-up at m = 1"]["with one too short"] == (0 if mended else 637)


def test_the_rules_as_read_are_those_of_the_account_of_17126():
    assert list(autotuner.replay(autotuner.load(wheels.source("flashinfer-python", "0.6.6")))["rank"]) == [1, 2, 2, 2, 1]
    assert [autotuner.spec(sm) for sm in (90, 100, 103, 120, 121)] == [0, 1, 1, 1, 1]
