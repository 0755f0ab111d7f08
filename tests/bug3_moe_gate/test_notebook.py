"""Notebook 03: what its findings come to, and that they come out otherwise on other data."""

import pytest

from lib.bug3_moe_gate import gates
from lib.errors import CollectionError
from lib.evidence import claims
from tests.bug3_moe_gate.test_gates import REAL, admitted
from tests.cells import holds
from tests.conftest import tree_of

pytestmark = pytest.mark.xdist_group("03")
NAME = "03-moe-gate"


def on(sm, column, value):
    """A change of a table: a column's value on some GPUs."""
    return lambda table: table.assign(**{column: [value if each in sm else old for each, old in zip(table["SM"], table[column])]})


def test_3a_follows_the_gate_and_the_routes(notebook):
    id = "moe-gate.tensorrt-llm"
    assert (notebook.found(id).verdict, holds(notebook.found(id))) == ("refined", [True, True, False])
    blocked = notebook.again(id, routes=on((120, 121), "refused", True))
    assert blocked.verdict == "confirmed" and holds(blocked) == [True] * 3
    widened = notebook.again(id, lists=on((120,), "admitted", True))
    assert holds(widened)[0] is False and "SM100 and SM103 and SM120" in widened.summary
    mended = notebook.again(id, lists=on((120,), "admitted", True), constructor=on((120, 121), "admitted", True))
    assert mended.verdict == "refuted" and "refuses no GPU" in mended.summary
    assert notebook.again(id, routes=on((121,), "reached", "TRITON")).summary.endswith("AUTO chooses CUTLASS or TRITON.")
    assert "AUTO ends in" in blocked.summary
    silent = notebook.again(id, constructor=lambda rows: rows[:0])
    assert holds(silent) == [True, None, False] and "its constructor is not there" in silent.summary and silent.verdict == "refined"
    untold = notebook.again(id, constructor=on(gates.SM, "admitted", None))
    assert holds(untold) == holds(silent) and untold.summary == silent.summary
    without = notebook.again(id, routes=lambda rows: rows.assign(said="ModuleNotFoundError: this tree has no ModelConfig", refused=None))
    assert holds(without) == [True, True, None] and without.summary.endswith("this TensorRT-LLM has no AUTO.")


def test_3a_is_executed_where_a_tree_answers_and_reported_where_none_does(notebook):
    assert notebook.found("moe-gate.tensorrt-llm").tier == "reported"
    asked = notebook.again("moe-gate.tensorrt-llm", at_hand=gates.recorded())
    assert asked.tier == "executed"


def test_3b_follows_the_kernels_and_the_assembler(notebook):
    id = "moe-gate.allowlist"
    assert (notebook.found(id).verdict, notebook.found(id).tier) == ("refuted", "inspected")
    built = notebook.again(id, moe=lambda moe: moe.assign(sm=121, named="121a"))
    assert built.verdict == "refined" and holds(built) == [True, False] and "may load 1,369 of 1,369" in built.summary
    taken = notebook.again(id, families=lambda families: families.assign(accepted=True))
    assert taken.verdict == "refined" and holds(taken) == [False, True]


def test_3c_follows_kernels_choice_and_launch(notebook):
    id = "moe-gate.unblocks"
    assert (notebook.found(id).verdict, notebook.found(id).tier) == ("refuted", "modelled")
    assert [part["tier"] for part in notebook.found(id).parts] == ["inspected", "executed", "modelled"]
    launched = notebook.again(id, spark=lambda spark: spark.assign(said="", loadable=True))
    assert launched.verdict == "refined" and holds(launched) == [False, True, True] and "5 of 5 launches" in launched.summary
    whole = notebook.again(id, moe=lambda moe: moe.assign(sm=121, named="121a"), launched=5)
    assert holds(whole)[0] is True


def test_3e_follows_the_kernels_of_cutlass(notebook):
    id = "moe-gate.fall-through"
    assert (notebook.found(id).verdict, notebook.found(id).tier) == ("refined", "reported")
    none = notebook.again(id, count=lambda count: count * 0, kernel=lambda kernel: kernel | {"bytes": 0})
    assert holds(none)[:2] == [True, True] and "0 NVFP4 MoE kernels for SM120" in none.summary


def test_3d_was_only_read(notebook):
    found = notebook.found("moe-gate.extent")
    assert (found.verdict, found.tier) == ("refined", "reported")


def test_marks_follow_the_gate(notebook):
    found = notebook.found("moe-gate.decisions")
    assert found.values["marked, NVFP4"] == {"as shipped": 2, "published": 6, "revised": 0}
    silent = notebook.again("moe-gate.decisions", nvfp4=lambda rows: rows[rows["gate"] != "revised"])
    assert "revised" not in silent.summary and silent.values["revised"] == "(not told)"
    other = notebook.again("moe-gate.revised", again=lambda rows: rows.assign(index=0))
    assert holds(other) == [False]
    assert holds(notebook.found("moe-gate.revised")) == [True]


def test_the_newest_configurations_admit_what_has_kernels(notebook):
    rows = notebook.after[-1]["configured"]
    assert admitted(rows, "trtllm-gen") == admitted(rows, "CuTe DSL, SM100") == {100, 103}
    assert admitted(rows, "CuTe DSL, SM12x") == {120, 121} and admitted(rows, "CUTLASS") == {100, 103, 120, 121}


@pytest.mark.parametrize("older, newest, said", [
    ("0.6.8", "0.7.2.post1", "there is no patch 03-moe-gate.published.flashinfer-0.6.8.diff"),
    ("0.6.6", "0.6.8", "there is no patch 03-moe-gate.revised.flashinfer-0.6.8.diff"), ("0.6.6", "0.6.6", "both releases are 0.6.6")])
def test_releases_that_cannot_be_compared_are_refused_at_once(cells, older, newest, said):
    with pytest.raises(CollectionError, match=said):
        cells(NAME, flashinfer=older, flashinfer_newest=newest)


@pytest.mark.parametrize("name", REAL)
def test_the_notebook_on_a_real_tree(cells, name):
    ran = cells(NAME, trtllm_src=str(tree_of(name)))
    found = ran.found("moe-gate.tensorrt-llm")
    expected = {"a": [None, True, None], "b": [True, True, False], "c": [True, None, False], "d": [True, None, False]}
    assert found.tier == "executed" and found.verdict == "refined" and holds(found) == expected[name[0]]
    assert ("is not there" in found.summary) == (name[0] != "b") and ("has no AUTO" in found.summary) == (name[0] == "a")
    differ = {"a": 0, "b": 0, "c": 4, "d": 4}  # CUTLASS's list on SM120 and SM121
    assert len(ran.after[-1]["otherwise"]) == differ[name[0]]
    marks = ran.found("moe-gate.decisions").values["marked, NVFP4"]
    assert marks == {"a": {}, "b": {"as shipped": 2, "published": 6, "revised": 0},
                     "c": {"as shipped": 0, "published": 2}, "d": {"as shipped": 0, "published": 2}}[name[0]]


def test_what_the_report_says(findings):
    decided = claims.decide(list(findings.values()))
    assert {claim: decided[claim]["verdict"] for claim in ("3a", "3b", "3c", "3d", "3e")} == {
        "3a": "refined", "3b": "refuted", "3c": "refuted", "3d": "refined", "3e": "refined"}
    counted = findings["moe-gate.cutlass"]["values"]["kernels"]
    kernels = {(row["back end"], row["quantisation"], row["SM"]): row["kernels"] for row in counted}
    assert [kernels["trtllm-gen", "NVFP4", sm] for sm in gates.SM] == [0, 215, 215, 0, 0]
    assert [kernels["CUTLASS", "NVFP4", sm] for sm in gates.SM] == [0, 96, 192, 32, 32]
    assert [kernels["CuTe DSL, SM100", "NVFP4", sm] for sm in gates.SM] == [0, 5, 5, 0, 0]
    compiled = findings["moe-gate.cutlass"]["values"]["compiled"]
    assert compiled["target"] == "sm_121a" and compiled["bytes"] > 0 and sum(compiled["instructions"].values()) > 0
    assert all(name.startswith("OMMA.SF") for name in compiled["instructions"])
    assert findings["moe-gate.decisions"]["values"]["marked"]["revised"] == 0
    served = {(row["requested"], row["gate"]): row["reached"] for row in findings["moe-gate.decisions"]["values"]["on SM121"]}
    assert served["TRTLLM", "published"] == "TRTLLM" and served["TRTLLM", "revised"] == served["CUTEDSL", "revised"] == "CUTLASS"
    assert not any(row["marked"] for row in findings["moe-gate.newest"]["values"]["decision table"])
    assert all(row["target"] == "100f" and row["said"] for row in findings["moe-gate.unblocks"]["values"]["chosen"])
