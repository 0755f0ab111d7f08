"""The autotuner: the exception and its line, the patches, and that in bounds nothing changes."""

import functools

import pytest

from lib.bug4_autotuner import autotuner, tuning
from lib.errors import CollectionError
from lib.subjects import patches, wheels

VERSIONS = ("0.6.6", "0.6.8", "0.7.2.post1")
pytestmark = pytest.mark.xdist_group("04")


def tree_of(version):
    return wheels.source("flashinfer-python", version)


@functools.cache
def tuners_of(version):
    return autotuner.tuners(tree_of(version))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_assignment_fails_only_where_a_dimension_is_written_unread(version):
    rows = autotuner.survey(autotuner.load(tree_of(version))).set_index("case")["outcome"]
    assert rows["in bounds"] == "ok"
    assert rows["constraint spec, dimension index past the end"] == "IndexError: list assignment index out of range"
    assert rows["dynamic spec, dimension index past the end"] == "IndexError: list index out of range"
    assert rows["constraint spec, input index past the end"] == "IndexError: list index out of range"
    linked = rows["linked dimensions, second dimension past the end"]
    assert linked == ("ok" if version == "0.6.6" else "IndexError: list assignment index out of range")


def test_the_raising_line_is_the_one_that_writes():
    outcome = autotuner.find(*(lambda tuner: (tuner, autotuner.SHAPES, autotuner.config(tuner, constraint=[(2, 1)])))(autotuner.load(tree_of("0.6.6"))))
    assert outcome.frame.name == "_find_nearest_profile" and outcome.frame.line.endswith("= -1")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_pinned_version_has_a_patch_of_each_kind(version):
    found = autotuner.fitting(tree_of(version))
    assert list(found) == list(autotuner.KINDS)
    assert all(version in patches.Patch(name).header["Base"] for name in found.values())


def test_no_pinned_version_is_left_out():
    assert {wheel.version for wheel in wheels.pins() if wheel.name == "flashinfer-python"} == set(VERSIONS)


def test_what_fits_follows_the_file(tmp_path):
    file = tree_of("0.6.6") / autotuner.file_of(tree_of("0.6.6"))
    copy = tmp_path / "flashinfer" / "autotuner.py"
    copy.parent.mkdir()
    copy.write_text(file.read_text().replace("for spec in tuning_config.dynamic_tensor_specs:", "for spec in ():"))
    assert autotuner.fitting(tmp_path) == {} and autotuner.fitting(tmp_path / "flashinfer") == {} and autotuner.fitting(None) == {}
    with pytest.raises(CollectionError, match="has no tensorrt_llm/_torch/autotuner.py"):
        autotuner.load(tmp_path, "tensorrt_llm")


@pytest.mark.parametrize("version", VERSIONS)
def test_patched_and_original_agree_in_bounds(version):
    tuners = tuners_of(version)
    for kind in ("published", "skip both", "revised"):
        agreed = tuning.agree(tuners["original"], tuners[kind], examples=1000)
        assert agreed == tuning.Agreement(1000), kind


def test_the_property_can_fail():
    tuner = autotuner.load(tree_of("0.6.6"))
    broken = autotuner.load(tree_of("0.6.6"))
    broken.AutoTuner._find_nearest_profile = classmethod(lambda cls, shapes, configured: shapes)
    found = tuning.agree(tuner, broken, examples=500)
    assert "against" in found.difference and found.compared < 500
    broken.AutoTuner._find_nearest_profile = classmethod(lambda cls, shapes, configured: shapes[9])
    assert "IndexError" in tuning.agree(tuner, broken, examples=500).difference


@pytest.mark.parametrize("version", VERSIONS)
def test_published_mends_the_look_up_and_not_warm_up(version):
    changed = tuners_of(version)["published"]
    assert tuning.warm_up(changed, 1)["warm-up ends with"] == "IndexError: list assignment index out of range"
    assert autotuner.find(changed, autotuner.SHAPES, autotuner.config(changed, constraint=[(2, 1)])).error == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_revised_warns_and_times_nothing_wrong(version):
    changed = tuners_of(version)["revised"]
    wrong, right = tuning.warm_up(changed, 1), tuning.warm_up(changed, 0)
    assert wrong["warm-up ends with"] == "tactic -1" and wrong["kernels timed"] == 0 and any("does not fit the shapes" in said for said in wrong["said"])
    assert right["warm-up ends with"] == "tactic 1" and right["with a wrong scale"] == 0 and right["said"] == [] and set(right["tactics"].values()) == {"1"}


@pytest.mark.parametrize("version", VERSIONS)
def test_skipping_in_warm_up_times_kernels_on_wrong_scales(version):
    told = tuning.warm_up(tuners_of(version)["skip both"], 1)
    row = tuning.fates({"skip both": told}).iloc[0]
    assert not row["raised"] and row["with a wrong scale"] == 9 < row["kernels timed"] == 12
    assert (row["tuned"], row["default"], row["exception"]) == (2, 5, 0) and row["warm-up ends with"] == "tactic 1"


def test_the_subject_is_left_as_it_was():
    tree = tree_of("0.6.6")
    before = (tree / autotuner.file_of(tree)).read_bytes()
    changed = autotuner.patched(tree, "04-autotuner.revised.flashinfer-0.6.6.diff")
    assert changed.__file__ != str(tree / autotuner.file_of(tree))
    assert (tree / autotuner.file_of(tree)).read_bytes() == before
