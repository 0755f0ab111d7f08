"""Each tool asked, by call and by form: what it says follows from the room behind it, and what cannot be is a sentence with a next step."""

import sys
import types

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from lib import workbench
from lib.bug1_shared_memory import binaries, gemm, harness, optin, tiles
from lib.bug2_kv_cache import designs
from lib.bug3_moe_gate import gates
from lib.bug4_autotuner import autotuner
from lib.errors import CollectionError
from lib.evidence.figures import PLOTLY
from lib.instruments import devices, toolchain
from lib.subjects import models
from lib.workbench import (
    fits,
    forms,
    gate,
    kernels,
    launch,
    libraries,
    memory,
    pool,
    spec,
    tile,
    widget,
)

BUG = {"shapes": [(300, 256), (300,)], "constraint": (2, 1)}
WRONG = [  # tool, arguments, and a part of what is said
    (tile, {"m": 0, "n": 128, "k": 128}, "m cannot be 0; next: give a whole number of elements from 1 to 1,024"),
    (tile, {"m": 128, "n": 128, "k": 128, "epilogue": "relu"}, "use one of: 'plain', 'bias', 'grouped', 'scatter'"),
    (tile, {"m": 128, "n": 128, "k": 128, "stages": -1}, "stages cannot be -1"),
    (tile, {"m": 128, "n": 128, "k": 128, "target": "sm_90a"}, "use one of: 'sm_120a', 'sm_121a'"),
    (tile, {"m": 128, "n": 128, "k": 128, "flashinfer": "9.9"}, "choose a pinned version"),
    (launch, {"m": 128, "n": 1.5, "k": 128}, "n cannot be 1.5"),
    (spec, {"shapes": "(300"}, "cannot be shapes; next: write them as in [(300, 256), (300,)]"),
    (spec, {"shapes": [(-1, 2)]}, "cannot be shapes"),
    (spec, {"shapes": [(2**20, 2**20)]}, "cannot be shapes"),
    (spec, {"shapes": [(3,)], "constraint": (1, 2, 3)}, "cannot be dimensions of inputs"),
    (pool, {"model": "GPT-9", "gigabytes": 8, "context": 8192}, "name one of: MiniMax-M2.5,"),
    (pool, {"model": "gpt-oss-20b", "gigabytes": -1, "context": 8192}, "give more than 0"),
    (pool, {"model": "gpt-oss-20b", "gigabytes": 8, "context": -5}, "context cannot be -5"),
    (gate, {"sm": 5, "back_end": "CUTLASS", "quantisation": "NVFP4"}, "use one of: 90, 100, 103, 120, 121"),
    (gate, {"sm": 121, "back_end": "triton", "quantisation": "NVFP4"}, "use one of: 'trtllm-gen', 'CUTLASS', 'CuTe DSL, SM100'"),
    (gate, {"sm": 121, "back_end": "CUTLASS", "quantisation": "INT3"}, "use one of: 'NVFP4', 'FP8 block scales'"),
    (fits, {"model": "GPT-9", "format": "bf16", "context": 1}, "name one of: MiniMax-M2.5,"),
    (fits, {"model": "gpt-oss-20b", "format": "int3", "context": 1}, "name one of: bf16,"),
    (fits, {"model": "gpt-oss-20b", "format": "bf16", "context": 0}, "context cannot be 0"),
]


@pytest.mark.parametrize("tool, arguments, said", WRONG, ids=lambda each: getattr(each, "__name__", None))
def test_a_wrong_input_is_a_sentence_that_says_what_may_be_given(tool, arguments, said):
    """In the call, and in IPython, which shows the sentence and no traceback."""
    with pytest.raises(CollectionError) as raised:
        tool(**arguments)
    error = raised.value
    assert said in f"{error.what}; next: {error.next_step}" and error._render_traceback_() == [str(error)]


@pytest.mark.parametrize("name", forms.FIELDS)
def test_a_form_asks_its_tool_and_says_what_cannot_be(name):
    """Its button, pressed from Python: the tool's own answer; then a wrong input that it has a field for."""
    tool = getattr(workbench, name)
    form = widget(tool)
    *fields, button, _ = form.children
    names = [*forms.FIELDS[name]]
    assert [each.description for each in fields] == [name.replace("_", " ") for name in names]
    button.click()
    assert repr(form.result) == repr(tool(**{name: each.value for name, each in zip(names, fields)}))
    number = next((each for each in fields if isinstance(each.value, int | float)), fields[0])
    if not hasattr(number, "options"):  # a list has nothing wrong to choose
        number.value = "(" if isinstance(number.value, str) else -1
        button.click()
        assert "cannot be" in repr(form.result) and "; next: " in repr(form.result) and not form.result.shown


def test_there_is_no_form_of_what_is_no_tool():
    with pytest.raises(CollectionError, match="use one of: 'tile', 'launch', 'spec', 'pool', 'gate', 'fits'"):
        widget(print)


@pytest.mark.parametrize("asked", [{"epilogue": "scatter"}, {"epilogue": "grouped"}, {}], ids=lambda asked: asked.get("epilogue", "plain"))
def test_a_tile_is_the_kernel_of_notebook_01(asked):
    """The same bytes as upstream's own kernel has, by another way to it."""
    theirs = tiles.grouped("128x256x64B", fused=asked.get("epilogue") == "scatter") if asked else harness.PUBLISHED
    row = gemm.measure([theirs]).iloc[0]
    answer = tile(*theirs.tile, **asked)
    too_large = row["headroom"] < 0
    assert f"needs {row['kernel']:,} B" in answer.said and ("too many" in answer.said) == too_large
    drawing, = answer.shown
    assert drawing.table["needs"].tolist() == [row["kernel"]] and PLOTLY in drawing._repr_mimebundle_()


def test_a_tile_that_does_not_compile_has_cutlass_s_words():
    """128x64x128 has 10,240 B of headroom, and its tensor map cannot be made."""
    answer = tile(128, 64, 128)
    assert "does not compile: TMA requires CTA_Tile and SLayout" in answer.said and not answer.shown


def test_what_the_atlas_has_is_told_at_once_and_the_same_as_a_compiler_tells(monkeypatch):
    compiled = []
    monkeypatch.setattr(gemm, "measure", lambda *asked, ask=gemm.measure: compiled.append(asked) or ask(*asked))
    told = tile(128, 128, 128, epilogue="grouped")
    monkeypatch.setattr(kernels.measured, "known", lambda *_: pd.DataFrame())
    asked = tile(128, 128, 128, epilogue="grouped")
    assert len(compiled) == 1 and told.said == asked.said and told.values["parts"] == asked.values["parts"]
    assert told.shown[0].table.astype(str).equals(asked.shown[0].table.astype(str))


@pytest.mark.parametrize("other", [{"of": "0.6.9"}, {"target": "sm_120f"}, {"nvcc": "12.9.0"}, {"asked": gemm.Gemm((128, 240, 128))}])
def test_the_atlas_tells_nothing_of_another_kernel_or_compiler(monkeypatch, other):
    nvcc = other.get("nvcc", toolchain.find().version)
    monkeypatch.setattr(toolchain, "find", lambda: types.SimpleNamespace(version=nvcc))
    asked = {"asked": gemm.Gemm((128, 128, 128)), "of": "0.6.6", "target": "sm_121a"} | {name: value for name, value in other.items() if name != "nvcc"}
    assert len(kernels.measured.known(gemm.Gemm((128, 128, 128)), "0.6.6", "sm_121a")) == (nvcc != "12.9.0")
    assert kernels.measured.known(**asked).empty


def test_without_a_gpu_one_line_says_so(monkeypatch):
    monkeypatch.setattr(devices, "gpus", lambda: [])
    assert launch(128, 128, 128).said.startswith("No GPU here, so nothing is launched.")


@pytest.mark.parametrize("sm, target", [(121, "sm_121a"), (120, "sm_120a"), (90, "sm_121a")])
def test_on_a_gpu_its_own_answers_are_shown(monkeypatch, sm, target):
    """A stand-in for the GPU and for the minute of the compiler; what is shown is what they answer."""
    gpu = types.SimpleNamespace(name="a GPU", sm=sm)
    seen = {}
    monkeypatch.setattr(devices, "gpus", lambda: [gpu])
    monkeypatch.setattr(binaries, "compiled", lambda program, version: (seen.update(program=program) or "path", None))
    monkeypatch.setattr(harness, "trial", lambda program, path, gpu: {"bytes": 102400, "asked": "cudaErrorInvalidValue", "initialize": "Error Internal"})
    monkeypatch.setattr(optin, "decide", lambda sizes: seen.update(sizes=sizes))
    answer = launch(128, 256, 128, epilogue="scatter")
    assert answer.said == "a GPU: asked cudaErrorInvalidValue, initialize Error Internal."
    assert seen["program"] == harness.nvfp4(kernels.kernel(128, 256, 128, "scatter"), target, "yours") and seen["sizes"] == [102400]


def test_a_spec_is_asked_of_each_tuner_and_its_exception_is_left_for_the_debugger():
    answer = spec(**BUG)
    (tree, tuners), outcomes = libraries.tuners("0.6.6"), answer.values.set_index(["step", "tuner"])
    for name, tuner in tuners.items():
        found = autotuner.find(tuner, ((300, 256), (300,)), autotuner.config(tuner, (), ((2, 1),)))
        assert outcomes["outcome"]["look-up", name] == str(found), name
    frame = sys.last_traceback.tb_frame
    assert isinstance(sys.last_value, IndexError) and frame.f_code.co_filename.startswith(str(tree))
    assert "constraint_spec" in frame.f_locals and sys.last_value is outcomes["raised"]["look-up", "original"]
    text = answer.shown[-1].data
    assert text.startswith("Traceback") and text.endswith("IndexError: list index out of range") and str(tree) not in text


def test_a_spec_in_bounds_raises_nowhere():
    assert spec([(300, 256), (300,)], dynamic=(0, 0), constraint="[(1, 0)]").said == (
        "The look-up raises in: none of the tuners.\nThe warm-up raises in: none of the tuners.")


def test_a_pool_is_called_a_model_and_says_what_the_designs_do():
    answer = pool("Qwen3-30B-A3B", 4, context=32768)
    found = answer.values.set_index("design")
    assert "A model of ours" in answer.said and found["copies"].to_dict().keys() == {"copy", "relabel", "fold"}
    for design, row in found.to_dict("index").items():
        assert f"{design}: {100 * row['hit_rate']:.1f} % hits, {row['copies']:,} blocks copied" in answer.said
    assert found["copies"]["copy"] > 0 == found["copies"]["fold"]


def test_a_pool_that_holds_no_request_says_what_to_do():
    need = 131072 * designs.per_token("Qwen3-30B-A3B")
    assert "Give more gigabytes" in pool("Qwen3-30B-A3B", need / 1e9, context=131072).said


@pytest.mark.parametrize("sm", gates.SM)
def test_a_gate_says_what_the_library_answers_for_that_gpu(sm):
    answer, rows = gate(sm, "trtllm-gen", "nvfp4"), gates.flashinfer("0.6.6")[0]
    theirs = rows[(rows["SM"] == sm) & (rows["back end"] == "trtllm-gen") & rows["quantisation"].isin(["", "NVFP4"])]
    ours = answer.shown[0]
    assert ours[ours["gate"] == "FlashInfer 0.6.6"]["admitted"].tolist() == theirs["admitted"].tolist()
    assert f"{ours['admitted'].sum()} of {len(ours)} checks admit it" in answer.said
    assert ("0 in flashinfer-cubin" in answer.said) == (sm not in (100, 103))


def test_kernels_that_nobody_counted_are_not_called_none():
    assert "Kernels of it for SM120: not counted." in gate(120, "CuTe DSL, SM12x", "MXFP4 x MXFP8").said


@settings(deadline=None, max_examples=12)
@given(some.sampled_from([*models.facts()["models"]]), some.sampled_from(["bf16", "nvfp4-linear", "q8_0"]), some.integers(1, 2**20))
def test_a_model_fits_if_its_parts_do(model, recipe, context):
    spark = models.facts()["machine"]
    whole = models.weight_bytes(model, recipe) + models.cache_bytes(model, context) + models.working_bytes(model)
    answer = fits(model, recipe, context)
    assert answer.said.endswith(": it fits.") == (whole <= spark["memory"][spark["offered"]]["bytes"])
    assert answer.values[[*memory.PARTS]].sum(axis=1)[0] == pytest.approx(whole / 1e9) and f"{whole / 1e9:.1f} of a Spark's" in answer.said
