"""The two roofs: rules that hold for every model and batch, what is refused, and measurements that must stay below."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some

from lib.errors import CollectionError
from lib.fit import llama_cpp, roofline
from lib.subjects import models

BANDWIDTH, PEAK = 273e9, 427e12
NAMES = sorted(models.facts()["models"])
names, batches = some.sampled_from(NAMES), some.integers(1, 4096)


@pytest.fixture(scope="module")
def tree():
    return llama_cpp.source("0.3.17")


def measured(tree):
    return llama_cpp.measured(tree, models.facts()["benches"])


@settings(deadline=None)
@given(top_k=some.integers(1, 512), experts=some.integers(1, 512), tokens=some.integers(1, 10_000))
def test_the_share_of_experts_lies_between_alike_and_all(top_k, experts, tokens):
    assume(top_k <= experts)
    share = roofline.routed(top_k, experts, tokens)
    assert roofline.routed(top_k, experts, tokens, alike=True) <= share * (1 + 1e-12) and share <= 1
    assert roofline.routed(top_k, experts, 1) == pytest.approx(top_k / experts)
    assert share <= roofline.routed(top_k, experts, tokens + 1) * (1 + 1e-12)


@pytest.mark.parametrize("top_k, experts, tokens", [(0, 8, 1), (9, 8, 1), (2, 8, 0), (-1, 8, 1)])
def test_routing_that_cannot_be_is_refused(top_k, experts, tokens):
    with pytest.raises(CollectionError, match="cannot be"):
        roofline.routed(top_k, experts, tokens)


@settings(deadline=None)
@given(name=names, batch=batches, context=some.integers(0, 1 << 17))
def test_a_step_reads_no_more_than_weights_and_caches_and_more_with_every_token(name, batch, context):
    read = roofline.step_bytes(name, "bf16", batch, batch, context)
    embedding = batch * 2 * models.config(name)["hidden"]
    assert read.sum() <= models.weight_bytes(name, "bf16") + batch * models.cache_bytes(name, context) + embedding
    assert read.sum() < roofline.step_bytes(name, "bf16", batch + 1, batch + 1, context).sum()


@settings(deadline=None)
@given(name=names, batch=batches)
def test_the_bound_is_the_lower_roof(name, batch):
    found = roofline.decode(name, "bf16", BANDWIDTH, PEAK, batch)
    assert found["tokens_per_s"] == pytest.approx(min(batch / found["memory_s"], batch / found["compute_s"]))
    assert roofline.decode(name, "bf16", BANDWIDTH, PEAK, batch, machines=2)["tokens_per_s"] == pytest.approx(2 * found["tokens_per_s"])
    assert found["tokens_per_s"] <= roofline.decode(name, "bf16", BANDWIDTH, PEAK, batch, alike=True)["tokens_per_s"] * (1 + 1e-12)


@pytest.mark.parametrize("name", ["MiniMax-M2.5", "Llama-3.3-70B", "gpt-oss-120b"])
def test_the_crossing_is_the_first_step_that_arithmetic_limits(name):
    at = roofline.crossing(name, "nvfp4-linear", BANDWIDTH, PEAK)
    assert roofline.decode(name, "nvfp4-linear", BANDWIDTH, PEAK, at)["roof"] == "compute"
    assert roofline.decode(name, "nvfp4-linear", BANDWIDTH, PEAK, at - 1)["roof"] == "memory"
    assert roofline.crossing(name, "nvfp4-linear", BANDWIDTH, 1e30) is None


def test_a_dense_model_reads_all_but_its_embedding():
    table = models.stored("Llama-3.3-70B", "bf16").set_index("tensor")["bytes"]
    read = roofline.step_bytes("Llama-3.3-70B", "bf16").sum()
    assert read == pytest.approx(table.sum() - table["embed"], rel=1e-6)


def test_decode_is_bound_by_memory_whatever_the_format():
    recipes = ["nvfp4-linear", "nvfp4-experts", "ud-q3_k_xl", "fp8-block"]
    found = {recipe: roofline.decode("MiniMax-M2.5", recipe, BANDWIDTH, PEAK) for recipe in recipes}
    assert all(each["compute_s"] < each["memory_s"] / 100 for each in found.values())
    speed = {recipe: each["tokens_per_s"] for recipe, each in found.items()}
    assert speed["nvfp4-linear"] < speed["ud-q3_k_xl"] and speed["nvfp4-experts"] < speed["nvfp4-linear"]


def test_measurements_of_one_sequence_stay_below_their_bound(tree):
    held = roofline.shares(measured(tree) + models.facts()["measured"], BANDWIDTH, PEAK)
    single = held[(held["kind"] == "decode") & (held["batch"] == 1)]
    assert len(single) >= 40 and single["share"].max() < 1 and single["share"].median() > 0.5
    spread = single[single["what"] == "llama-bench"].groupby("model")["share"].agg(lambda share: share.max() - share.min())
    assert len(spread) == 5 and spread.max() < 0.05


def test_llama_cpps_report_is_read_as_it_stands(tree):
    rows = measured(tree)
    alone = [row for row in rows if row["model"] == "gpt-oss-120b" and row["what"] == "llama-bench" and row["kind"] == "decode"]
    read = {row["context"]: row["tokens_per_s"] for row in alone}
    assert read == {0: 58.72, 4096: 55.67, 8192: 52.87, 16384: 49.45, 32768: 42.76}
    assert {(row["gib"], row["billions"]) for row in alone} == {(59.02, 116.83)}
    together = [row for row in rows if row["model"] == "gpt-oss-120b" and row["batch"] == 32]
    assert [row["context"] for row in together] == [544, 4128, 8224]


def test_llama_cpps_rules_are_found(tree):
    assert llama_cpp.rules(tree) == {"columns": 8, "columns_experts": 4, "group": 4, "cached": 8192}


@pytest.mark.parametrize("ask", [llama_cpp.block_sizes, llama_cpp.rules, measured])
def test_a_tree_that_is_not_llama_cpp_is_refused(tmp_path, ask):
    with pytest.raises(CollectionError, match="has no"):
        ask(tmp_path)


def test_a_rule_that_changed_is_refused(tmp_path):
    file = tmp_path / llama_cpp.CUDA / "mmvq.cuh"
    file.parent.mkdir(parents=True)
    file.write_text("#define SOMETHING_ELSE 8")
    with pytest.raises(CollectionError, match="mmvq.cuh does not say .*MMVQ_MAX_BATCH_SIZE"):
        llama_cpp.rules(tmp_path)


def test_what_each_spark_needs_is_weights_and_cache_shared_and_working_space_of_its_own():
    one, two = (roofline.needed("MiniMax-M2.5", "nvfp4-linear", 32768, machines)["each Spark needs (GB)"] for machines in (1, 2))
    assert one - two == pytest.approx((one - models.working_bytes("MiniMax-M2.5") / models.GB) / 2)


def test_how_much_was_cached_counts_as_stated_unless_a_measurement_says_otherwise():
    held = roofline.shares(models.facts()["measured"], BANDWIDTH, PEAK).set_index("what")["stated"]
    assert not held.all() and not held[[what for what in held.index if "131,000" in what]].any()
