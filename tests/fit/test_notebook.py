"""Notebook 06: what it concludes, and that it concludes otherwise when the data are other."""

import pytest

from tests.cells import parts

pytestmark = pytest.mark.xdist_group("06")
NAME = "06-does-it-fit"


def with_size(**gb):
    """Other sizes (GB) of some recipes."""
    def change(sizes):
        names = sizes["recipe"].str.replace("-", "_")
        sizes = sizes.assign(GB=names.map(gb).fillna(sizes["GB"]))
        return sizes.assign(bytes=sizes["GB"] * 1e9)
    return change


def where(column, value, **changes):
    """A table with other values in the rows in which a column has a value."""
    def change(table):
        table = table.copy()
        for name, new in changes.items():
            table.loc[table[column] == value, name.replace("_", "-")] = new
        return table
    return change


def test_what_it_concludes(notebook):
    verdicts = {found.claim: (found.verdict, found.tier) for id in (
        "fit.nvfp4-size", "fit.miss", "fit.three-to-four-bits", "fit.tensor-cores", "fit.llama-cpp-cores", "fit.idle",
        "fit.precisions", "fit.what-fits", "fit.smaller-models", "fit.decode-ceiling") for found in [notebook.found(id)]}
    assert verdicts == {
        "D1": ("refuted", "modelled"), "D2": ("refined", "modelled"), "D3": ("refined", "modelled"),
        "M1": ("confirmed", "reported"), "D5": ("refined", "inspected"), "M3": ("confirmed", "modelled"),
        "D6": ("refined", "compiled"), "D4": ("refined", "reported"), "D7": ("refined", "reported"),
        "M2": ("refuted", "modelled")}


def test_nvfp4_of_the_account_s_size_would_confirm_d1(notebook):
    found = notebook.again("fit.nvfp4-size", sizes=with_size(nvfp4_linear=228.0))
    assert found.verdict == "confirmed" and "228.0 GB by recipe" in found.summary


def test_a_larger_checkpoint_is_in_the_sentence(notebook):
    more = {"checkpoint": "of a test", "recipe": "", "gb": 150.25, "attention": "", "source": "https://example.com"}
    found = notebook.again("fit.nvfp4-size", facts=lambda facts: facts | {"checkpoints": [*facts["checkpoints"], more]})
    assert "takes 150.25 GB" in found.summary


def test_a_miss_of_the_account_s_size_would_confirm_d2_and_a_model_that_fits_refute_it(notebook):
    large = with_size(nvfp4_linear=228.0, nvfp4_experts=228.0, nvfp4_experts_f32attn=229.0)
    small = with_size(nvfp4_linear=80.0, nvfp4_experts=80.0, nvfp4_experts_f32attn=80.0)
    assert notebook.again("fit.miss", sizes=large).verdict == "confirmed"
    assert notebook.again("fit.miss", sizes=small).verdict == "refuted"


def test_sizes_as_the_account_has_them_would_confirm_d3(notebook):
    sizes = with_size(ud_q3_k_xl=95.0, nvfp4_linear=228.0, nvfp4_experts=228.0, nvfp4_experts_f32attn=228.0)
    assert notebook.again("fit.three-to-four-bits", sizes=sizes).verdict == "confirmed"
    assert notebook.again("fit.three-to-four-bits", sizes=with_size(ud_q3_k_xl=130.0)).verdict == "refuted"


def test_another_rate_from_registers_would_not_bear_out_m1(notebook):
    found = notebook.again("fit.tensor-cores", compute=where("scope", "registers", tflops=213.0))
    assert found.verdict == "refined" and not parts(found)["427 TFLOP/s of FP4"] and "213.0 and 213.0" in found.summary


def test_a_vector_kernel_with_tensor_cores_would_speak_against_d5_and_m3(notebook):
    kernels = where("unit", "matrix-vector", tensor_core=1)
    assert not parts(notebook.again("fit.llama-cpp-cores", kernels=kernels))["decoding multiplies weights on CUDA cores"]
    found = notebook.again("fit.idle", kernels=kernels)
    assert found.verdict == "refined" and found.summary.startswith("260 of 264 kernels")


def test_attention_that_stays_on_cuda_cores_is_seen(notebook):
    found = notebook.again("fit.llama-cpp-cores", rules=lambda rules: rules | {"group": 8, "cached": 4096})
    assert parts(found)["attention decodes on CUDA cores at any context"] and "4,096" in found.summary


def test_tensor_cores_that_are_the_bottleneck_would_speak_against_m3(notebook):
    found = notebook.again("fit.idle", bandwidth=lambda rate: 1000 * rate)
    assert not parts(found)["in a long one they work less than half of the time"]


def test_a_native_bit_operand_or_a_prefill_without_tensor_cores_would_change_d6(notebook):
    found = notebook.again("fit.precisions", operands=where("type", "b1", native=True))
    assert not parts(found)["they take nothing narrower"] and " has 1 bits" in found.summary
    assert notebook.again("fit.precisions", integer=False).verdict == "confirmed"


def test_operands_narrower_than_int8_are_taken_apart_on_the_target_and_int4_was_native_on_ada(notebook):
    rows = {(row["type"], row["target"]): row for row in notebook.found("fit.precisions").values["operands"]}
    assert rows["s4", "sm_89"]["native"] and rows["s4", "sm_121a"]["instruction"] == "IMMA.16832.S8.S8"
    assert all(rows[name, "sm_121a"]["accepted"] and not rows[name, "sm_121a"]["native"] for name in ("s4", "b1"))
    assert rows["e2m1, scaled", "sm_121a"]["instruction"].startswith("OMMA") and not rows["e2m1, scaled", "sm_89"]["accepted"]


def test_less_memory_and_no_report_would_confirm_d4(notebook):
    found = notebook.again("fit.what-fits", offered=110e9, ways=where("name", "iq4_xs", reported=""))
    assert found.verdict == "confirmed"
    assert notebook.again("fit.what-fits", ways=where("name", "nvfp4", **{"left (GB)": 5.0})).verdict == "refuted"


def test_no_model_that_fits_would_leave_nothing_of_d7(notebook):
    found = notebook.again("fit.smaller-models", small=lambda table: table.assign(**{"left (GB)": -1.0}))
    assert found.verdict == "refuted" and found.summary.startswith("0 of 13")


def test_another_bandwidth_moves_the_bounds_and_not_the_verdict_of_m2(notebook):
    found = notebook.again("fit.decode-ceiling", bandwidth=lambda rate: 2 * rate)
    assert found.verdict == "refuted" and "80.13" in found.summary


def test_a_leaner_nvfp4_would_confirm_m2(notebook):
    bounds = where("recipe", "nvfp4-linear", **{"tokens per second": 60.0})
    assert notebook.again("fit.decode-ceiling", bounds=bounds).verdict == "confirmed"


def test_half_the_bandwidth_would_put_measurements_above_their_bound(notebook):
    found = notebook.again("fit.roofline", bandwidth=lambda rate: rate / 2)
    assert not any(parts(found).values())


def test_what_the_evidence_holds(findings):
    assert len(findings["fit.memory-model"]["values"]["sizes"]) >= 8
    kernels = findings["fit.llama-cpp-cores"]["values"]["kernels"]
    vector = [each for each in kernels if each["unit"] == "matrix-vector"]
    assert len(vector) == 260 and not any(each["tensor-core"] for each in vector) and all(each["dot products"] for each in vector)
    matrix = {each["format"]: each["instruction"] for each in kernels if each["unit"] == "matrix-matrix"}
    assert matrix["q3_k"].startswith("IMMA") and matrix["mxfp4"].startswith("OMMA") and ".E2M1.E2M1." in matrix["mxfp4"]
    ways = {row["way"]: row["left (GB)"] for row in findings["fit.what-fits"]["values"]["ways"]}
    assert ways["unpruned, NVFP4, one Spark"] < -10 < 0 < ways["a quarter of the experts pruned, NVFP4, one Spark"]
    assert 3.5 < findings["fit.what-fits"]["values"]["bits that fit"] < 4.5
