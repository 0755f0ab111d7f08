"""The attributes of machines, the predicates over them, and the measurements that need a GPU (which skip where there is none)."""

import contextlib
from types import SimpleNamespace

import pandas as pd
import pytest

from lib.bug2_kv_cache import blocks, designs, traces, transfer, unified
from lib.errors import CollectionError
from lib.instruments import devices, timing

gpu = pytest.mark.skipif(bool(timing.why_not()), reason=timing.why_not() or "there is a GPU")


def row(name):
    return next(each for each in unified.FACTS["machine"] if each["name"].startswith(name))


def predicate(project):
    return next(each for each in unified.FACTS["predicate"] if each["project"] == project)


def test_every_cell_has_a_value_a_way_and_a_link():
    cells = unified.readings()
    assert cells["value"].isin([0, 1]).all() and cells["how"].isin(("read", "derived")).all()
    assert cells["source"].str.startswith("https://").all() and not cells["source"].str.contains(" ").any()
    assert all(each["source"].startswith("https://") and each["cost"] for each in unified.FACTS["predicate"])


def test_what_is_not_recorded_stays_unknown_and_what_is_derived_says_so():
    table = unified.machines().set_index("machine")
    assert table.loc["RTX Spark, N1X (Windows)", "pageable_memory_access"] == unified.UNKNOWN
    assert table.loc["Jetson Orin", "pageable_memory_access"] == "0 (derived)"
    assert table.loc["DGX Spark, GB10 (Linux)", "integrated"] == "1"


def test_pageable_access_is_wrong_on_hmm_and_on_gh200_and_integrated_is_not():
    published, now = predicate("TensorRT-LLM 12301, as published"), predicate("TensorRT-LLM 12301, now")
    for name in ("RTX 5090", "GH200", "any discrete card from CC 7.5"):
        assert unified.judge(published, row(name)) == "wrong: says yes" and unified.judge(now, row(name)) == "right"
    assert unified.judge(published, row("DGX Spark")) == unified.judge(now, row("DGX Spark")) == "right"
    assert unified.judge(published, row("any discrete card, Linux without")) == "right"
    assert unified.judge(now, row("DGX Station")) == unified.UNKNOWN


def test_unified_addressing_is_wrong_on_every_second_memory():
    addressing = predicate("llama.cpp 17368")
    assert all((unified.judge(addressing, each) == "right") == each["one_memory"] for each in unified.FACTS["machine"])


def test_compute_capabilities_say_nothing_of_a_machine_without_one():
    assert unified.judge(predicate("vLLM before 35356"), row("any discrete card, Windows")) == unified.UNKNOWN
    assert unified.judge(predicate("vLLM before 35356"), row("Jetson Orin")) == "right"


def test_stale_blocks_on_other_memory_are_counted_alike(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(transfer, "buffer", lambda allocator, nbytes: contextlib.nullcontext(torch.zeros(nbytes, dtype=torch.uint8)))
    talk = traces.chat(users=8, turns=4, seed=2)
    table = transfer.stale(talk, blocks=12, words=16, allocators=("device",)).set_index("design")
    ledger = designs.survival(talk, *(torch.zeros(12, 16, dtype=torch.int64) for _ in range(2)), convert=torch.from_numpy).set_index("design")
    assert list(table["wrong"]) == list(ledger["wrong"]) and table.loc["skip", "wrong"] > 0 == table.loc[["copy", "relabel", "fold"], "wrong"].sum()


def test_what_others_measured_has_a_link_and_is_none_of_what_its_source_took_back():
    rows = pd.DataFrame(unified.FACTS["measured"])
    assert rows["link"].str.startswith("https://").all() and rows["access"].isin(["stream", "random"]).all()
    streams = {tuple(each) for each in rows[["cudaMalloc", "pinned", "managed"]].to_numpy()}
    assert (224, 200, 162) not in streams and (207, 191, 147) in streams


def test_this_machine_s_gpus_stand_before_the_recorded_ones(monkeypatch):
    here = SimpleNamespace(name="A GPU", capability=(12, 0), integrated=False, pageable_memory_access=True, host_page_tables=False,
                           concurrent_managed_access=True, unified_addressing=True)
    monkeypatch.setattr(devices, "gpus", lambda: [here])
    first = unified.machines().iloc[0]
    assert (first["machine"], first["one memory"], first["integrated"], first["pageable_memory_access"], first["host_native_atomic"]) == (
        "A GPU (here)", "?", "0", "1", "?")


def test_pageable_memory_is_given_back():
    address, free = transfer.allocate("pageable", 1 << 20)
    assert address
    free()


@gpu
def test_bandwidth_on_a_gpu():
    table = transfer.bandwidth(blocks=(1 << 20, 1 << 24), total=1 << 25)
    assert set(table["allocator"]) == set(transfer.ALLOCATORS) and (table["GB/s"] > 0).all() and (table["repeats"] >= 20).all()
    assert (table["GB/s, lower quartile"] <= table["GB/s"]).all() and (table["GB/s"] <= table["GB/s, upper quartile"]).all()


@gpu
def test_allocation_and_interference_on_a_gpu():
    table = transfer.allocation(sizes=(1 << 24,))
    assert (table[["allocate (ms)", "first offload (ms)", "second offload (ms)", "free (ms)"]] >= 0).all(axis=None)
    beside = transfer.interference()
    assert (beside["kernel alone (GB/s)"] > 0).all() and (beside["slowdown"].dropna() > 0.8).all()


@gpu
def test_no_buffer_takes_more_than_its_share_of_a_gpu():
    with pytest.raises(CollectionError, match="more than this measurement may take"), transfer.buffer("managed", transfer.limit() + (1 << 30)):
        pass


@gpu
def test_skipping_loses_blocks_in_gpu_memory():
    table = transfer.stale(traces.chat(users=20, turns=6, seed=1))
    by_design = table.groupby("design")["wrong"].agg(["min", "max"])
    assert by_design.loc["skip", "min"] > 0 == by_design.loc[[each for each in blocks.DESIGNS if each != "skip"], "max"].sum()
