"""The MoE gate: FlashInfer's own checks, a stand-in for TensorRT-LLM's, the runner's choice, and the decisions on them."""

import subprocess
import zipfile

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib.bug3_moe_gate import agreement, gates, kernels, selection
from lib.errors import CollectionError
from lib.evidence import claims
from lib.subjects import patches, wheels

VERSIONS = ("0.6.6", "0.7.2.post1")
PUBLISHED, REVISED = (f"03-moe-gate.{kind}.flashinfer-0.6.6.diff" for kind in ("published", "revised"))
OF_TRTLLM = [f"03-moe-gate.{kind}.tensorrt-llm.diff" for kind in ("published", "revised")]
HEAD = """
import absent_package
from tensorrt_llm._utils import get_sm_version, is_datacenter
from tensorrt_llm.logger import logger
from tensorrt_llm.models.modeling_utils import QuantAlgo
"""
# Written for this test: no more of TensorRT-LLM than the places that the gate and the patches look at.
TREE = {
    "_utils.py": """
import absent_package

def get_sm_version():
    return absent_package.ask()

def is_datacenter(sm_version: absent_package.Number = None):
    return (sm_version or get_sm_version()) in (100, 103)
""",
    "_torch/model_config.py": HEAD + """
class ModelConfig:
    @staticmethod
    def resolve_moe_backend(moe_backend, architecture):
        if moe_backend.upper() != "AUTO":
            return moe_backend

        if architecture == "GptOssForCausalLM":
            sm_version = get_sm_version()
            # Select the best performing backend based on SM version
            if 100 <= sm_version < 120:  # Blackwell
                return "TRTLLM"
        return "CUTLASS"
""",
    "_torch/modules/fused_moe/fused_moe_trtllm_gen.py": HEAD + """
from ...model_config import ModelConfig
from .interface import MoE, _warn_and_return

class TRTLLMGenFusedMoE(MoE):
    @classmethod
    def can_implement(cls, quant_algo, dtype_activation=None, style=ModelConfig.STYLE):
        sm_version = get_sm_version()
        # TRTLLMGenFusedMoE requires SM in {100, 103}
        if sm_version not in {100, 103}:
            return _warn_and_return(
                f"not for SM{sm_version}")
        return quant_algo in (QuantAlgo.NVFP4, QuantAlgo.FP8_BLOCK_SCALES), None

    def __init__(self, *, model_config=ModelConfig(), **rest):
        super().__init__(**rest)

        sm_version = get_sm_version()
        if sm_version >= 120:
            raise NotImplementedError(
                "TRTLLMGenFusedMoE does not support SM120 and above.")

        assert not self.smart_router, "Smart router is not supported in TRTLLMGenFusedMoE."
""",
    "_torch/modules/fused_moe/fused_moe_cutlass.py": HEAD + """
from .interface import MoE, _warn_and_return

class CutlassFusedMoE(MoE):
    TABLE = {
        QuantAlgo.NVFP4: {
            "sm_constraint": ("in", {100, 103}),
            "dtypes": {torch.float16, torch.bfloat16, torch.float8_e4m3fn},
        },
        QuantAlgo.W4A8_MXFP4_MXFP8: {
            "sm_constraint": ("in", {100, 103}),
            "dtypes": {torch.float16, torch.bfloat16},
        },
    }

    @classmethod
    def can_implement(cls, quant_algo, dtype_activation=None):
        return get_sm_version() in cls.TABLE.get(quant_algo, {"sm_constraint": ("in", ())})["sm_constraint"][1], quant_algo.name
""".replace("class Cut", "import torch\n\nclass Cut"),
    "_torch/modules/fused_moe/fused_moe_cute_dsl.py": HEAD + """
from .fused_moe_cutlass import CutlassFusedMoE
from .interface import _warn_and_return

class CuteDslFusedMoE(CutlassFusedMoE):
    @classmethod
    def can_implement(cls, quant_algo, dtype_activation=None):
        sm_version = get_sm_version()
        if quant_algo == QuantAlgo.NVFP4:
            if sm_version not in {100, 103}:
                return _warn_and_return(
                    f"NVFP4 is not for SM{sm_version}")
            return True, None
        return is_datacenter() and False, "another quantisation"
""",
    "_torch/modules/fused_moe/create_moe.py": HEAD + """
from .fused_moe_cute_dsl import CuteDslFusedMoE
from .fused_moe_cutlass import CutlassFusedMoE
from .fused_moe_trtllm_gen import TRTLLMGenFusedMoE

def get_moe_cls(model_config):
    name = model_config.moe_backend.upper()
    if name == "TRTLLM" and not model_config.quant_config.quant_mode.has_nvfp4():
        return CutlassFusedMoE
    known = {"TRTLLM": TRTLLMGenFusedMoE, "CUTLASS": CutlassFusedMoE, "CUTEDSL": CuteDslFusedMoE}
    if name not in known:
        raise ValueError(f"Unsupported moe backend: {name}")
    return known[name]
""",
}


pytestmark = pytest.mark.xdist_group("gates")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trtllm")
    for name, text in TREE.items():
        path = folder / "tensorrt_llm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def shipped(tree):
    return gates.tensorrt_llm(tree)


def admitted(rows, back_end, quantisation="NVFP4", check=None):
    chosen = rows[(rows["back end"] == back_end) & (rows["quantisation"] == quantisation)]
    chosen = chosen[chosen["check"] == check] if check else chosen
    return {int(sm) for sm, answer in zip(chosen["SM"], chosen["admitted"]) if answer}


def reached(routes, requested, sm, model="MiniMaxM2ForCausalLM"):
    chosen = routes[(routes["requested"] == requested) & (routes["SM"] == sm) & (routes["model"] == model)]
    return tuple(chosen[["reached", "said"]].iloc[0])


def test_the_real_functions_of_a_tree_are_asked_for_every_gpu(shipped):
    rows, routes = shipped
    assert all(admitted(rows, back_end) == {100, 103} for back_end in gates.BACK_ENDS.values())
    assert admitted(rows, "trtllm-gen", "FP8 block scales") == {100, 103} and admitted(rows, "trtllm-gen", "MXFP4 × MXFP8") == set()
    assert set(rows.query("SM == 121 and `back end` == 'trtllm-gen'")["said"]) == {"not for SM121"}
    assert reached(routes, "TRTLLM", 90) == ("TRTLLMGenFusedMoE", "")
    assert reached(routes, "TRTLLM", 121) == ("", "NotImplementedError: TRTLLMGenFusedMoE does not support SM120 and above.")
    assert reached(routes, "AUTO", 121) == ("CutlassFusedMoE", "")
    assert reached(routes, "AUTO", 103, "GptOssForCausalLM") == ("TRTLLMGenFusedMoE", "")


def test_published_opens_the_gate_and_revised_goes_where_kernels_are(tree, shipped):
    published, revised = (gates.tensorrt_llm(tree, name) for name in OF_TRTLLM)
    assert admitted(published[0], "trtllm-gen") == admitted(published[0], "CuTe DSL, SM100") == {100, 103, 120, 121}
    assert reached(published[1], "TRTLLM", 121) == ("TRTLLMGenFusedMoE", "")
    assert reached(published[1], "AUTO", 121, "GptOssForCausalLM") == ("TRTLLMGenFusedMoE", "")
    assert admitted(revised[0], "trtllm-gen") == admitted(revised[0], "CuTe DSL, SM100") == {100, 103}
    assert admitted(revised[0], "CUTLASS") == admitted(revised[0], "CUTLASS", "MXFP4 × MXFP8") == {100, 103, 120, 121}
    name, said = reached(revised[1], "TRTLLM", 121)
    assert name == "CutlassFusedMoE" and "TRTLLM has no kernels for SM121" in said and "CUTLASS" in said
    before, after = (routes[routes["SM"].isin([100, 103])] for _, routes in (shipped, revised))
    pd.testing.assert_frame_equal(before, after)
    assert {str(path.relative_to(tree / "tensorrt_llm")): path.read_text() for path in tree.rglob("*.*")} == TREE, "the tree was changed"


def test_a_tree_that_is_laid_out_in_another_way_is_no_answer(tmp_path):
    (tmp_path / "tensorrt_llm").mkdir()
    rows, routes = asked = gates.tensorrt_llm(tmp_path, sm=(121,))
    assert rows["admitted"].isna().all() and (routes["reached"] == "").all() and rows["said"].str.len().gt(0).all()
    assert gates.answered(asked) is None


@pytest.mark.parametrize("version", VERSIONS)
def test_flashinfer_answers_for_every_gpu(version):
    rows, kernels, macros = gates.flashinfer(version)
    assert set(rows["SM"]) == set(gates.SM) and rows["admitted"].isin([True, False]).all()
    assert admitted(rows, "trtllm-gen", check="is_trtllm_moe_supported") == {100, 103, 120, 121}
    assert admitted(rows, "trtllm-gen", "", "module") == ({100, 103} if version == "0.6.6" else {100, 103, 120, 121})
    assert admitted(rows, "CUTLASS", "", "module") == set(gates.SM)
    assert not rows["said"].str.contains("ModuleNotFoundError|AttributeError|ImportError").any()
    counts = kernels.generated(kernels).set_index(["quantisation", "SM"])["kernels"]
    assert counts["NVFP4", 120] == counts["NVFP4", 121] == {"0.6.6": 32, "0.7.2.post1": 64}[version] and counts["NVFP4", 90] == 0
    assert "Sm120, SafeFP4, SafeFP4" in macros["121"] and macros["90"] == ""


def test_the_newest_configurations_admit_what_has_kernels():
    rows = gates.configured(gates.flashinfer("0.7.2.post1")[0])
    assert admitted(rows, "trtllm-gen") == admitted(rows, "CuTe DSL, SM100") == {100, 103}
    assert admitted(rows, "CuTe DSL, SM12x") == {120, 121} and admitted(rows, "CUTLASS") == {100, 103, 120, 121}


def test_flashinfer_patched():
    published, revised = (gates.flashinfer("0.6.6", name)[0] for name in (PUBLISHED, REVISED))
    assert admitted(published, "trtllm-gen", "", "module") == {100, 103, 120, 121}
    assert admitted(revised, "trtllm-gen", "", "module") == admitted(revised, "trtllm-gen", check="is_trtllm_moe_supported") == {100, 103}
    said = revised[(revised["check"] == "module") & (revised["SM"] == 121)].set_index("back end")["said"]
    assert "SM 12.1" in said["trtllm-gen"] and "cutlass_fused_moe" in said["trtllm-gen"] and said["CUTLASS"].endswith("sm_121a")
    newest = gates.flashinfer("0.7.2.post1", REVISED.replace("0.6.6", "0.7.2.post1"))[0]
    assert admitted(newest, "trtllm-gen", "", "module") == {100, 103}


@pytest.mark.parametrize("name", [PUBLISHED, REVISED, REVISED.replace("0.6.6", "0.7.2.post1")])
def test_git_takes_the_patches(name):
    patch = patches.Patch(name)
    source = wheels.source("flashinfer-python", patch.header["Base"].rpartition("==")[2])
    with wheels.scratch(source, *patch.files) as copy:
        done = subprocess.run(["git", "apply", "--check", "--unidiff-zero", "-p1", patch.path], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        patch.apply(copy)
        assert patch.state(copy) == patches.APPLIED
        patch.revert(copy)
        assert all((copy / file).read_bytes() == (source / file).read_bytes() for file in patch.files)


def test_the_runner_hands_sm121_a_kernel_for_sm100_until_it_is_revised():
    shipped, revised = selection.choose("0.6.6"), selection.choose("0.6.6", REVISED)
    spark = shipped[shipped["SM"] == 121]
    assert len(spark) == 5 and set(spark["target"]) == {"100f"} and spark["said"].str.contains("Error occurred when running GEMM!").all()
    assert (shipped.loc[shipped["SM"].isin([100, 103]), "said"] == "").all()
    assert revised.loc[revised["SM"] == 121, "said"].str.contains("none of the trtllm-gen batched GEMM kernels runs on SM 121").all()
    for sm in (100, 103):
        pd.testing.assert_frame_equal(shipped[shipped["SM"] == sm], revised[revised["SM"] == sm])


@given(some.sampled_from([True, False, None]), some.integers(0, 9))
def test_a_cell_is_marked_if_gate_and_kernels_disagree(answer, kernels):
    word = agreement.verdict(answer, kernels)
    assert (word == agreement.UNKNOWN) == (answer is None)
    assert (word in agreement.MARKED) == (answer is not None and answer != (kernels > 0))


def test_a_decision_table_leaves_out_what_was_not_counted():
    rows = gates.recorded("x", {("TRTLLM", "NVFP4"): {120}, ("TRTLLM", "made up"): {100}}, sm=(100, 120))
    kernels = pd.DataFrame([("trtllm-gen", "NVFP4", 100, 3), ("trtllm-gen", "NVFP4", 120, 0)], columns=kernels.COLUMNS)
    table = agreement.table({"gate": rows}, kernels)
    assert list(table["verdict"]) == [agreement.WASTED, agreement.EMPTY] and agreement.marked(table) == {"gate": 2}
    assert list(agreement.wide(table).iloc[0])[3:] == ["REFUSED DESPITE KERNELS (3)", "ADMITTED WITHOUT KERNELS (0)"]
    assert {trace.marker.symbol for trace in agreement.drawing(table).data} == {"triangle-up", "x"}


def test_an_unknown_back_end_is_a_clear_error():
    rows = gates.configured(gates.flashinfer("0.7.2.post1")[0])
    with pytest.raises(CollectionError, match="'trtlm-gen'.*\n.*trtllm-gen; CUTLASS"):
        gates.known(["trtlm-gen"], rows)
    assert set(gates.known(["CUTLASS"], rows)["back end"]) == {"CUTLASS"} and gates.known([], rows) is rows


def test_bad_input_is_a_clear_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.whl", "w"):
        pass
    with pytest.raises(CollectionError, match="x.whl holds no manifest"):
        selection.headers(tmp_path / "x.whl", tmp_path)
    with pytest.raises(CollectionError, match="generates no NVFP4 kernel"):
        kernels.compiled("0.6.6", "", "sm_90a")
    with pytest.raises(CollectionError, match="gave no answer"):
        gates.ask(gates.FLASHINFER, tmp_path, tmp_path, None, 121)


def test_03_the_moe_gate(findings):
    decided = claims.decide(list(findings.values()))
    assert {claim: decided[claim]["verdict"] for claim in ("3a", "3b", "3c")} == {"3a": "refined", "3b": "refuted", "3c": "refuted"}
    counted = findings["moe-gate.cutlass"]["values"]["kernels"]
    kernels = {(row["back end"], row["quantisation"], row["SM"]): row["kernels"] for row in counted}
    assert [kernels["trtllm-gen", "NVFP4", sm] for sm in gates.SM] == [0, 215, 215, 0, 0]
    assert [kernels["CUTLASS", "NVFP4", sm] for sm in gates.SM] == [0, 96, 192, 32, 32]
    assert [kernels["CuTe DSL, SM100", "NVFP4", sm] for sm in gates.SM] == [0, 5, 5, 0, 0]
    compiled = findings["moe-gate.cutlass"]["values"]["compiled"]
    assert compiled["target"] == "sm_121a" and compiled["bytes"] > 0 and sum(compiled["instructions"].values()) > 0
    assert all(name.startswith("OMMA.SF") for name in compiled["instructions"])
    assert findings["moe-gate.decisions"]["values"]["marked, NVFP4"] == {"as shipped": 2, "published": 6, "revised": 0}
    assert findings["moe-gate.decisions"]["values"]["marked"]["revised"] == 0
    served = {(row["requested"], row["gate"]): row["reached"].upper() for row in findings["moe-gate.decisions"]["values"]["on SM121"]}
    assert "TRTLLM" in served["TRTLLM", "published"] and "CUTLASS" in served["TRTLLM", "revised"]
    assert "CUTLASS" in served["CUTEDSL", "revised"]
    assert findings["moe-gate.revised"]["values"]["same on SM100 and SM103"] is True
    assert not any(row["marked"] for row in findings["moe-gate.newest"]["values"]["decision table"])
    assert all(row["target"] == "100f" and row["said"] for row in findings["moe-gate.unblocks"]["values"]["chosen"])
