"""Notebook 02: what it found, and that each verdict follows its data; its GPU cells on what GPUs answered."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lib.instruments import devices
from lib.report import record
from tests.cells import parts
from tests.conftest import ROOT

pytestmark = pytest.mark.xdist_group("02")
NAME = "02-kv-cache"


def test_each_claim_is_spoken_to_and_no_count_of_our_model_is_more_than_modelled(findings):
    mine = {id: finding for id, finding in findings.items() if finding["notebook"] == NAME}
    assert {finding["claim"] for finding in mine.values()} >= {"2a", "2b", "2c", "2d", "2e", "2f"}
    assert all(mine[id]["tier"] == "modelled" for id in ("kv.addresses", "kv.skip", "kv.safe", "kv.fold", "kv.competition", "kv.budget"))
    assert mine["kv.survivors"]["tier"] in ("modelled", "reported") and mine["kv.predicate"]["tier"] == "reported"


def test_the_numbers_are_those_that_were_measured(findings):
    of = {id: finding["values"] for id, finding in findings.items()}
    two = {row["design"]: row["wrong"] for row in of["kv.skip"]["survived"] if row["arrangement"] == "two allocations"}
    assert two == {"skip": 55, "copy": 0, "relabel": 0, "fold": 0}
    assert all(row["wrong"] > 0 for row in of["kv.skip"]["survived"] if row["design"] == "skip")
    assert {each["project"]: each["wrong on"] for each in of["kv.predicate"]["predicates"]}["TensorRT-LLM 12301, as published"] == 5
    assert (of["kv.fold"]["copies_two"], of["kv.fold"]["refused_two"], of["kv.fold"]["refused_folded"]) == (204_875, 1_247, 244)
    shares = {(row["context"], row["pool_bytes"]): row["share"] for row in of["kv.competition"]["grid"]}
    assert shares[8192, 96e9] == 0 < shares[131072, 32e9] < 0.01
    by_answer = [row["share"] for row in sorted(of["kv.competition"]["answers"], key=lambda row: row["answer"])]
    assert by_answer == sorted(by_answer, reverse=True) and by_answer[0] > 1
    routes = of["kv.survivors"]["paths"]
    assert [row["wrong blocks"] > 0 for row in routes if row["patch"] == "published"] == [False, True]
    assert all(row["wrong blocks"] == 0 for row in routes if row["patch"] == "revised")


def test_2a_follows_the_memory_that_the_pools_share(notebook):
    assert notebook.found("kv.addresses").verdict == "refuted"
    same = notebook.again("kv.addresses", addresses=lambda rows: rows.assign(**{"slots written through": rows["blocks"]}))
    assert same.verdict == "confirmed" and "share 40 of 40 slots, so a copy between them goes from a block to itself" in same.summary


def test_2b_follows_the_machines(notebook):
    assert notebook.found("kv.predicate").verdict == "refuted"
    right = notebook.again("kv.predicate", pageable=lambda rows: rows.assign(value=rows["one_memory"]))
    assert right.verdict == "confirmed"
    half = notebook.again("kv.predicate", pageable=lambda rows: rows[rows["machine"] != "Jetson Orin"])
    assert half.verdict == "refined" and parts(half)["it is 1 wherever CPU and GPU share one memory"]


def test_2c_follows_the_blocks_that_come_back(notebook):
    assert notebook.found("kv.skip").verdict == "refuted"
    assert notebook.again("kv.skip", survived=lambda rows: rows.assign(wrong=0)).verdict == "confirmed"
    twice = notebook.again("kv.skip", survived=lambda rows: rows.assign(
        wrong=rows["wrong"].where(rows["arrangement"] != "one memory, mapped twice", 0)))
    assert twice.verdict == "refined" and [part["holds"] for part in twice.parts] == [False, False, True]


def test_what_is_safe_without_a_copy_is_named_by_its_count(notebook):
    assert notebook.found("kv.safe").values["names"] == "relabel and fold"
    worse = notebook.again("kv.safe", survived=lambda rows: rows.assign(wrong=rows["wrong"].where(rows["design"] != "fold", 7)))
    assert worse.values["names"] == "relabel" and worse.verdict is None


def test_2d_follows_what_one_pool_drops(notebook):
    assert notebook.found("kv.fold").verdict == "refined"
    kept = notebook.again("kv.fold", costs=lambda rows: rows.assign(dropped=0), answers=lambda rows: rows, short=lambda rows: rows)
    assert kept.verdict == "confirmed" and "evicts 0 blocks" in kept.summary
    moved = notebook.again("kv.fold", costs=lambda rows: rows.assign(offloads=5), short=lambda rows: rows)
    assert moved.verdict == "refuted"


def test_2f_follows_the_share_of_the_copies(notebook):
    assert notebook.found("kv.competition").verdict == "refined"
    for factor, verdict in ((0, "refuted"), (100, "confirmed")):
        scaled = notebook.again("kv.competition", gains=lambda rows: rows.assign(share=factor * rows["share"]), short=lambda rows: rows)
        assert scaled.verdict == verdict and ("too little to be seen" in scaled.summary) == (factor == 0)


def test_2e_follows_what_cuda_documents(notebook):
    assert notebook.found("kv.managed").verdict == "refined"
    promised = notebook.again("kv.managed", may_not=False)
    assert [part["holds"] for part in promised.parts] == [False, True, True] and "does not ask" in promised.summary


def test_what_survives_follows_the_paths(notebook):
    mended = notebook.again("kv.survivors", routes=lambda rows: rows.assign(**{"second pool": False, "wrong blocks": 0}))
    assert "on the no path; with the revised one" in mended.summary
    assert parts(mended)["published: no second pool on the PyTorch path"] is True


def test_the_budget_and_the_spark_s_memory_follow_their_tables(notebook):
    assert "larger than 20 GB" in notebook.again("kv.budget", fraction=0.8, budget=lambda rows: rows).summary
    slow = notebook.again("kv.spark-memory", spark=lambda rows: rows.assign(pinned=rows["cudaMalloc"] / 9))
    assert "at least 9 times slower" in slow.summary


@pytest.fixture(params=["h100", "h200"])
def answered(request):
    """The tables that a GPU answered (dict of DataFrame), from its recorded run."""
    kept = record.read(ROOT / "outputs/recorded" / request.param / "evidence.json")["findings"]
    values = {finding["id"]: finding["values"] for finding in kept}
    return {"stale": pd.DataFrame(values["kv.skip-gpu"]["stale"]), "copy_speed": pd.DataFrame(values["kv.allocation"]["bandwidth"]),
            "allocation": pd.DataFrame(values["kv.allocation"]["allocation"]), "beside": pd.DataFrame(values["kv.interference"]["interference"])}


def gpu(monkeypatch, capability, integrated, pageable=False):
    """A stand-in for this machine's GPU."""
    found = SimpleNamespace(name="a GPU", capability=capability, integrated=integrated, pageable_memory_access=pageable, host_page_tables=integrated,
                            concurrent_managed_access=True, unified_addressing=True)
    monkeypatch.setattr(devices, "gpus", lambda: [found])
    return [found]


@pytest.mark.parametrize("capability, integrated, tier", [((9, 0), False, "gpu"), ((12, 1), True, "sm12x")])
def test_what_a_gpu_answered_decides_a_claim_only_where_memory_is_one(monkeypatch, notebook, answered, capability, integrated, tier):
    gpus = gpu(monkeypatch, capability, integrated)
    stated = {"kv.skip-gpu": ("2c", "refuted"), "kv.allocation": ("2e", "confirmed"), "kv.interference": ("2f", None)}
    for id, (claim, verdict) in stated.items():
        finding = notebook.again(id, gpus=gpus, reason="", **answered)
        assert finding.tier == tier and finding.claim == (claim if integrated else None)
        if not integrated:
            assert finding.verdict is None
        elif verdict:
            assert finding.verdict == verdict
        else:
            slowed = answered["beside"].set_index("allocator").loc["pinned", "slowdown"] > 1.05
            assert finding.verdict == ("confirmed" if slowed else "refuted")


def test_gpu_findings_follow_what_was_answered(monkeypatch, notebook, answered):
    asked = {"gpus": gpu(monkeypatch, (12, 1), True), "reason": ""}
    mended = answered | {"stale": answered["stale"].assign(wrong=0)}
    assert notebook.again("kv.skip-gpu", **asked, **mended).verdict == "confirmed"
    late = answered | {"allocation": answered["allocation"].assign(**{"first offload (ms)": lambda rows: rows["allocator"].eq("managed") * 1e4})}
    assert notebook.again("kv.allocation", **asked, **late).verdict == "refuted"
    slower = answered | {"beside": answered["beside"].assign(slowdown=1.5)}
    assert notebook.again("kv.interference", **asked, **slower).verdict == "confirmed"


def test_a_discrete_gpu_with_pageable_access_refutes_2b_and_one_without_states_nothing(monkeypatch, notebook):
    loud = notebook.again("kv.predicate-here", gpus=gpu(monkeypatch, (12, 0), False, pageable=True), reason="")
    assert (loud.verdict, loud.tier, loud.claim) == ("refuted", "sm12x", "2b")
    with pytest.raises(KeyError):
        notebook.again("kv.predicate-here", gpus=gpu(monkeypatch, (9, 0), False), reason="")


@pytest.mark.parametrize("model", ["gpt-oss-120b", "Nemotron-3-Nano-30B-A3B"])
def test_other_models_can_be_asked(cells, model):
    found = cells(NAME, model=model).found("kv.fold")
    assert found.verdict == "refined" and any(model in source for source in found.sources)
