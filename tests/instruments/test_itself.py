"""The sections *In TensorRT-LLM itself*: what they state of what a stand-in answered, and that other answers change it."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lib.instruments import devices, probes
from tests.instruments.test_probes import ask

GB10 = SimpleNamespace(name="GB10", sm=121, capability=(12, 1), integrated=True, pageable_memory_access=True)
H100 = SimpleNamespace(name="H100", sm=90, capability=(9, 0), integrated=False, pageable_memory_access=False)


NOTEBOOKS = {name[:2]: name for name in ("01-shared-memory", "02-kv-cache", "03-moe-gate", "04-autotuner", "05-attention-kernels")}


@pytest.fixture
def spark(request, cells, monkeypatch):
    """A GB10 instead of no GPU, once the notebook has run as it runs here."""
    cells(NOTEBOOKS[request.node.get_closest_marker("xdist_group").args[0]])
    monkeypatch.setattr(devices, "gpus", lambda: [GB10])


def group(number):
    return pytest.mark.xdist_group(number)


@pytest.mark.parametrize("name", [pytest.param(name, marks=group(number)) for number, name in NOTEBOOKS.items()])
def test_where_nothing_runs_one_line_says_why_and_nothing_is_stated(cells, name):
    if devices.gpus():
        pytest.skip("a GPU is here")
    after = cells(name).after[-1]
    assert "No CUDA GPU here" in after["ended"] and after["probed"].empty
    assert not any("in-tensorrt-llm" in id for id in after["bug"].findings)


def stated(cells, name, id, probed, **more):
    return cells(name).again(id, probed=probed, ended="Probe ran through.", **more)


def verdict(finding):
    return finding.verdict, finding.tier, [part["holds"] for part in finding.parts]


@group("01")
def test_tactics_that_fail_are_counted_and_their_messages_judged(cells, spark, monkeypatch):
    probed, _ = ask(1)
    found = stated(cells, "01-shared-memory", "fp4-gemm.in-tensorrt-llm", probed)
    assert verdict(found) == ("confirmed", "sm12x", [True, True]) and found.claim == "1f"
    assert "of 16 tactics of TensorRT-LLM's NVFP4 operators 6 fail, and 0 outputs" in found.summary
    clear = probed.assign(message=probed["message"].str.replace("Error Internal", "needs 131072 bytes of shared memory"))
    assert verdict(stated(cells, "01-shared-memory", "fp4-gemm.in-tensorrt-llm", clear)) == ("refuted", "sm12x", [False, False])
    none = probed[probed["status"] == "ok"].assign(error=1.0)
    found = stated(cells, "01-shared-memory", "fp4-gemm.in-tensorrt-llm", none)
    assert found.verdict == "untested" and "0 fail" in found.summary and "and 0 outputs" not in found.summary
    monkeypatch.setattr(devices, "gpus", lambda: [H100])
    assert stated(cells, "01-shared-memory", "fp4-gemm.in-tensorrt-llm", probed).verdict is None


@group("02")
def test_pools_are_judged_by_what_moved_and_what_was_removed(cells, spark):
    probed, _ = ask(2)

    def state(changed, gpu=GB10):
        return stated(cells, "02-kv-cache", "kv.in-tensorrt-llm", changed, gpus=[gpu])
    found = state(probed)
    assert verdict(found) == ("confirmed", "sm12x", [True, True]) and found.summary.endswith("the tokens stay the same.")
    assert verdict(state(probed.assign(removed=3)))[0] == "refined"
    assert verdict(state(probed.assign(removed=3, onboarded=1)))[0] == "refuted"
    assert state(probed.assign(**{"as with one pool": False})).summary.endswith("the tokens change.")
    assert state(probed, H100).verdict is None


@group("03")
def test_layers_through_back_ends(cells, spark):
    probed = pd.concat([ask(3, sm=121)[0].assign(patch="as installed"), ask(3, sm=100)[0].assign(patch="published")], ignore_index=True)

    def state(id, changed):
        return stated(cells, "03-moe-gate", id, changed)
    assert verdict(state("moe-gate.in-tensorrt-llm", probed)) == ("confirmed", "sm12x", [True, True])
    assert verdict(state("moe-gate.cutlass-in-tensorrt-llm", probed)) == ("refuted", "sm12x", [False])
    assert verdict(state("moe-gate.in-tensorrt-llm", probed.assign(error=1.0))) == ("refined", "sm12x", [True, False])
    assert verdict(state("moe-gate.cutlass-in-tensorrt-llm", probed.assign(error=1.0)))[0] == "confirmed"
    failed = probed.assign(status="error")
    assert verdict(state("moe-gate.in-tensorrt-llm", failed)) == ("refuted", "sm12x", [False, False])


@group("04")
def test_operators_under_the_tuner(cells, spark):
    shipped, mended = ask(4, sm=121)[0].assign(patch="as installed"), ask(4, sm=100)[0].assign(patch="published")
    probed = pd.concat([shipped, mended], ignore_index=True)

    def state(id, changed):
        return stated(cells, "04-autotuner", id, changed)
    found = state("autotuner.in-tensorrt-llm", probed)
    assert verdict(found) == ("confirmed", "sm12x", [True]) and found.claim == "4a" and "6 of 9 calls" in found.summary
    assert verdict(state("autotuner.skipping-in-tensorrt-llm", probed)) == ("confirmed", "sm12x", [True, True])
    still = pd.concat([shipped, shipped[shipped["step"] == "warm-up"].assign(patch="published")], ignore_index=True)
    assert verdict(state("autotuner.skipping-in-tensorrt-llm", still)) == ("refined", "sm12x", [True, False])
    fine = mended.assign(patch="as installed")
    found = state("autotuner.in-tensorrt-llm", fine)
    assert verdict(found)[0] == "refuted" and "under the published patch nothing was asked" in found.summary


@group("05")
def test_families_of_attention_kernels(cells, spark):
    probed, _ = ask(5)

    def state(changed):
        return stated(cells, "05-attention-kernels", "attention.in-tensorrt-llm", changed)
    found = state(probed)
    assert verdict(found) == ("refined", "sm12x", [True, False])
    assert "context phase runs FMHA v2, and its generation phase XQA." in found.summary
    both = probed.assign(family=probed["family"].replace("XQA", "FMHA v2"))
    assert verdict(state(both))[0] == "confirmed"
    other = probed.assign(family=probed["family"].replace("FMHA v2", "trtllm-gen"))
    assert verdict(state(other))[0] == "refuted"


def test_a_probe_that_died_at_once_states_nothing():
    table, _ = probes.ask(1, python="no/such/python")
    assert table.empty and list(table) == list(probes.FIELDS)
