"""Who sends which GPU to trtllm-gen: the lines of real trees, asked."""

import re
import shutil

import pytest

from lib.bug5_attention import gates
from lib.errors import CollectionError
from lib.subjects import patches, wheels
from tests.conftest import tree_of

PUBLISHED = "05-attention.published.tensorrt-llm.diff"
FALLBACK = {sm: "fallback" for sm in gates.COLUMNS}


@pytest.fixture
def a(tmp_path):
    """The old layout, with C++, as a copy that a test may change."""
    return shutil.copytree(tree_of("a-1.2.0rc2"), tmp_path / "a", copy_function=shutil.copyfile)


def answer(asked):
    """What a single gate answered (dict)."""
    assert len(asked) == 1
    return asked[gates.COLUMNS].iloc[0].to_dict()


def test_where_gb10_was_sent_before_the_fix(a):
    assert answer(gates.asked(a)) == FALLBACK | {name: "trtllm-gen" for name in ("SM100", "SM103", "SM110")}


def test_without_the_121_to_120_rule_gb10_goes_to_trtllm_gen(a):
    """What the account may have met, on TensorRT-LLM's own lines: the gate turns on another file."""
    header = a / gates.CAPABILITY
    text = header.read_text()
    assert "sm == 121 && !queryRealSmArch" in text
    header.write_text(text.replace("sm == 121 && !queryRealSmArch", "false"))
    assert answer(gates.asked(a))["SM121"] == "trtllm-gen"
    assert answer(gates.asked(a, patches.Patch(PUBLISHED)))["SM121"] == "fallback"  # and the fix mends it


def test_the_published_condition_keeps_sm100_and_turns_sm110_away(a):
    before, after = answer(gates.asked(a)), answer(gates.asked(a, patches.Patch(PUBLISHED)))
    assert {name for name in gates.COLUMNS if before[name] != after[name]} == {"SM110"}
    assert "(mSM != 120)" in (a / gates.OPERATOR).read_text(), "the tree was edited"


def test_a_gate_that_the_patch_does_not_fit_is_not_asked(a):
    operator = a / gates.OPERATOR
    operator.write_text(operator.read_text().replace("(mSM != 120)", "(mSM < 120)"))
    assert gates.asked(a, patches.Patch(PUBLISHED)).empty
    assert answer(gates.asked(a))["SM121"] == "fallback"


def test_a_gate_that_does_not_compile_is_told(a):
    operator = a / gates.OPERATOR
    operator.write_text(operator.read_text().replace("(mSM >= 100)", "no_such_name"))
    with pytest.raises(CollectionError, match="gates.cpp does not compile: .*no_such_name"):
        gates.asked(a)


def test_the_python_check_is_run_and_says_why():
    b = tree_of("b-march-2026")
    before, after = gates.asked(b), gates.asked(b, patches.Patch(PUBLISHED))
    expected = FALLBACK | {"SM100": "trtllm-gen", "SM103": "trtllm-gen"}
    assert answer(before) == answer(after) == expected
    assert "SM121" in before["says"][0] and "XQA" not in before["says"][0]
    assert "SM121" in after["says"][0] and "FMHA v2" in after["says"][0] and "XQA" in after["says"][0]


def test_another_python_check_answers_otherwise(tmp_path):
    file = tmp_path / gates.PYTHON
    file.parent.mkdir(parents=True)
    shutil.copyfile(tree_of("b-march-2026") / gates.PYTHON, file)
    file.write_text(file.read_text().replace("is_sm_100f(sm)", "is_sm_100f(sm) and sm != 121"))
    assert answer(gates.asked(tmp_path))["SM121"] == "trtllm-gen"
    file.write_text("def is_supported():\n    return True, ''\n")
    with pytest.raises(CollectionError, match="does not check the GPU"):
        gates.asked(tmp_path)


@pytest.mark.parametrize("name", ["c-moe-resolution", "d-moved-folder"])
def test_later_trees_have_none_of_the_gates(name):
    assert gates.asked(tree_of(name)).empty and gates.places(tree_of(name), "tensorrt-llm").empty


def test_no_tree_is_no_error(tmp_path):
    assert gates.asked(None).empty and gates.asked(tmp_path).empty and gates.places(tmp_path, "flashinfer").empty


def test_what_was_recorded_is_what_the_trees_answer():
    """The excerpts hold the lines of two of the recorded links; asked, they answer as recorded."""
    recorded = gates.recorded().set_index("gate")
    for name, row in (("a-1.2.0rc2", "attentionOp.h, before"), ("b-march-2026", "trtllm_gen.py, if switched on, before")):
        assert answer(gates.asked(tree_of(name))) == recorded.loc[row, gates.COLUMNS].to_dict()
    after = answer(gates.asked(tree_of("a-1.2.0rc2"), patches.Patch(PUBLISHED)))
    assert after == recorded.loc["attentionOp.h, the fix as published", gates.COLUMNS].to_dict()
    linked = recorded[recorded["when"] != "never read"]
    assert linked["read at"].map(lambda link: bool(re.fullmatch(r"https://github\.com/[\w-]+/TensorRT-LLM/blob/[0-9a-f]{40}/\S+", link))).all()


def test_the_lines_are_where_they_were_read():
    releases = [gates.places(wheels.source("flashinfer-python", each), "flashinfer") for each in ("0.6.6", "0.7.2.post1")]
    text = releases[0].set_index("gate").loc["trtllm-gen runner", "text"]
    assert "kSM_100" in text and "kSM_103" in text and len(releases[0]) == len(releases[1]) == 4
    assert list(gates.places(tree_of("a-1.2.0rc2"), "tensorrt-llm")["file"]) == ["cudaUtils.h", "attentionOp.h"]
