"""The trtllm-gen runner and the fallback kernels: the vendored code, compiled and asked."""

import dataclasses
import os
import shutil
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


def test_a_missing_compiler_is_told(tc, tree, no_compiler):
    assert trtllm_gen.compiler() == ""
    for attempt in (lambda: fmha.build(tc, tree, PAGED), lambda: trtllm_gen.answers(tc, tree, None)):
        with pytest.raises(CollectionError, match="g\\+\\+ is not installed") as error:
            attempt()
        assert "g++" in error.value.next_step


def test_a_compiler_that_is_too_old_is_told(tc, tree, cache_folder):
    with pytest.raises(CollectionError, match="nvcc 12.4.1 is too old") as error:
        fmha.build(dataclasses.replace(tc, version="12.4.1", pinned=False), tree, PAGED)
    assert "unset" in error.value.next_step and "pinned toolchain" in error.value.next_step


def test_a_kernel_that_is_refused_is_a_row_and_not_the_end(tc, tree, monkeypatch):
    """How many compile is counted: it is not the number that were tried."""
    def refuse(tc, tree, name, target, build=fmha.build):
        if name == "refused":
            raise CollectionError("the compiler refuses it: no such thing", "nothing")
        return build(tc, tree, name, target)
    monkeypatch.setattr(fmha, "build", refuse)
    table = fmha.compiled(tc, tree, [PAGED, "refused"], "sm_121a")
    assert list(table["refused"]) == ["", "the compiler refuses it: no such thing"]
    assert table["shared memory (B)"].iloc[0] == 81920 and pd.isna(table["shared memory (B)"].iloc[1])


def test_what_the_compiler_says_is_passed_on(tc, tree, cache_folder, monkeypatch):
    monkeypatch.setattr(fmha, "source", lambda tree, name: "no such thing;")
    with pytest.raises(CollectionError, match="the compiler refuses it: .*no"):
        fmha.build(tc, tree, PAGED)


@pytest.mark.parametrize("other", ["harness", "patches", "kernels"])
def test_the_runner_is_asked_again_when_what_it_depends_on_changes(tc, tree, tmp_path, monkeypatch, other):
    keys = []

    def remember(kind, inputs, ask):
        keys.append(trtllm_gen.cache.digest(trtllm_gen.cache.content(inputs)))
        return SimpleNamespace(value=[["121", "a case", "Unsupported architecture"]])
    monkeypatch.setattr(trtllm_gen.cache, "remember", remember)
    meta = [b"one"]
    monkeypatch.setattr(trtllm_gen.cubins, "read", lambda *_: meta)
    trtllm_gen.answers(tc, tree, None)
    if other == "harness":
        monkeypatch.setattr(trtllm_gen, "HARNESS", tmp_path / "other.cpp")
        (tmp_path / "other.cpp").write_text("// other")
    meta[0] = b"two" if other == "kernels" else b"one"
    answered = trtllm_gen.answers(tc, tree, None, *(["05-attention.revised.flashinfer-0.6.6.diff"] if other == "patches" else []))
    assert keys[0] != keys[1] and list(answered["outcome"]) == ["refused"]


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_patch_of_flashinfer_is_applied_and_taken_back(tree):
    patch = patches.Patch("05-attention.revised.flashinfer-0.6.6.diff")
    with wheels.scratch(tree, *patch.files) as copy:
        patch.apply(copy)
        assert patch.state(copy) == patches.APPLIED
        assert not patch.git(copy, "--reverse")
        assert (copy / patch.files[0]).read_text() == (tree / patch.files[0]).read_text()
