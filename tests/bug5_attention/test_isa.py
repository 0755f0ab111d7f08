"""Instructions by target, and code read as another architecture's."""

import dataclasses
import re
import subprocess
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from lib.bug5_attention import isa
from lib.errors import CollectionError
from lib.instruments import sass, toolchain
from lib.instruments.toolchain import Toolchain


@pytest.fixture(scope="module")
def tc():
    return toolchain.find()


@pytest.fixture(scope="module")
def matrix(tc):
    return isa.matrix(tc).set_index("instruction")


def test_every_snippet_is_right_somewhere(matrix):
    answers = matrix[list(isa.TARGETS)]
    assert (answers == "").any(axis=1).all(), "a snippet that no target takes may be wrong PTX"
    refusals = answers.stack()
    assert refusals[refusals != ""].str.contains("not supported on .target|requires .target").all(), "a snippet failed for another reason"


@pytest.mark.parametrize("sm", [100, 103, 110, 120, 121])
def test_a_narrower_target_takes_what_a_wider_one_takes(matrix, sm):
    kinds = [f"sm_{sm}{kind}" for kind in ("", "f", "a") if f"sm_{sm}{kind}" in matrix]
    for wide, narrow in zip(kinds, kinds[1:]):
        assert (matrix.loc[matrix[wide] == "", narrow] == "").all()


def test_sm120_and_sm121_take_the_same(matrix):
    for kind in ("", "f", "a"):
        assert ((matrix[f"sm_120{kind}"] == "") == (matrix[f"sm_121{kind}"] == "")).all()


def test_no_target_takes_both_kinds_of_block_scaling(matrix):
    tcgen05 = {target for target in isa.TARGETS if (matrix.loc[matrix["family"] == "tcgen05", target] == "").any()}
    scaled = {target for target in isa.TARGETS if matrix.loc["mma mxf4nvf4.block_scale 4X (NVFP4)", target] == ""}
    assert tcgen05 == {"sm_100f", "sm_100a", "sm_103f", "sm_103a", "sm_110f", "sm_110a"}
    assert scaled == {"sm_120f", "sm_120a", "sm_121f", "sm_121a"}


@settings(max_examples=4, deadline=None)
@given(some.lists(some.sampled_from(isa.INSTRUCTIONS), min_size=1, max_size=6, unique=True))
def test_an_instruction_is_judged_alone(chosen):
    tc = toolchain.find()
    whole = isa.matrix(tc).set_index("instruction")["sm_121a"]
    alone = isa.matrix(tc, ("sm_121a",), chosen).set_index("instruction")["sm_121a"]
    assert (alone == whole[alone.index]).all()


@pytest.mark.parametrize("target", ["sm_99a", "sm_121x", "nonsense"])
def test_an_unknown_target_is_told(tc, target):
    with pytest.raises(CollectionError, match=target):
        isa.assemble(tc, target, isa.INSTRUCTIONS[0])


def test_a_ptxas_that_is_too_old_is_told(tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ptxas"
    said = "ptxas k.ptx, line 1; fatal   : Unsupported .version 9.2; current version is '8.0'"
    program.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 255\n')
    program.chmod(0o755)
    with pytest.raises(CollectionError, match="ptxas 12.0 does not assemble for sm_121a.*Unsupported .version"):
        isa.assemble(Toolchain(tmp_path, "12.0", ()), "sm_121a", isa.INSTRUCTIONS[0])


def test_a_cubin_of_one_instruction(tc):
    with pytest.raises(CollectionError, match="not supported on .target 'sm_121a'"):
        isa.cubin(tc, "sm_121a", "tcgen05.ld")
    assert sass.total(sass.opcodes(tc, isa.cubin(tc, "sm_121a")).values()).to_dict() == {"HMMA.16816.F32.BF16": 1}


@pytest.mark.parametrize("target, name, device, unknown", [
    ("sm_100a", "tcgen05.mma f16", "SM121", {"UTCHMMA": 1}),
    ("sm_121a", "mma mxf4nvf4.block_scale 4X (NVFP4)", "SM100", {"OMMA": 1}),
    ("sm_100a", "mma bf16", "SM121", {}),
    ("sm_121a", "mma bf16", "SM120", {})])
def test_code_read_as_another_architecture(tc, target, name, device, unknown):
    decoded = sass.decode(tc, isa.cubin(tc, target, name), device)
    assert decoded["unknown"] == unknown and sum(decoded["matrix"].values()) == 1


def test_what_cannot_be_read_is_told(tc):
    cubin = isa.cubin(tc, "sm_121a")
    with pytest.raises(CollectionError, match="SM999"):
        sass.decode(tc, cubin, "SM999")
    for damaged in (b"", cubin[:40], b"x" * 200, cubin[:64] + b"\0" * 2000, cubin[:len(cubin) // 2]):
        with pytest.raises(CollectionError, match="damaged|no cubin"):
            sass.decode(tc, damaged, "SM121", "x.cubin")
    with pytest.raises(CollectionError, match="nvdisasm refuses"):
        sass.opcodes(tc, b"x" * 100)


@settings(max_examples=30, deadline=None)
@given(cut=some.integers(0, 4000))
def test_a_cut_cubin_never_passes_for_a_whole_one(cut):
    cubin = isa.cubin(toolchain.find(), "sm_121a")
    whole = sass.texts(cubin)
    try:
        assert sass.texts(cubin[:cut]) == whole
    except CollectionError as error:
        assert error.next_step


@pytest.mark.parametrize("changed", ["kernel", "instructions"])
def test_another_text_is_asked_again(tc, monkeypatch, changed):
    """The key of an answer covers the PTX that stands in instructions.toml."""
    keys = []
    monkeypatch.setattr(isa.cache, "remember", lambda kind, inputs, ask: keys.append(isa.cache.digest(inputs)) or SimpleNamespace(value={}))
    row = isa.INSTRUCTIONS[0]
    isa.matrix(tc, ("sm_121a",), [row])
    if changed == "kernel":
        monkeypatch.setitem(isa.READ, "kernel", isa.READ["kernel"] + " ")
    isa.matrix(tc, ("sm_121a",), [row if changed == "kernel" else dataclasses.replace(row, text=row.text + " ")])
    assert keys[0] != keys[1]


def test_the_conversion_to_fp4_is_for_the_targets_with_a_letter(tc, matrix):
    """What it is about: compiled, not run. Plain sm_120 and sm_121 lack it; with a or f they write what sm_100a writes."""
    asked = isa.mnemonics(tc, isa.TARGETS, isa.FP4_CVT, re.compile("F2F"))
    written = asked[list(isa.TARGETS)].loc[0]
    assert {name for name in isa.TARGETS if not written[name]} == {"sm_90a", "sm_100", "sm_120", "sm_121"}
    assert set(written[written != ""]) == {written["sm_100a"]} and "E2M1" in written["sm_100a"]
    assert matrix.loc[isa.FP4_CVT[0].name, "sm_121"] == "Feature 'cvt.e2m1x2.f32' not supported on .target 'sm_121'"


def test_the_toolchain_is_the_one_that_the_snippets_need(tc):
    said = subprocess.run([tc.tool("ptxas"), "--version"], capture_output=True, text=True).stdout
    assert f"V{tc.version}" in said and tc.version.startswith("13.2.")  # PTX ISA 9.2
