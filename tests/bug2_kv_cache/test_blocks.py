"""The block manager, its storage, the sizes it works with, the study of its designs, and what notebook 02 found with them."""

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as some

from lib.bug2_kv_cache import blocks, designs, kv_bytes, storage, traces
from lib.errors import CollectionError
from lib.subjects import patches

SAFE = ("copy", "relabel", "fold")


@some.composite
def loads(draw):
    """A trace in which equal ids are equal prefixes: every request continues, branches off, or repeats one before it."""
    chains, trace, fresh = [()], [], iter(range(10_000))
    for now in range(draw(some.integers(1, 30))):
        before = draw(some.sampled_from(chains))
        chain = before[:draw(some.integers(0, len(before)))] + tuple(next(fresh) for _ in range(draw(some.integers(0, 3))))
        if not chain:
            continue
        chains.append(chain)
        output = draw(some.integers(0, 2 * traces.BLOCK))
        trace.append(traces.Request(now, len(chain) * traces.BLOCK - draw(some.integers(0, traces.BLOCK - 1)), output, chain))
    return trace


def owners(manager):
    """Every slot of a manager, in order, from all three places where a block can be."""
    return sorted([*manager.primary.values(), *manager.secondary.values(), *(slot for slot, _ in manager.held.values())])


@given(loads(), some.integers(1, 12), some.integers(0, 12), some.integers(1, 4), some.sampled_from(SAFE))
@settings(max_examples=300, deadline=None)
def test_no_hit_returns_a_wrong_block(trace, primary, secondary, batch, design):
    counts = blocks.replay(trace, primary, secondary, design, batch, storage.Ledger(primary + secondary))
    assert counts.wrong == 0
    assert counts.requests + counts.refused == len(trace)
    assert counts.copies == (counts.offloads + counts.onboards if design == "copy" else 0)


@given(loads(), some.integers(1, 8), some.integers(0, 8), some.sampled_from(SAFE))
@settings(max_examples=60, deadline=None)
def test_no_hit_returns_wrong_contents_in_real_memory(trace, primary, secondary, design):
    pools = np.zeros((primary, 8), np.int64), np.zeros((secondary, 8), np.int64)
    assert blocks.replay(trace, primary, secondary, design, 2, storage.Blocks(*pools)).wrong == 0


def test_skipping_can_return_a_wrong_block():
    search = settings(max_examples=2000, database=None, deadline=None, phases=[Phase.generate])
    trace = find(loads(), lambda trace: blocks.replay(trace, 2, 2, "skip", 1, storage.Ledger(4)).wrong > 0, settings=search)
    assert blocks.replay(trace, 2, 2, "copy", 1, storage.Ledger(4)).wrong == 0


def test_the_smallest_wrong_block_by_hand():
    ask = [traces.Request(now, traces.BLOCK, 0, (block,)) for now, block in enumerate((1, 2, 1))]
    assert blocks.replay(ask, 1, 1, "skip", store=storage.Ledger(2)).wrong == 1
    copied = blocks.replay(ask, 1, 1, "copy", store=storage.Ledger(2))
    assert (copied.wrong, copied.hits_secondary, copied.offloads, copied.onboards, copied.misses) == (0, 1, 1, 1, 2)
    relabelled = blocks.replay(ask, 1, 1, "relabel", store=storage.Ledger(2))
    assert (relabelled.wrong, relabelled.hits_secondary, relabelled.copies) == (0, 1, 0)


def test_the_end_of_a_sequence_is_evicted_before_its_prefix():
    ask = [traces.Request(now, len(chain) * traces.BLOCK, 0, chain) for now, chain in enumerate(((1, 2, 3), (4,), (1, 2)))]
    counts = blocks.replay(ask, 3)
    assert (counts.hits, counts.misses, counts.dropped) == (2, 4, 1)


@given(loads(), some.integers(1, 10), some.integers(0, 10), some.sampled_from(blocks.DESIGNS))
@settings(max_examples=150, deadline=None)
def test_no_slot_is_lost_or_held_twice(trace, primary, secondary, design):
    manager = blocks.BlockManager(primary, secondary, design)
    for request in trace:
        if request.blocks <= manager.size:
            keys = manager.claim(request.hash_ids, request.generated)
            assert owners(manager) == list(range(primary + secondary))
            manager.release(keys)
            assert owners(manager) == list(range(primary + secondary)) and not manager.held


@given(loads(), some.integers(1, 12), some.integers(0, 12))
@settings(max_examples=100, deadline=None)
def test_relabelling_hits_as_copying_does(trace, primary, secondary):
    copied, relabelled = (blocks.replay(trace, primary, secondary, design) for design in ("copy", "relabel"))
    assert all(getattr(copied, name) == getattr(relabelled, name) for name in ("hits", "misses", "offloads", "onboards", "dropped", "refused"))


@given(loads(), some.integers(1, 20), some.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_with_room_for_all_no_design_moves_or_drops_a_block(trace, secondary, batch):
    room = sum(request.blocks for request in trace) + 1
    for design in blocks.DESIGNS:
        counts = blocks.replay(trace, room, secondary, design, batch, storage.Ledger(room + secondary))
        assert (counts.offloads, counts.onboards, counts.copies, counts.dropped, counts.refused, counts.wrong) == (0, 0, 0, 0, 0, 0)


def test_a_pool_of_no_blocks_and_an_unknown_design_are_errors():
    with pytest.raises(CollectionError, match="0 primary"):
        blocks.BlockManager(0, 4)
    with pytest.raises(CollectionError, match="-1 secondary"):
        blocks.BlockManager(4, -1)
    with pytest.raises(CollectionError, match="unknown design 'swap'"):
        blocks.replay([], 4, 4, "swap")


def test_a_sequence_larger_than_the_pool_is_refused_and_the_rest_served():
    small, large = traces.Request(0, traces.BLOCK, 0, (1,)), traces.Request(1, 9 * traces.BLOCK, 0, tuple(range(2, 11)))
    counts = blocks.replay([small, large, small], 4, 4)
    assert (counts.refused, counts.requests, counts.hits, counts.misses) == (1, 2, 1, 1)


def test_bytes_per_token_of_known_models():
    known = {"MiniMax-M2.5": 253_952, "Qwen3-30B-A3B": 98_304, "Llama-3.1-8B": 131_072, "DeepSeek-R1": 70_272}
    assert {name: kv_bytes.per_token(config) for name, config in kv_bytes.models().items()} == known
    minimax = kv_bytes.model("MiniMax-M2.5")
    assert kv_bytes.per_token(minimax) * 196_608 / 2 / 2**30 == 23.25  # vLLM's figure for each of two: eugr/spark-vllm-docker issue 396
    assert kv_bytes.per_token(minimax, "fp8") * 2 == kv_bytes.per_token(minimax)


def test_layers_without_a_cache_do_not_count():
    config = {"text_config": {"layer_types": ["linear_attention", "full_attention", "sliding_attention"], "num_key_value_heads": 2, "head_dim": 64}}
    assert kv_bytes.per_token(config) == 2 * 2 * 2 * 64 * 2


@pytest.mark.parametrize("missing", ["num_hidden_layers", "num_key_value_heads", "head_dim"])
def test_a_configuration_that_lacks_a_field_is_an_error_that_names_it(missing):
    config = {"num_hidden_layers": 2, "num_key_value_heads": 4, "head_dim": 64}
    config.pop(missing)
    with pytest.raises(CollectionError, match="hidden_size" if missing == "head_dim" else missing):
        kv_bytes.per_token(config)


def test_unknown_models_and_types_and_blocks_that_do_not_fit_are_errors():
    with pytest.raises(CollectionError, match="no configuration of a model 'GPT-2'"):
        kv_bytes.model("GPT-2")
    with pytest.raises(CollectionError, match="unknown type 'int3'"):
        kv_bytes.per_token(kv_bytes.model("Qwen3-30B-A3B"), "int3")
    with pytest.raises(CollectionError, match="larger than the pool"):
        designs.compare(traces.chat(users=2, turns=2), kv_bytes.model("Qwen3-30B-A3B"), 1e6)


def test_only_two_mappings_of_one_memory_share_pages():
    layouts = storage.arrangements(8)
    for name, (primary, secondary) in layouts.items():
        primary[:], secondary[:] = 1, 2
        assert (primary == 2).all() == (name == "one memory, mapped twice")
        seen = storage.frames(primary), storage.frames(secondary)
        if all(seen):
            assert len(set(seen[0]) & set(seen[1])) == (8 if name == "one memory, mapped twice" else 0)


def test_survival_counts_what_the_ledger_counts():
    talk, pools = traces.chat(users=10, turns=5, seed=3), (np.zeros((20, 4), np.int64), np.zeros((20, 4), np.int64))
    table = designs.survival(talk, *pools).set_index("design")
    for design in blocks.DESIGNS:
        counts = blocks.replay(talk, 20, 20, design, 2, storage.Ledger(40))
        assert tuple(table.loc[design, ["hits", "copies", "wrong"]]) == (counts.hits, counts.copies, counts.wrong)


def test_compare_gives_each_design_the_same_requests_and_bytes():
    table = designs.compare(traces.agents(6, 4), kv_bytes.model("Qwen3-30B-A3B"), 8e9).set_index("design")
    assert table["requests"].nunique() == table["blocks"].nunique() == table["decode_seconds"].nunique() == 1
    assert table.loc["fold", "refused"] <= table.loc["copy", "refused"]
    copies = table.loc["copy"]
    assert copies["bytes_copied"] == copies["copies"] * 98_304 * traces.BLOCK and copies["seconds"] == 2 * copies["bytes_copied"] / 273e9
    assert table.loc["relabel", "copies"] == table.loc["fold", "copies"] == 0


@pytest.mark.parametrize("kind", ["published", "revised"])
def test_patches_apply_and_revert(kind, tmp_path):
    patch = patches.Patch(f"02-kv-cache.{kind}.tensorrt-llm.diff")
    for name in patch.files:
        lines = []
        for change in (each for each in patch.changes if each.file == name):
            lines += ["// between"] * (change.starts[0] - len(lines)) + list(change.old)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    before = {name: (tmp_path / name).read_text() for name in patch.files}
    assert patch.state(tmp_path) == patches.READY
    patch.apply(tmp_path)
    assert patch.state(tmp_path) == patches.APPLIED
    patch.revert(tmp_path)
    assert before == {name: (tmp_path / name).read_text() for name in patch.files}


def test_the_published_patch_skips_three_copies_and_the_revised_one_none():
    published, revised = (patches.Patch(f"02-kv-cache.{kind}.tensorrt-llm.diff").text for kind in ("published", "revised"))
    assert published.count("+            mTransferManager->") == 3 and "PageableMemoryAccess" in published
    assert "mTransferManager" not in revised and "cudaDevAttrIntegrated" in revised and "static bool" not in revised


def test_the_experiment_lost_blocks_only_where_copies_are_skipped(findings):
    rows = findings["kv.skip"]["values"]["survived"]
    two = {row["design"]: row["wrong"] for row in rows if row["arrangement"] == "two allocations"}
    assert two["skip"] > 0 and two["copy"] == two["relabel"] == two["fold"] == 0
    assert all(row["wrong"] > 0 for row in rows if row["design"] == "skip")
    assert findings["kv.skip"]["verdict"] == findings["kv.addresses"]["verdict"] == "refuted"


def test_the_pools_share_no_page(findings):
    rows = {row["arrangement"]: row for row in findings["kv.addresses"]["values"]["addresses"]}
    assert rows["two allocations"]["pages in both pools"] == 0
    twice = rows["one memory, mapped twice"]
    assert twice["pages in both pools"] == twice["pages seen"]


def test_the_tier_does_nothing_where_all_fits_and_little_elsewhere(findings):
    rows = findings["kv.competition"]["values"]["grid"]
    shares = {(row["context"], row["pool_bytes"]): row["share"] for row in rows}
    assert shares[8192, 96e9] == 0 < shares[131072, 32e9] < 0.01
    by_answer = [row["share"] for row in sorted(findings["kv.competition"]["values"]["answers"], key=lambda row: row["answer"])]
    assert by_answer == sorted(by_answer, reverse=True) and by_answer[0] > 1


def test_folding_ends_copies_but_not_eviction(findings):
    rows = findings["kv.fold"]["values"]["loads"]
    folded, copied = ([row for row in rows if row["design"] == design] for design in ("fold", "copy"))
    assert sum(row["copies"] for row in folded) == 0 < sum(row["copies"] for row in copied)
    assert 0 < sum(row["dropped"] for row in folded) < sum(row["dropped"] for row in copied)
    assert all(one["refused"] <= other["refused"] for one, other in zip(folded, copied))


def test_each_claim_has_a_finding_at_an_honest_tier(findings):
    mine = [finding for finding in findings.values() if finding["notebook"] == "02-kv-cache"]
    assert {finding["claim"] for finding in mine} >= {"2a", "2b", "2c", "2d", "2e", "2f"}
    for finding in mine:
        assert finding["tier"] in ("gpu", "sm12x") or finding["id"] not in ("kv.skip-gpu", "kv.allocation", "kv.interference", "kv.predicate-here")
    paths = findings["kv.survivors"]["values"]["paths"]
    assert [row["wrong blocks"] > 0 for row in paths if row["patch"] == "published"] == [False, True]
    assert all(row["wrong blocks"] == 0 for row in paths if row["patch"] == "revised")
