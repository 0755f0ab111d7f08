"""The autotuner: the exception and its line, the patches, and that in bounds nothing changes."""

import pytest

from lib.bug4_autotuner import autotuner, tuning
from lib.subjects import wheels

VERSIONS = ("0.6.6", "0.7.2.post1")


def tree_of(version):
    return wheels.source("flashinfer-python", version)


@pytest.mark.parametrize("version", VERSIONS)
def test_only_a_constraint_spec_fails_in_assignment(version):
    rows = autotuner.survey(autotuner.load(tree_of(version))).set_index("case")["outcome"]
    assert rows["in bounds"] == "ok"
    assert rows["constraint spec, dimension index past the end"] == "IndexError: list assignment index out of range"
    assert rows["dynamic spec, dimension index past the end"] == "IndexError: list index out of range"
    assert rows["constraint spec, input index past the end"] == "IndexError: list index out of range"


def test_the_raising_line_is_the_one_that_writes():
    outcome = autotuner.find(*(lambda tuner: (tuner, autotuner.SHAPES, autotuner.config(tuner, constraint=[(2, 1)])))(autotuner.load(tree_of("0.6.6"))))
    assert outcome.where == "_find_nearest_profile" and outcome.code.endswith("= -1")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["published", "revised"])
def test_patched_and_original_agree_in_bounds(version, kind):
    tree = tree_of(version)
    with tuning.patched(tree, f"04-autotuner.{kind}.flashinfer-{version}.diff") as changed:
        assert tuning.agree(autotuner.load(tree), changed) >= 10_000


def test_the_property_can_fail():
    tuner = autotuner.load(tree_of("0.6.6"))
    broken = autotuner.load(tree_of("0.6.6"))
    broken.AutoTuner._find_nearest_profile = classmethod(lambda cls, shapes, configured: shapes)
    with pytest.raises(AssertionError):
        tuning.agree(tuner, broken, examples=500)


@pytest.mark.parametrize("version", VERSIONS)
def test_published_mends_the_look_up_and_not_warm_up(version):
    with tuning.patched(tree_of(version), f"04-autotuner.published.flashinfer-{version}.diff") as changed:
        assert tuning.warm_up(changed, 1)["tuning"] == "IndexError: list assignment index out of range"
        assert autotuner.find(changed, autotuner.SHAPES, autotuner.config(changed, constraint=[(2, 1)])).error == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_revised_warns_and_times_nothing_wrong(version):
    with tuning.patched(tree_of(version), f"04-autotuner.revised.flashinfer-{version}.diff") as changed:
        wrong, right = tuning.warm_up(changed, 1), tuning.warm_up(changed, 0)
    assert wrong["tuning"] == "-1" and wrong["profiled"] == 0 and any("does not fit the shapes" in said for said in wrong["said"])
    assert right["tuning"] == "1" and right["wrong scales"] == 0 and right["said"] == [] and set(right["tactics"].values()) == {"1"}


def test_the_subject_is_left_as_it_was():
    tree = tree_of("0.6.6")
    before = (tree / autotuner.file_of(tree)).read_bytes()
    with tuning.patched(tree, "04-autotuner.revised.flashinfer-0.6.6.diff") as changed:
        assert changed.__file__ != str(tree / autotuner.file_of(tree))
    assert (tree / autotuner.file_of(tree)).read_bytes() == before
