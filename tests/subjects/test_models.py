"""The memory model: parameters and sizes as others publish them, rules that hold for every model, and what it refuses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from lib.errors import CollectionError
from lib.fit import explorer, llama_cpp
from lib.subjects import formats, models
from lib.subjects.models import GB

NAMES = sorted(models.facts()["models"])
RECIPES = sorted([*models.facts()["recipes"], *formats.MIXES])
# Billions of weights: llama-bench on a DGX Spark, llama.cpp's logs of a load, and the models' own cards.
PARAMETERS = {"MiniMax-M2.5": 228.69, "gpt-oss-120b": 116.83, "gpt-oss-20b": 20.91, "Qwen3-30B-A3B": 30.53, "Qwen3-235B-A22B": 235.09,
              "Qwen2.5-Coder-7B": 7.62, "Nemotron-3-Super-120B-A12B": 120.67, "Llama-3.3-70B": 70.55, "DeepSeek-R1": 671.03}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_model_has_as_many_weights_as_published(name):
    assert round(models.tensors(name)["elements"].sum() / 1e9, 2) == PARAMETERS[name]


def test_published_sizes_come_out():
    table = models.validation()
    error = table["error"].abs()
    assert len(table) >= 8 and table["model"].nunique() >= 8
    assert error.median() < 0.002 and error.max() < 0.01


def test_published_caches_come_out_to_the_mib():
    for each in models.facts()["caches"]:
        assert models.cache_bytes(each["model"], each["tokens"], each["element"]) == each["mib"] * models.MIB


def test_working_space_is_what_a_log_of_a_load_says():
    assert models.working_bytes("Qwen3-235B-A22B", 512) == 304.75 * models.MIB


def test_a_mix_gives_as_many_tensors_of_a_format_as_a_log_of_a_load_says():
    counts = models.stored("Llama-3.3-70B", "q4_k_m")["format"].value_counts()
    assert {form: int(counts[form]) for form in ("q4_k", "q5_k", "q6_k")} == {"q4_k": 441, "q5_k": 40, "q6_k": 81}


def test_m25_at_nvfp4_is_nowhere_near_the_account():
    sizes = {recipe: models.weight_bytes("MiniMax-M2.5", recipe) / GB for recipe in RECIPES if recipe.startswith("nvfp4")}
    assert 128 < min(sizes.values()) and max(sizes.values()) < 140 and sizes["nvfp4-linear"] == pytest.approx(130.5, abs=0.1)


@pytest.mark.parametrize("recipe, name, least, most", [
    ("ud-q3_k_xl", "MiniMax-M2.5", "q3_k_s", "q3_k_m"), ("ud-iq4_xs", "MiniMax-M2.5", "q3_k_s", "q4_k_s"),
    ("q4_k-bench", "Nemotron-3-Super-120B-A12B", "nvfp4-everything", "q6_k")])
def test_a_mix_of_a_published_size_lies_between_mixes_that_are_computed(recipe, name, least, most):
    """A total in GB for GiB, or of another file, would not."""
    assert models.weight_bytes(name, least) < models.weight_bytes(name, recipe) < models.weight_bytes(name, most)
    widest = models.stored(name, recipe)
    assert (8 * widest["bytes"] / widest["elements"])[widest["part"] == "experts"].between(2.6, 6.6).all()


@pytest.mark.parametrize("value, holds", [(100, True), (104.9, True), (95.1, True), (106, False), (94, False)])
def test_about_is_within_five_percent(value, holds):
    assert models.about(value, 100) is holds


@settings(deadline=None)
@given(name=some.sampled_from(NAMES), context=some.integers(0, 1 << 20), more=some.integers(1, 1 << 16))
def test_a_cache_grows_with_its_context_and_never_faster_than_in_proportion(name, context, more):
    empty, some_bytes, larger = (models.cache_bytes(name, tokens) for tokens in (0, context, context + more))
    assert empty <= some_bytes < larger
    assert (larger - some_bytes) <= more * (models.cache_bytes(name, 1) - empty)


@settings(deadline=None)
@given(name=some.sampled_from(NAMES), recipe=some.sampled_from(sorted(explorer.FORMATS)))
def test_a_recipe_covers_every_tensor_within_its_widest_and_narrowest_format(name, recipe):
    table = models.stored(name, recipe)
    assert not table["format"].isna().any() and (table["bytes"] > 0).all()
    narrow, wide = (choose(table["format"].map(formats.bits)) / 8 for choose in (min, max))
    assert narrow <= table["bytes"].sum() / table["elements"].sum() <= wide


@pytest.mark.parametrize("name", NAMES)
def test_a_token_reads_no_more_than_there_is(name):
    table = models.tensors(name)
    assert table["active"].between(0, 1).all() and (table["elements"] > 0).all()
    assert set(table["part"]) <= {"experts", "attention", "head", "embed", "other"}
    assert table["part"].eq("head").any()


@pytest.mark.parametrize("call", [lambda: models.tensors("GPT-9"), lambda: models.stored("gpt-oss-20b", "nvfp5"),
                                  lambda: models.cache_bytes("gpt-oss-20b", -1), lambda: models.cache_bytes("gpt-oss-20b", 1, -2.0)])
def test_what_cannot_be_is_refused_with_a_next_step(call):
    with pytest.raises(CollectionError) as refused:
        call()
    assert refused.value.next_step


def test_a_recipe_that_says_nothing_of_a_tensor_is_refused(monkeypatch):
    monkeypatch.setitem(models.facts()["recipes"], "half", {"says": "attention alone", "rules": [["attn", "bf16"]]})
    with pytest.raises(CollectionError, match="says nothing of .*expert.gate"):
        models.stored("gpt-oss-20b", "half")


def test_every_recorded_fact_has_a_link():
    facts = models.facts()
    rows = [*facts["models"].values(), *facts["machine"]["memory"], facts["native"]]
    rows += [each for part in ("published", "caches", "measured", "checkpoints") for each in facts[part]]
    assert all(each["source"].startswith("https://") for each in rows)
    assert all(each["source"].startswith("https://") for each in facts["machine"]["compute"][1:])


def test_our_formats_are_llama_cpps():
    theirs = llama_cpp.block_sizes(llama_cpp.source("0.3.17"))
    both = [form for form in formats.BLOCKS if form in theirs]
    assert len(both) >= 20 and {"nvfp4", "mxfp4", "q3_k"} <= set(both)
    assert all(formats.bits(form) == 8 * theirs[form][1] / theirs[form][0] for form in both)
