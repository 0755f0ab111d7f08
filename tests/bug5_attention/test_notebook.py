"""Notebook 05: what its evidence holds, and that each verdict follows the data."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from lib import evidence
from lib.errors import CollectionError
from lib.instruments import devices
from lib.report import record
from tests.conftest import ROOT, tree_of

pytestmark = pytest.mark.xdist_group("05")
NAME = "05-attention-kernels"


def extra(sm, **fields):
    """Add a row like the first one for another GPU to a table."""
    return lambda table: pd.concat([table, table.iloc[:1].assign(sm=sm, **fields)], ignore_index=True)


@pytest.mark.parametrize("version, absent", [("0.6.8", "flashinfer-cubin"), ("0.6.13", "flashinfer-python"), ("9.9", "flashinfer-python")])
def test_a_release_that_is_not_pinned_with_its_cubins_is_refused_at_once(cells, version, absent):
    with pytest.raises(CollectionError, match=f"{absent}=={version} is not pinned .*{absent}==0.6.6"):
        cells(NAME, flashinfer=version)


def test_a_kernel_for_another_gpu_refines_5a(notebook):
    assert notebook.found("attention.inventory").verdict == "confirmed"
    more = notebook.again("attention.inventory", attention=extra(121, named="121a"))
    assert more.verdict == "refined" and "7,994 of 7,995" in more.summary
    none = notebook.again("attention.inventory", attention=lambda table: table.assign(sm=121))
    assert none.verdict == "refuted" and "0 of 7,994" in none.summary


def test_a_runner_that_takes_gb10_refines_5a(notebook):
    assert notebook.found("attention.runner").verdict == "confirmed"
    lenient = notebook.again("attention.runner", before=lambda rows: rows.assign(outcome=rows["outcome"].where(rows["sm"] != 121, "kernel")))
    assert lenient.verdict == "refined" and "SM121 in 0" in lenient.summary
    strict = notebook.again("attention.runner", before=lambda rows: rows.assign(outcome=rows["outcome"].where(rows["sm"] != 103, "refused")))
    assert strict.verdict == "refined"


def test_a_target_with_both_instructions_refutes_5b_in_part(notebook):
    assert notebook.found("attention.instruction-sets").verdict == "confirmed"
    both = notebook.again("attention.instruction-sets", matrix=lambda rows: rows.assign(sm_121a=""))
    assert both.verdict == "refined" and "1 targets take both" in both.summary
    every = notebook.again("attention.instruction-sets", matrix=lambda rows: rows.assign(sm_121a="", sm_100a=""))
    assert every.verdict == "refuted" and "2 targets take both" in every.summary


def test_the_conversion_follows_the_compiler(notebook):
    assert "4 of 6 SM12x targets" in notebook.found("attention.fp4-conversion").summary
    other = notebook.again("attention.fp4-conversion", fp4=lambda table: table.assign(**{"machine code": ["" if name == "sm_121f" else f"F2FP {name}" for name in table.index]}))
    assert "5 of 6" in other.summary and "another instruction" in other.summary


def test_another_kernel_on_sm100_refines_5d(notebook):
    found = notebook.found("attention.condition")
    assert (found.verdict, found.tier) == ("confirmed", "reported")
    worse = notebook.again("attention.condition", unchanged=lambda kept: kept | {100: False})
    assert worse.verdict == "refined" and "SM100" in worse.summary
    other = notebook.again("attention.condition", same=lambda same: same & False)
    assert other.verdict == "refined"
    assert notebook.again("attention.condition", unchanged=lambda kept: kept | {103: False}, same=lambda same: same & False).verdict == "refuted"


def test_a_message_that_helps_changes_5e(notebook):
    found = notebook.found("attention.messages")
    assert (found.verdict, found.tier) == ("refined", "reported") and found.summary.startswith("0 of 72")
    clear = notebook.again("attention.messages", before=lambda rows: rows.assign(answer="this GPU is SM121: use xqa"))
    assert clear.summary.startswith("72 of 72") and [part["holds"] for part in clear.parts] == [False, True, False]


def test_our_message_is_counted(notebook):
    found = notebook.found("attention.sm100-path")
    assert found.verdict is None and found.values["same"] == found.values["cases"] == 144 and found.values["told"] == 72
    mute = notebook.again("attention.sm100-path", joined=lambda rows: rows.assign(**{"answer after": rows["answer"]}))
    assert mute.values["told"] == 0


def test_a_fallback_that_does_not_compile_or_fit_changes_5c(notebook):
    found = notebook.found("attention.fallback")
    assert (found.verdict, found.tier) == ("refined", "compiled")
    assert [part["holds"] for part in found.parts] == [True, True, None]
    refused = notebook.again("attention.fallback", tried=lambda table: table.assign(refused=["", "", "no such thing"]))
    assert refused.summary.startswith("2 of") and refused.parts[1]["holds"] is False
    large = notebook.again("attention.fallback", tried=lambda table: table.assign(**{"shared memory (B)": 102400}))
    assert large.parts[1]["holds"] is False and "102,400 B" in large.summary
    assert notebook.again("attention.fallback", listed=0).parts[0]["holds"] is False


def test_the_routing_follows_what_was_read(notebook):
    found = notebook.found("attention.routing")
    assert (found.verdict, found.tier) == (None, "reported") and "“fallback”" in found.summary
    sent = notebook.again("attention.routing", recorded=lambda table: table.assign(SM121="trtllm-gen"))
    assert "“trtllm-gen”" in sent.summary and not any(part["holds"] for part in sent.parts)


@pytest.mark.parametrize("name, gate", [("a-1.2.0rc2", "attention operator (C++)"), ("b-march-2026", "support check (Python)"),
                                        ("c-moe-resolution", None), ("d-moved-folder", None)])
def test_tensorrt_llm_at_hand_is_asked(cells, name, gate):
    """Where its sources are here, the gates' answers are executed; where they lack the lines, cells say so and go on."""
    here = cells(NAME, trtllm_src=str(tree_of(name)))
    condition, routing = here.found("attention.condition"), here.found("attention.routing")
    assert condition.verdict == "confirmed" and condition.tier == routing.tier == ("executed" if gate else "reported")
    assert [row["gate"] for row in routing.values["asked here"]] == ([gate] if gate else [])
    assert ("asked here" in routing.summary) == bool(gate)
    assert ("the path of no GPU" in condition.summary) == (condition.values["changed"] == 0) == (name == "b-march-2026")


LOADS = next(each["values"]["loads"] for each in json.loads((ROOT / "outputs/recorded/h100/evidence.json").read_text())["findings"] if each["id"] == "attention.driver")


@pytest.fixture
def gpu(monkeypatch):
    """As if an H100 were here; its answers are the recorded ones."""
    monkeypatch.setattr(devices, "gpus", lambda: [SimpleNamespace(name="NVIDIA H100", sm=90, capability=(9, 0))])
    monkeypatch.setattr(devices, "state", dict)


def test_what_a_gpu_answered_becomes_a_finding_of_its_tier(notebook, gpu):
    found = notebook.again("attention.driver", loads=pd.DataFrame(LOADS))
    assert (found.claim, found.verdict, found.tier) == (None, None, "gpu")
    assert [part["holds"] for part in found.parts] == [True, True] and "1 of 4 cubins" in found.summary
    assert "CUDA_ERROR_NO_BINARY_FOR_GPU" in found.summary
    against = notebook.again("attention.driver", loads=pd.DataFrame(LOADS).assign(driver="loaded"))
    assert [part["holds"] for part in against.parts] == [True, False]
    none = notebook.again("attention.driver", loads=pd.DataFrame(LOADS).assign(driver="CUDA_ERROR_OPERATING_SYSTEM"))
    assert [part["holds"] for part in none.parts] == [False, False]


def test_the_same_answers_on_a_spark_would_be_of_the_strongest_tier(notebook, gpu, monkeypatch):
    monkeypatch.setattr(devices, "gpus", lambda: [SimpleNamespace(name="NVIDIA GB10", sm=121, capability=(12, 1))])
    assert notebook.again("attention.driver", loads=pd.DataFrame(LOADS)).tier == "sm12x"


def test_the_recorded_answers_can_be_read():
    assert record.read(ROOT / "outputs/recorded/h100/evidence.json")["schema"] == evidence.parts.SCHEMA["properties"]["schema"]["const"]


def test_what_the_instruction_sets_say(findings):
    sets, decoding = findings["attention.instruction-sets"], findings["attention.decoding"]
    assert (sets["claim"], sets["verdict"], sets["tier"]) == ("5b", "confirmed", "compiled")
    mnemonics = pd.DataFrame(sets["values"]["mnemonics"]).set_index("instruction")
    assert mnemonics.loc["tcgen05.mma f16", "sm_100a"] == "UTCHMMA" and mnemonics.loc["tcgen05.mma f16", "sm_121a"] == ""
    assert mnemonics.loc["mma mxf4nvf4.block_scale 4X (NVFP4)", "sm_121a"].startswith("OMMA.SF")
    assert mnemonics.loc["mma e4m3", "sm_121a"].startswith("QMMA") and mnemonics.loc["mma e4m3", "sm_100a"].startswith("HMMA")
    kernels = decoding["values"]["kernels"]
    assert all(kernel["unknown"] and set(kernel["matrix"]) <= set(kernel["unknown"]) for kernel in kernels)
    assert {"FMUL2", "LDTM", "STTM", "UTCQMMA", "UTCHMMA"} <= set(decoding["values"]["unknown"])


def test_what_the_runner_answered(findings):
    answers = pd.DataFrame(findings["attention.runner"]["values"]["answers"])
    outcomes = answers.groupby("sm")["outcome"].unique().map(list).to_dict()
    assert outcomes == {90: ["refused"], 100: ["kernel"], 103: ["kernel"], 110: ["refused"], 120: ["refused"], 121: ["refused"]}
    assert answers.groupby("sm").size().eq(72).all()
    assert answers.loc[answers["sm"] == 121, "answer"].str.endswith("Unsupported architecture").all()
    assert answers.loc[answers["sm"] == 103, "answer"].str.startswith("fmhaSm10").all()
    assert not answers["answer"].str.contains("/").any(), "a path of this machine is in the evidence"


def test_the_patched_runner_takes_the_same_kernels(findings):
    found = findings["attention.sm100-path"]
    assert (found["claim"], found["verdict"], found["tier"]) == (None, None, "executed")
    answers = pd.DataFrame(found["values"]["answers"])
    kept = answers[answers["sm"].isin([100, 103])]
    assert len(kept) == 144 and (kept["answer"] == kept["answer after"]).all()
    told = answers.loc[answers["sm"] == 121, "answer after"]
    assert told.str.contains("SM121").all() and told.str.contains("xqa").all() and told.str.contains("fa2").all()


def test_what_the_fallback_is(findings):
    sources, compiled = findings["attention.fallback-sources"], findings["attention.fallback"]
    assert [len(rows) for rows in sources["values"]["kernels"].values()] == [225, 9, 201]
    rows = pd.DataFrame(compiled["values"]["compiled"])
    assert (compiled["claim"], compiled["verdict"], compiled["tier"]) == ("5c", "refined", "compiled")
    assert (rows["shared memory (B)"] <= rows["of (B)"]).all() and set(rows["of (B)"]) == {101376}
    assert list(rows["shared memory (B)"]) == [81920, 32768, 81920]
    assert [each.partition(".")[0] for each in rows["instructions"]] == ["HMMA", "QMMA", "HMMA"]
    assert not rows["instructions"].str.contains("UTC|SF").any(), "it would need tcgen05 or block scaling"
