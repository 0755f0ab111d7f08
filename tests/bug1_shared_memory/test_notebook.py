"""Notebook 01: what it found, that each verdict follows the data, and the cells that only a GPU reaches."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lib.bug1_shared_memory import dispatch
from lib.evidence import claims
from lib.instruments import devices
from lib.report import record
from tests.bug1_shared_memory.test_gemm import Driver, needs_trees
from tests.conftest import ROOT, TREES

NAME = "01-shared-memory"
pytestmark = pytest.mark.xdist_group("01")


# What the notebook found

def test_the_dense_tiles_of_the_account_fit(findings):
    kernels = findings["fp4-gemm.dense-tiles"]["values"]["kernels"]
    assert {(row["name"], row["d"]): row["kernel"] for row in kernels} == {
        ("128x128x256B", "bf16"): 83968, ("128x128x256B", "fp16"): 83968, ("128x128x256B", "fp32"): 92160,
        ("256x128x128B", "bf16"): 93184, ("256x128x128B", "fp16"): 93184, ("256x128x128B", "fp32"): 73728}
    assert findings["fp4-gemm.dense-tiles"]["verdict"] == "refuted" and findings["fp4-gemm.dense-tiles"]["tier"] == "compiled"
    same = findings["fp4-gemm.published-tile"]["values"]
    assert same["128x128x128B"] == same["128x128x256B"]


def test_the_kernels_that_do_not_fit_are_the_fused_ones_256_wide(findings):
    kernels = findings["fp4-gemm.oversized"]["values"]["kernels"]
    over = [row for row in kernels if row["headroom"] < 0]
    assert {(row["name"], row["fusion"], row["swap_ab"], row["kernel"]) for row in over} == {
        ("128x256x64B", "scatter", False, 102400), ("256x128x64B", "scatter", False, 102400)}
    assert all(row["budget"] == 101376 for row in kernels)
    assert sum(findings["fp4-gemm.account"]["values"]["account"].values()) == 102400


def test_three_cutlasses_agree_and_mxfp8_with_two_stages_exceeds(findings):
    values = findings["fp4-gemm.versions"]["values"]
    assert len({row["cutlass"] for row in values["dense"]}) >= 3
    assert len({(row["name"], row["d"], row["kernel"]) for row in values["dense"]}) == 6
    assert {row["kernel"] for row in values["exceeding"]} == {102400, 111616}


def test_the_laboratory_gives_what_real_machines_printed(findings):
    threads = findings["fp4-gemm.threads"]["values"]["threads"]
    assert len(threads) >= 6 and all(row["ours"] == row["printed"] for row in threads)


def test_the_revised_launcher_keeps_all_that_fits_and_sm100(findings):
    tactics = findings["fp4-gemm.revised"]["values"]["tactics"]
    assert len({(row["name"], row["fused"], row["swap_ab"]) for row in tactics}) == len(tactics) == 16
    assert max(row["kernel after"] for row in tactics) == 98304
    changed = [row for row in tactics if row["kernel after"] != row["kernel before"]]
    assert [(row["kernel before"], row["kernel after"], row["stages before"], row["stages after"]) for row in changed] == [(102400, 74752, 3, 2)] * 2
    sm100 = findings["fp4-gemm.sm100"]["values"]
    assert {row["sm"] for row in sm100["candidates"]} == {100, 103, 120, 121}
    assert sum(row["sm"] == 100 and row["kind"] == "grouped nvfp4" for row in sm100["candidates"]) == 21
    assert max(row["kernel"] for row in sm100["SM100"]) == 230400


def test_the_published_kernel_runs_on_the_fp4_tensor_cores(findings):
    values = findings["fp4-gemm.published-kernel"]["values"]
    assert any(name.startswith("OMMA.SF") and "E2M1.E2M1" in name for name in values["matrix"]) and values["usage"]["registers"] <= 255


def test_the_reference_that_a_gpu_is_compared_with_is_cutlasss(findings):
    found = findings["fp4-gemm.reference"]
    assert found["tier"] == "executed" and [part["holds"] for part in found["parts"]] == [True]
    assert found["values"]["m"] % 128 and found["values"]["unwritten"] == 0


def test_every_claim_of_the_bug_has_its_finding(findings):
    said = {finding["claim"]: finding["verdict"] for finding in findings.values() if finding["notebook"] == NAME and finding["claim"]}
    assert set(said) == {claim for claim in claims.ledger() if claim.startswith("1")}
    assert said | {"1b": "", "1f": ""} == {"1a": "confirmed", "1b": "", "1c": "refined", "1d": "confirmed", "1e": "confirmed", "1f": "",
                                           "1g": "confirmed", "1h": "refined", "1i": "refined", "1j": "refined"}


def test_what_could_not_be_read_of_the_review_is_not_decided(findings):
    """What a project says of itself is nothing about the person who keeps it."""
    merged = findings["fp4-gemm.merged"]
    assert (merged["verdict"], merged["tier"]) == ("refined", "reported")
    assert [part["holds"] for part in merged["parts"]] == [True, None, None] and merged["parts"][1]["sources"]


# Each verdict follows the data

def bytes_of(name, size):
    """Have the kernels of a tile need other bytes."""
    return lambda table: table.assign(kernel=table["kernel"].mask(table["name"] == name, size))


@pytest.mark.parametrize("id, changes, verdict, says", [
    ("fp4-gemm.budgets", {"limits": lambda t: t.assign(**{"ptxas grants (B)": 232448})}, "refined", "232,448 B on SM121"),
    ("fp4-gemm.budgets", {"limits": lambda t: t.assign(**{"ptxas grants (B)": 1 << 16})}, "refuted", "65,536 B of shared memory on SM100"),
    ("fp4-gemm.dense-tiles", {"accused": lambda t: t.assign(headroom=-1)}, "confirmed", "6 of 6"),
    ("fp4-gemm.dense-tiles", {"accused": lambda t: t.assign(headroom=t["headroom"].where(t["name"] == "128x128x256B", -1))}, "refined", "3 of 6"),
    ("fp4-gemm.stages", {"tactics": lambda t: t.assign(headroom=-1)}, "confirmed", "among 0 that fit"),
    ("fp4-gemm.stages", {"sm100": lambda t: t.assign(budget=101376)}, "refined", "5 stages for SM100"),
    ("fp4-gemm.published-tile", {"dense": bytes_of("128x128x128B", 101377)}, "refuted", "101,377 B"),
    ("fp4-gemm.unreached", {"reached": {"128x128x128B": (128, 128, 128)}}, "refined", "has a case"),
    ("fp4-gemm.symptom", {"everywhere": [344]}, "confirmed", "which 1 places"),
    ("fp4-gemm.symptom", {"clears": 10**6, "returns": 0}, "refuted", "keeps CUDA's status"),
    ("fp4-gemm.copied", {"compared": lambda t: t.assign(SM100=[[]] * 3, **{"in SM100's too": t["of SM120's"]})}, "refined", "6 of them are among"),
    ("fp4-gemm.copied", {"compared": lambda t: t.assign(SM100=[["256x128x128B", "128x128x256B"]] * 3, **{"in SM100's too": t["of SM120's"]})},
     "confirmed", "6 of them are among"),
    ("fp4-gemm.copied", {"compared": lambda t: t.assign(SM100=[[]] * 3, **{"in SM100's too": 0})}, "refuted", "0 of them are among"),
    ("fp4-gemm.unblocks", {"tactics": lambda t: t.assign(headroom=0)}, "refined", "0 grouped"),
    ("fp4-gemm.unblocks", {"dense": bytes_of("128x128x256B", 102400), "tactics": lambda t: t.assign(headroom=0)}, "confirmed", "102,400 B before"),
])
def test_a_verdict_and_its_sentence_follow_the_data(cells, id, changes, verdict, says):
    notebook = cells(NAME)
    before, after = notebook.found(id), notebook.again(id, **changes)
    assert after.verdict == verdict and says in after.summary and after.parts != before.parts


def test_the_instances_of_a_checkout_decide_where_it_has_them(cells):
    every = list(dispatch.INSTANCES)
    found = cells(NAME).again("fp4-gemm.unreached", reached={"256x128x128B": (256, 128, 128)}, instances=every, built=every)
    assert (found.verdict, found.tier) == ("confirmed", "inspected")
    found = cells(NAME).again("fp4-gemm.unreached", reached={"256x128x128B": (256, 128, 128)}, instances=every, built=every[:2])
    assert (found.verdict, found.tier) == ("refined", "inspected")


@needs_trees
def test_with_a_checkout_at_hand_the_fix_is_applied(cells):
    found = cells(NAME).again("fp4-gemm.published-scope", trtllm=TREES / "a-1.2.0rc2")
    assert (found.verdict, found.tier) == ("confirmed", "inspected") and "9 of 9 lines" in found.summary
    found = cells(NAME).again("fp4-gemm.published-scope", trtllm=TREES / "b-march-2026")
    assert (found.verdict, found.tier) == ("confirmed", "reported") and "not applied here" in found.summary


def test_a_fix_that_touches_another_architecture_would_be_seen(cells):
    touched = pd.DataFrame({"file": ["fp4_gemm_template.h", "fp4Gemm.cpp"], "for SM120": [True, False]})
    found = cells(NAME).again("fp4-gemm.published-scope", touched=touched)
    assert found.verdict == "refined" and "1 of 2 lines" in found.summary
    assert cells(NAME).again("fp4-gemm.published-scope", touched=touched.tail(1)).verdict == "refuted"


@pytest.mark.parametrize("id, changes, part", [
    ("fp4-gemm.oversized", {"measured": lambda t: t.assign(headroom=-1)}, 0),
    ("fp4-gemm.revised", {"both": lambda t: t.assign(**{"stages after": 1})}, 0),
    ("fp4-gemm.revised", {"before": lambda t: t.assign(kernel=t["kernel"] + 128)}, 1),
    ("fp4-gemm.sm100", {"new": lambda t: t.assign(kernel=1)}, 0)])
def test_a_check_fails_when_the_data_do(cells, id, changes, part):
    assert cells(NAME).found(id).parts[part]["holds"] and not cells(NAME).again(id, **changes).parts[part]["holds"]


# The cells that only a GPU reaches, on what one answered

@pytest.mark.parametrize("capability, tier, claim", [((9, 0), "gpu", None), ((12, 1), "sm12x", "1b")])
def test_what_a_gpu_answered_becomes_findings_of_its_tier(cells, monkeypatch, capability, tier, claim):
    """As it was, and as if an SM12x part had said the same."""
    kept = record.read(ROOT / "outputs/recorded/h100/evidence.json")
    trials = next(pd.DataFrame(each["values"]["trials"]) for each in kept["findings"] if each["id"] == "fp4-gemm.trials")
    gpu = SimpleNamespace(name="a GPU", capability=capability)
    cells(NAME)  # as it runs here
    monkeypatch.setattr(devices, "gpus", lambda: [gpu])
    here = {"gpu": gpu, "on_sm12x": tier == "sm12x", "accused": lambda table: table.assign(name="128x128x128")}

    def state(id, trials=trials):
        return cells(NAME).again(id, trials=trials, **here)

    found = state("fp4-gemm.trials")
    assert (found.claim, found.tier, found.verdict) == (claim, tier, "refuted" if claim else None)
    assert found.values["right"] == found.values["started"] == found.values["n"] == 5
    symptom = state("fp4-gemm.symptom-here")
    assert (symptom.claim, symptom.tier, symptom.verdict) == ("1f", tier, "refined")
    speed = state("fp4-gemm.speed")
    assert (speed.claim, speed.tier, speed.verdict) == (None, tier, None) and speed.values["ms"] > 0
    refused = trials.assign(initialize="Error Internal", asked="cudaErrorInvalidValue")
    found = state("fp4-gemm.trials", refused)
    assert found.verdict == ("confirmed" if claim else None) and found.values["started"] == 0
    apart = trials.assign(initialize=trials["initialize"].where(trials["shows"] != "too large", "Error Memory Allocation"))
    assert [part["holds"] for part in state("fp4-gemm.symptom-here", apart).parts] == [False, True, True]


@pytest.mark.parametrize("limit, verdict", [(101376, "refuted"), (90000, "refined"), (49152, "confirmed")])
def test_what_a_driver_grants_decides_the_claim_on_sm12x(cells, monkeypatch, limit, verdict):
    from lib.bug1_shared_memory import optin
    gpu = SimpleNamespace(sm=121, shared_per_block=limit, name="a GPU", capability=(12, 1))
    monkeypatch.setattr(devices, "gpus", lambda: [gpu])
    answers = optin.decide([73728, 83968, 92160, 93184, 102400], cuda=Driver(limit, "sm_121a"), gpu=gpu)
    found = cells(NAME).again("fp4-gemm.this-gpu", answers=answers, gpu=gpu, on_sm12x=True,
                              accused=lambda table: table[table["d"] == "bf16"])
    assert (found.claim, found.tier, found.verdict) == ("1b", "sm12x", verdict)
    assert f"grants a block {limit:,} B and refuses {limit + 1:,} B" in found.summary
