"""The trtllm-gen runner and the fallback kernels: the vendored code, compiled and asked."""

import dataclasses
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from lib.bug5_attention import fmha, trtllm_gen
from lib.errors import CollectionError
from lib.instruments import toolchain
from lib.subjects import patches, wheels

PAGED = "fmha_v2_flash_attention_bf16_64_128_S_q_paged_kv_128_sm120"


@pytest.fixture(scope="module")
def tree():
    return wheels.source("flashinfer-python", "0.6.6")


@pytest.fixture(scope="module")
def tc():
    return toolchain.find()


@pytest.fixture
def no_compiler(monkeypatch, tmp_path, cache_folder):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("NVCC_CCBIN", raising=False)


def test_the_generator_leaves_no_trace(tree):
    before = os.getcwd(), set(sys.modules), os.environ.get("ENABLE_SM120"), sys.dont_write_bytecode
    fmha.specifications(tree, wired=False)
    assert before == (os.getcwd(), set(sys.modules), os.environ.get("ENABLE_SM120"), sys.dont_write_bytecode)


def test_wired_kernels_are_of_the_whole_list(tree):
    whole, wired = fmha.specifications(tree, wired=False), fmha.specifications(tree)
    assert whole["name"].is_unique and set(wired["name"]) <= set(whole["name"]) and PAGED in set(whole["name"])
    assert whole["name"].str.endswith("sm120").all()


def test_a_flashinfer_without_a_generator_is_told(tmp_path):
    with pytest.raises(CollectionError, match="no FMHA v2 generator"):
        fmha.specifications(tmp_path)


def test_an_unknown_kernel_is_told(tc, tree, cache_folder):
    with pytest.raises(CollectionError, match="no FMHA v2 kernel fmha_v3"):
        fmha.build(tc, tree, "fmha_v3")


def test_a_missing_compiler_is_told(tc, tree, no_compiler):
    assert trtllm_gen.compiler() == ""
    for attempt in (lambda: fmha.build(tc, tree, PAGED), lambda: trtllm_gen.answers(tc, tree, None)):
        with pytest.raises(CollectionError, match="g\\+\\+ is not installed") as error:
            attempt()
        assert "g++" in error.value.next_step


def test_a_compiler_that_is_too_old_is_told(tc, tree, cache_folder):
    with pytest.raises(CollectionError, match="nvcc 12.4.1 is too old") as error:
        fmha.build(dataclasses.replace(tc, version="12.4.1"), tree, PAGED)
    assert "nvidia-cuda-nvcc==" in error.value.next_step


def test_a_refusal_of_the_compiler_is_passed_on():
    with pytest.raises(CollectionError, match="error: no such thing"):
        fmha.done(SimpleNamespace(returncode=1, stderr="In file x\nx.cu(3): error: no such thing\n", stdout=""))
    assert fmha.done(SimpleNamespace(returncode=0, stderr="a", stdout="b")) == "ab"


def test_the_gate_is_where_it_was_read(tree):
    places = trtllm_gen.places(tree).set_index("gate")
    assert "kSM_100" in places.loc["trtllm-gen runner", "text"] and "kSM_103" in places.loc["trtllm-gen runner", "text"]
    assert len(places) == len(trtllm_gen.PLACES) == len(trtllm_gen.places(wheels.source("flashinfer-python", "0.7.2.post1")))


def test_places_of_a_tree_without_them(tmp_path):
    assert trtllm_gen.places(tmp_path).empty and trtllm_gen.places(tmp_path, trtllm_gen.TENSORRT_LLM).empty


def test_the_places_of_tensorrt_llm_are_found_by_their_text(tmp_path):
    lines = {"attentionOp.h": "bool mUseTllmGen = (mSM >= 100) && (mSM != 120);", "cudaUtils.h": "if (sm == 121 && !queryRealSmArch)",
             "fmhaDispatcher.cpp": ", mUseTllmGen(isSM100Family())", "trtllm_gen.py": "if sm not in (100, 103):"}
    for _, file, _ in trtllm_gen.TENSORRT_LLM:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"first\n    {lines[path.name]}\nlast\n")
    found = trtllm_gen.places(tmp_path, trtllm_gen.TENSORRT_LLM)
    assert list(found["line"]) == [2] * 4 and dict(zip(found["file"], found["text"])) == lines


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_patch_of_flashinfer_is_a_diff_that_git_takes(tree, tmp_path):
    patch = patches.Patch("05-attention.revised.flashinfer-0.6.6.diff")
    with wheels.scratch(tree, *patch.files) as copy:
        for command in (["init", "--quiet"], ["apply", "--check", str(patch.path)]):
            subprocess.run(["git", "-C", copy, *command], check=True)
        patch.apply(copy)
        assert patch.state(copy) == patches.APPLIED
        patch.revert(copy)
        assert (copy / patch.files[0]).read_text() == (tree / patch.files[0]).read_text()


def test_the_patch_of_tensorrt_llm_finds_its_lines(tmp_path):
    patch = patches.Patch("05-attention.published.tensorrt-llm.diff")
    for change in patch.changes:
        path = tmp_path / change.file
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(["// before"] * 7 + list(change.old) + ["// after"] * 3))
    patch.apply(tmp_path)
    assert "isSM100Family()" in (tmp_path / patch.files[0]).read_text()
    assert patch.state(tmp_path) == patches.APPLIED


def test_what_the_runner_answered(findings):
    answers = pd.DataFrame(findings["attention.runner"]["values"]["answers"])
    outcomes = answers.groupby("sm")["outcome"].unique().map(list).to_dict()
    assert outcomes == {90: ["refused"], 100: ["kernel"], 103: ["kernel"], 110: ["refused"], 120: ["refused"], 121: ["refused"]}
    assert answers.groupby("sm").size().eq(72).all()
    assert answers.loc[answers["sm"] == 121, "answer"].str.endswith("Unsupported architecture").all()
    assert answers.loc[answers["sm"] == 103, "answer"].str.startswith("fmhaSm10").all()
    assert not answers["answer"].str.contains("/").any(), "a path of this machine is in the evidence"


def test_the_patched_runner_takes_the_same_kernels(findings):
    found = findings["attention.sm100-path"]
    assert (found["claim"], found["verdict"], found["tier"]) == (None, "confirmed", "executed")
    answers = pd.DataFrame(found["values"]["answers"])
    kept = answers[answers["sm"].isin([100, 103])]
    assert len(kept) == 144 and (kept["answer"] == kept["answer after"]).all()
    told = answers.loc[answers["sm"] == 121, "answer after"]
    assert told.str.contains("SM121").all() and told.str.contains("xqa").all() and told.str.contains("fa2").all()


def test_what_the_fallback_is(findings):
    sources, compiled = findings["attention.fallback-sources"], findings["attention.fallback"]
    assert [len(rows) for rows in sources["values"]["kernels"].values()] == [225, 9, 201]
    rows = pd.DataFrame(compiled["values"]["compiled"])
    assert (compiled["claim"], compiled["verdict"], compiled["tier"]) == ("5c", "refined", "compiled")
    assert (rows["shared memory (B)"] <= rows["of (B)"]).all() and set(rows["of (B)"]) == {101376}
    assert list(rows["shared memory (B)"]) == [81920, 32768, 81920]
    assert [each.partition(".")[0] for each in rows["instructions"]] == ["HMMA", "QMMA", "HMMA"]
    assert not rows["instructions"].str.contains("UTC|SF").any(), "it would need tcgen05 or block scaling"


def test_where_gb10_was_sent(findings):
    gates = pd.DataFrame(findings["attention.routing"]["values"]["gates"])
    read = gates[gates["read at"] != ""]
    assert len(read) == 6 and (read["SM121"] == "fallback").all() and (read[["SM100", "SM103"]] == "trtllm-gen").all().all()
    assert (gates.loc[gates["read at"] == "", "SM121"] == "trtllm-gen").all()
    assert read["read at"].str.fullmatch(r"https://github\.com/[\w-]+/TensorRT-LLM/blob/[0-9a-f]{40}/\S+").all()
