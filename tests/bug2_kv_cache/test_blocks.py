"""Our model of the block manager, its storage, the sizes it works with, and the study of its designs."""

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as some

from lib.bug2_kv_cache import blocks, designs, storage, traces
from lib.errors import CollectionError
from lib.subjects import formats, models

SAFE = ("copy", "relabel", "fold")


class Ledger:
    """A store that only keeps in mind which key's contents each slot holds."""

    def __init__(self, slots):
        self.slots = [None] * slots

    def write(self, slot, key):
        self.slots[slot] = key

    def copy(self, source, target):
        self.slots[target] = self.slots[source]

    def holds(self, slot, key):
        return self.slots[slot] == key


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
    counts = blocks.replay(trace, primary, secondary, design, batch, Ledger(primary + secondary))
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
    trace = find(loads(), lambda trace: blocks.replay(trace, 2, 2, "skip", 1, Ledger(4)).wrong > 0, settings=search)
    assert blocks.replay(trace, 2, 2, "copy", 1, Ledger(4)).wrong == 0


def test_the_smallest_wrong_block_by_hand():
    ask = [traces.Request(now, traces.BLOCK, 0, (block,)) for now, block in enumerate((1, 2, 1))]
    assert blocks.replay(ask, 1, 1, "skip", store=Ledger(2)).wrong == 1
    copied = blocks.replay(ask, 1, 1, "copy", store=Ledger(2))
    assert (copied.wrong, copied.hits, copied.offloads, copied.onboards, copied.misses) == (0, 1, 1, 1, 2)
    relabelled = blocks.replay(ask, 1, 1, "relabel", store=Ledger(2))
    assert (relabelled.wrong, relabelled.onboards, relabelled.copies) == (0, 1, 0)


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
        counts = blocks.replay(trace, room, secondary, design, batch, Ledger(room + secondary))
        assert (counts.offloads, counts.onboards, counts.copies, counts.dropped, counts.refused, counts.wrong) == (0, 0, 0, 0, 0, 0)


def test_an_unknown_design_is_an_error():
    with pytest.raises(CollectionError, match="unknown design 'swap'"):
        blocks.replay([], 4, 4, "swap")


def test_a_sequence_larger_than_the_pool_is_refused_and_the_rest_served():
    small, large = traces.Request(0, traces.BLOCK, 0, (1,)), traces.Request(1, 9 * traces.BLOCK, 0, tuple(range(2, 11)))
    counts = blocks.replay([small, large, small], 4, 4)
    assert (counts.refused, counts.requests, counts.hits, counts.misses) == (1, 2, 1, 1)


def test_bytes_per_token_of_known_models():
    known = {"MiniMax-M2.5": 253_952, "Qwen3-30B-A3B": 98_304, "Llama-3.3-70B": 327_680, "DeepSeek-R1": 70_272}
    assert {name: designs.per_token(name) for name in known} == known
    assert models.cache_bytes("MiniMax-M2.5", 196_608) / 2 / 2**30 == 23.25  # vLLM's figure for each of two: eugr/spark-vllm-docker issue 396


def test_windows_and_recurrent_layers_do_not_grow():
    half = models.config("gpt-oss-120b")["layers"] // 2
    assert designs.per_token("gpt-oss-120b") == half * 2 * 8 * 64 * 2
    assert designs.per_token("Nemotron-3-Nano-30B-A3B") == models.config("Nemotron-3-Nano-30B-A3B")["pattern"].count("*") * 2 * 2 * 128 * 2


@pytest.mark.parametrize("name", models.facts()["models"])
def test_every_model_that_is_recorded_can_be_studied(name):
    table = designs.compare(traces.agents(4, 3), name, 16e9).set_index("design")
    assert table["requests"].gt(0).all() and table["share"].between(0, 1).all()
    weights = designs.weights_per_step(name)
    assert 0 < weights <= models.tensors(name)["elements"].sum() * formats.bits("nvfp4") / 8
    active = models.tensors(name).eval("elements * active").sum()
    assert weights == pytest.approx(active * formats.bits("nvfp4") / 8, rel=0.03)


def test_an_unknown_model_is_an_error():
    with pytest.raises(CollectionError, match="no model 'GPT-2' is recorded.*\n.*gpt-oss-120b"):
        designs.per_token("GPT-2")


def test_pools_that_hold_no_block_serve_nothing_and_have_no_share():
    table = designs.compare(traces.chat(users=2, turns=2), "Qwen3-30B-A3B", 1e6)
    assert (table["requests"] == 0).all() and (table["refused"] == 4).all() and table["share"].isna().all()


def test_only_two_mappings_of_one_memory_share_pages():
    for _, row in storage.shared(storage.arrangements(8)).iterrows():
        same = 8 if row["arrangement"] == "one memory, mapped twice" else 0
        assert row["slots written through"] == same
        assert row["pages in both pools"] == (same if row["pages seen"] else 0)


def test_survival_counts_what_the_ledger_counts():
    talk, pools = traces.chat(users=10, turns=5, seed=3), (np.zeros((20, 4), np.int64), np.zeros((20, 4), np.int64))
    table = designs.survival(talk, *pools).set_index("design")
    for design in blocks.DESIGNS:
        counts = blocks.replay(talk, 20, 20, design, 2, Ledger(40))
        assert tuple(table.loc[design, ["hits", "copies", "wrong"]]) == (counts.hits, counts.copies, counts.wrong)


def test_compare_gives_each_design_the_same_requests_and_bytes():
    table = designs.compare(traces.agents(6, 4), "Qwen3-30B-A3B", 8e9).set_index("design")
    assert table["requests"].nunique() == table["blocks"].nunique() == table["decode_seconds"].nunique() == 1
    assert table.loc["fold", "refused"] <= table.loc["copy", "refused"]
    copies = table.loc["copy"]
    assert copies["bytes_copied"] == copies["copies"] * 98_304 * traces.BLOCK and copies["seconds"] == 2 * copies["bytes_copied"] / 273e9
    assert table.loc["relabel", "copies"] == table.loc["fold", "copies"] == 0
