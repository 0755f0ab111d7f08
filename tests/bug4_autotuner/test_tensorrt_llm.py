"""TensorRT-LLM's own tuner: real files where they are at hand, and stand-ins of our own writing for layouts."""

import sys

import pytest

from lib import overlay
from lib.bug4_autotuner import autotuner, tuning
from tests.conftest import tree_of

WITH_TUNER, WITHOUT = ("a-1.2.0rc2", "c-moe-resolution"), ("b-march-2026", "d-moved-folder")
pytestmark = pytest.mark.xdist_group("04")


@pytest.mark.parametrize("name", WITH_TUNER)
def test_its_own_look_up_raises_the_message_and_no_stand_in_stays(name):
    before = set(sys.modules)
    rows = autotuner.survey(autotuner.load(tree_of(name), "tensorrt_llm")).set_index("case")["outcome"]
    assert len(rows) == 15 and (rows != "ok").sum() == 13 and rows["None input, constraint spec on dimension 1"] == "ok"
    assert rows["constraint spec, dimension index past the end"] == "IndexError: list assignment index out of range"
    assert "linked dimensions, second input past the end" not in rows and not {
        module for module in set(sys.modules) - before if module.startswith("tensorrt_llm")}


@pytest.mark.parametrize("name", WITH_TUNER)
def test_both_patches_fit_it_and_do_there_what_they_do_in_flashinfer(name):
    tuners = autotuner.tuners(tree_of(name), "tensorrt_llm")
    rows = autotuner.raising(tuners).set_index("tuner")
    assert list(rows.index) == ["original", "published", "revised"] and set(rows["account's cases"]) == {8}
    assert list(rows["look-up raises"]) == [13, 2, 0] and list(rows["warm-up raises"]) == [13, 13, 0]
    assert tuning.agree(*tuners.values(), examples=1000) == tuning.Agreement(1000)


@pytest.mark.parametrize("name", WITH_TUNER)
def test_revised_still_tunes_a_call_that_leaves_out_an_optional_input(name):
    revised = autotuner.tuners(tree_of(name), "tensorrt_llm")["revised"]
    case = autotuner.CASES["None input, constraint spec on dimension 1"]
    configured = autotuner.config(revised, [((0,), (0,))], case.constraint)
    assert len(autotuner.generate(revised, case.shapes, configured).value) > 1


@pytest.mark.parametrize("name", WITHOUT)
def test_a_tree_without_a_tuner_has_none_and_nothing_fits(name):
    assert autotuner.file_of(tree_of(name), "tensorrt_llm") is None and autotuner.fitting(tree_of(name), "tensorrt_llm") == {}


@pytest.mark.parametrize("name", WITH_TUNER)
def test_under_an_overlay_it_is_the_patched_one(name):
    tree = tree_of(name)
    with overlay.patched(autotuner.fitting(tree, "tensorrt_llm")["revised"], root=tree):
        assert (autotuner.survey(autotuner.load(tree, "tensorrt_llm"))["outcome"] == "ok").all()
    assert (autotuner.survey(autotuner.load(tree, "tensorrt_llm"))["outcome"] != "ok").any()


LAYOUT = """
import nvtx_that_is_not_here
from strange.missing import thing
import tensorrt_llm
from tensorrt_llm.logger import logger
from .sibling import helper
from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class DynamicTensorSpec:
    input_idx: int
    dim_idx: int
    gen_tuning_buckets: tuple = ()
    map_to_tuning_buckets: object = None


@dataclass(frozen=True)
class ConstraintSpec:
    input_idx: int
    dim_idx: int
    infer_shape: object


@dataclass(frozen=True)
class TuningConfig:
    dynamic_tensor_specs: tuple = ()
    constraint_specs: tuple = ()


class AutoTuner:
    @classmethod
    def _find_nearest_profile(cls, shapes, tuning_config):
        logger.warning_once("looked up", key="once")
        key = [list(shape) for shape in shapes]
        for each in tuning_config.constraint_specs:
            key[each.input_idx][each.dim_idx] = -1
        return key

    def __init__(self, dist: Optional[helper] = None):
        self.mapping = helper()

    def _optimization_profiles(self, tuning_config, inputs):
        return []
"""



def test_a_layout_of_before_loads_whatever_it_imports(tmp_path):
    file = tmp_path / "tensorrt_llm/_torch/autotuner.py"
    file.parent.mkdir(parents=True)
    file.write_text(LAYOUT)
    tuner = autotuner.load(tmp_path, "tensorrt_llm")
    rows = autotuner.survey(tuner).set_index("case")["outcome"]
    assert len(rows) == 14  # no linked dimensions, and no cap in this one
    assert rows["constraint spec, dimension index past the end"] == "IndexError: list assignment index out of range"
    assert rows["dynamic spec, dimension index past the end"] == "ok"
    assert autotuner.survey(tuner, autotuner.generate)["outcome"].eq("ok").all()
    assert autotuner.fitting(tmp_path, "tensorrt_llm") == {}


DICTS = """
class AutoTuner:
    def _find_nearest_profile(self, dynamic_tensors, constraints, inputs):
        return base
"""


@pytest.mark.parametrize("source, why", [
    (DICTS, "has no tensorrt_llm/_torch/autotuner.py with specs"), ("class AutoTuner(:", "has no"), ("", "has no"),
    (LAYOUT.replace("_find_nearest_profile", "_nearest"), "cannot be asked here: AttributeError"),
    (LAYOUT.replace("    input_idx: int\n", ""), "cannot be asked here: KeyError"),
    (f"{LAYOUT}\nraise OSError('no GPU')\n", "cannot be asked here: OSError: no GPU")])
def test_a_tuner_of_another_shape_says_why_it_is_not_asked(tmp_path, source, why):
    file = tmp_path / "tensorrt_llm/_torch/autotuner.py"
    file.parent.mkdir(parents=True)
    file.write_text(source)
    tuner, said = autotuner.own(tmp_path)
    assert tuner is None and why in said and said.startswith("The ")
    assert autotuner.own(None)[1].startswith("TensorRT-LLM is not here")


def test_a_tuner_that_has_moved_is_found_and_asked(tmp_path):
    folder = tmp_path / "tensorrt_llm/_torch/tuning/here"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise OSError('imported')\n")
    (folder / "autotuner.py").write_text(LAYOUT)
    (tmp_path / "tensorrt_llm/_torch/autotuner.py").write_text(DICTS)
    tuner, why = autotuner.own(tmp_path)
    assert why == "" and tuner.__file__ == str(folder / "autotuner.py")
    assert len(autotuner.survey(tuner)) == 14 and autotuner.fitting(tmp_path, "tensorrt_llm") == {}


def test_a_package_that_is_imported_already_stays(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_llm", held := type(sys)("tensorrt_llm"))
    test_a_layout_of_before_loads_whatever_it_imports(tmp_path)
    assert sys.modules["tensorrt_llm"] is held


SPECS = """
from tensorrt_llm.there import cached

def _helper(shapes): return 0

@cached(maxsize=None)
def _get_fp8_block_scaling_gemm_constraint_spec(sm: int) -> Tuple[ConstraintSpec, ...]:
    if {condition}:
        return (ConstraintSpec(2, 1, _helper), )
    return (ConstraintSpec(2, 0, _helper), )

def get_fp8_block_scaling_gemm_constraint_spec() -> Tuple[ConstraintSpec, ...]:
    return _get_fp8_block_scaling_gemm_constraint_spec(get_sm_version())
"""


@pytest.mark.parametrize("condition, unfit", [("sm >= 100", {121}), ("sm in (100, 103, 120)", set()), ("sm >= 90", {90, 121})])
def test_the_trees_own_rule_decides_which_architectures_fail(tmp_path, condition, unfit):
    from lib.subjects import wheels
    file = tmp_path / autotuner.OPERATORS
    file.parent.mkdir(parents=True)
    file.write_text(SPECS.format(condition=condition))
    tuner = autotuner.load(wheels.source("flashinfer-python", "0.6.6"))
    rows = autotuner.replay(tuner, tmp_path)
    assert set(rows.loc[rows["outcome"] != "ok", "SM"]) == unfit
    recorded = autotuner.replay(tuner)
    assert set(recorded.loc[recorded["outcome"] != "ok", "SM"]) == {121}
