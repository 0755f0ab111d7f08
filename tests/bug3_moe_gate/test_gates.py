"""The MoE gate: FlashInfer's own checks, TensorRT-LLM's in four layouts, the runner's choice, and what they come to."""

import shutil
import subprocess

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib.bug3_moe_gate import agreement, gates, kernels
from lib.errors import CollectionError
from lib.instruments import cubins
from lib.subjects import patches, wheels
from tests.conftest import tree_of

pytestmark = pytest.mark.xdist_group("03")
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




# The later layout, also of our own writing: can_implement is asked by a resolution, and its contract is there.
CONTRACT = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class MoEProblem:
    quant: str
    dtype_act: object
    new_in_this_release: object

    @property
    def quant_algo(self):
        from tensorrt_llm.models.modeling_utils import QuantAlgo
        return QuantAlgo(self.quant)

@dataclasses.dataclass(frozen=True)
class MoEEnvironment:
    sm: int

@dataclasses.dataclass(frozen=True)
class MoEDeployment:
    env: MoEEnvironment
    ep_size: int = 4

@dataclasses.dataclass(frozen=True)
class MoEEligibility:
    eligible: bool
    reason: object = None
    detail: str = ""

    @classmethod
    def ok(cls):
        return cls(True)

    @classmethod
    def no(cls, reason, detail):
        return cls(False, reason, detail)
"""
NEWER = """
from tensorrt_llm._utils import is_datacenter
from .impl_contract import MoEDeployment, MoEEligibility, MoEProblem
from .interface import MoE, _reject
from tensorrt_llm.models.modeling_utils import QuantAlgo

class {name}(MoE):
    @classmethod
    def can_implement(cls, p: MoEProblem, d: MoEDeployment) -> MoEEligibility:
        assert d.ep_size == 1
        if p.quant_algo != QuantAlgo.NVFP4 or {refuses}:
            return _reject("sm", f"not for SM{{d.env.sm}}")
        return MoEEligibility.ok()
"""
RESOLUTION = """
from tensorrt_llm.logger import logger
from .fused_moe_cutlass import CutlassFusedMoE
from .fused_moe_trtllm_gen import TRTLLMGenFusedMoE

def resolve_moe_cls(model_config, *, problem, deployment):
    for kind in ([TRTLLMGenFusedMoE] if model_config.moe_backend == "TRTLLM" else []) + [CutlassFusedMoE]:
        if kind.can_implement(problem, deployment).eligible:
            return kind
        logger.warning(f"{kind.__name__} cannot")
    raise ValueError("nothing serves this layer")
"""


def resolving(folder):
    """The later layout with its back ends in a folder below _torch."""
    names = {"impl_contract.py": CONTRACT, "moe_resolution.py": RESOLUTION,
             "fused_moe_trtllm_gen.py": NEWER.format(name="TRTLLMGenFusedMoE", refuses="not is_datacenter(d.env.sm)"),
             "fused_moe_cutlass.py": NEWER.format(name="CutlassFusedMoE", refuses="d.env.sm < 100")}
    kept = {name: TREE[name] for name in ("_utils.py", "_torch/model_config.py")}
    return kept | {f"_torch/{folder}/{name}": text for name, text in names.items()}


def planted(folder, texts):
    for name, text in texts.items():
        path = folder / "tensorrt_llm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("trtllm"), TREE)


@pytest.fixture(scope="module")
def shipped(tree):
    return gates.tensorrt_llm(tree)


@pytest.fixture(scope="module")
def inventory():
    return cubins.inventory(wheels.wheel("flashinfer-cubin", "0.6.6"))


def admitted(rows, back_end, quantisation="NVFP4", check=None):
    chosen = rows[(rows["back end"] == back_end) & (rows["quantisation"] == quantisation)]
    chosen = chosen[chosen["check"] == check] if check else chosen
    return {int(sm) for sm, answer in zip(chosen["SM"], chosen["admitted"]) if answer}


def reached(routes, requested, sm, model="any"):
    chosen = routes[(routes["requested"] == requested) & (routes["SM"] == sm) & (routes["model"] == model)]
    return tuple(chosen[["reached", "said"]].iloc[0])


def test_the_real_functions_of_a_tree_are_asked_for_every_gpu(shipped):
    assert shipped.layout == "can_implement(quant_algo)"
    assert all(admitted(shipped.rows, back_end) == {100, 103} for back_end in ("trtllm-gen", "CUTLASS", "CuTe DSL, SM100"))
    assert admitted(shipped.rows, "trtllm-gen", "FP8 block scales") == {100, 103}
    assert admitted(shipped.rows, "trtllm-gen", "MXFP4 × MXFP8") == set()
    assert admitted(shipped.rows, "trtllm-gen", "", "constructor") == {90, 100, 103}
    refusals = shipped.rows.query("SM == 121 and `back end` == 'trtllm-gen' and check == 'can_implement'")
    assert set(refusals["said"]) == {"not for SM121"}
    assert reached(shipped.routes, "TRTLLM", 90) == ("TRTLLM", "")
    assert reached(shipped.routes, "TRTLLM", 121) == ("NotImplementedError", "NotImplementedError: TRTLLMGenFusedMoE does not support SM120 and above.")
    assert reached(shipped.routes, "AUTO", 121, "MiniMax M2") == ("CUTLASS", "")
    assert reached(shipped.routes, "AUTO", 103, "GPT-OSS") == ("TRTLLM", "")


def test_published_opens_the_gate_and_revised_goes_where_kernels_are(tree, shipped):
    assert patches.fitting(tree, gates.PATCHES) == dict(zip(("published", "revised"), OF_TRTLLM))
    published, revised = (gates.tensorrt_llm(tree, name) for name in OF_TRTLLM)
    assert admitted(published.rows, "trtllm-gen") == admitted(published.rows, "CuTe DSL, SM100") == {100, 103, 120, 121}
    assert reached(published.routes, "TRTLLM", 121) == ("TRTLLM", "")
    assert reached(published.routes, "AUTO", 121, "GPT-OSS") == ("TRTLLM", "")
    assert admitted(revised.rows, "trtllm-gen") == admitted(revised.rows, "CuTe DSL, SM100") == {100, 103}
    assert admitted(revised.rows, "CUTLASS") == admitted(revised.rows, "CUTLASS", "MXFP4 × MXFP8") == {100, 103, 120, 121}
    name, said = reached(revised.routes, "TRTLLM", 121)
    assert name == "CUTLASS" and "TRTLLM has no kernels for SM121" in said and "CUTLASS" in said
    before, after = (asked.routes[asked.routes["SM"].isin([100, 103])] for asked in (shipped, revised))
    pd.testing.assert_frame_equal(before, after)
    assert {str(path.relative_to(tree / "tensorrt_llm")): path.read_text() for path in tree.rglob("*.*")} == TREE, "the tree was changed"


@pytest.mark.parametrize("folder", ["modules/fused_moe", "moe/fused_moe"])
def test_a_tree_that_resolves_is_asked_with_its_own_contract(tmp_path, folder):
    asked = gates.tensorrt_llm(planted(tmp_path, resolving(folder)), sm=(90, 103, 121))
    assert asked.layout == "can_implement(problem, deployment)"
    assert admitted(asked.rows, "trtllm-gen", check="can_implement") == {103}
    assert admitted(asked.rows, "CUTLASS", check="can_implement") == {103, 121}
    assert admitted(asked.rows, "CUTLASS", "FP8 block scales") == set()
    assert reached(asked.routes, "TRTLLM", 103) == ("TRTLLM", "")
    assert reached(asked.routes, "TRTLLM", 121) == ("CUTLASS", "TRTLLMGenFusedMoE cannot")
    assert reached(asked.routes, "TRTLLM", 90) == ("ValueError", "ValueError: nothing serves this layer")
    assert set(asked.routes.query("SM == 90 and model == 'any'")["refused"]) == {True}


def test_an_excerpt_that_binds_too_little_is_still_asked_and_what_it_leaves_open_stays_open(tmp_path):
    texts = resolving("modules/fused_moe")
    del texts["_torch/modules/fused_moe/impl_contract.py"]
    texts["_torch/modules/fused_moe/moe_resolution.py"] = """
FAMILY: Dict[str, FrozenSet[Type]] = {"TRTLLM": [TRTLLMGenFusedMoE], "CUTLASS": [], "CUTEDSL": [CuteDslFusedMoE]}

def _candidates_for(backend) -> List[Type]:
    return [*FAMILY[backend], CutlassFusedMoE]
"""
    asked = gates.tensorrt_llm(planted(tmp_path, texts), sm=(103, 121))
    assert admitted(asked.rows, "trtllm-gen", check="can_implement") == {103}
    assert reached(asked.routes, "TRTLLM", 121)[0] == "CUTLASS" and reached(asked.routes, "TRTLLM", 103)[0] == "TRTLLM"
    name, said = reached(asked.routes, "CUTEDSL", 121)
    assert name == "not asked" and "gives no answer" in said
    assert asked.routes.query("requested == 'CUTEDSL'")["refused"].isna().all()


def test_a_constructor_is_asked_only_of_a_class_that_has_its_own(tmp_path, shipped):
    asked = shipped.rows[shipped.rows["check"] == "constructor"]
    assert set(asked["back end"]) == {"trtllm-gen"} and len(asked) == len(gates.SM)
    texts = resolving("modules/fused_moe")
    newer = gates.tensorrt_llm(planted(tmp_path, texts), sm=(121,)).rows
    assert not newer["check"].eq("constructor").any()
    texts["_torch/modules/fused_moe/fused_moe_trtllm_gen.py"] += "\n    def __init__(self, **rest):\n        pass\n"
    newer = gates.tensorrt_llm(planted(tmp_path, texts), sm=(121,)).rows
    assert admitted(newer, "trtllm-gen", "", "constructor") == {121}


def test_a_tree_that_tells_nothing_gives_no_answer_and_what_it_asks_is_asked_again_once_it_changes(tmp_path):
    (tmp_path / "tensorrt_llm").mkdir()
    assert gates.tried(tmp_path) == {} and gates.tried(None) == {}
    planted(tmp_path, TREE)
    assert admitted(gates.tensorrt_llm(tmp_path, sm=(100, 121)).rows, "trtllm-gen", check="can_implement") == {100}
    gate = tmp_path / "tensorrt_llm/_torch/modules/fused_moe/fused_moe_trtllm_gen.py"
    gate.write_text(gate.read_text().replace("not in {100, 103}", "not in {121}"))
    assert admitted(gates.tensorrt_llm(tmp_path, sm=(100, 121)).rows, "trtllm-gen", check="can_implement") == {121}


def test_the_record_is_what_a_tree_of_its_revision_says(shipped):
    said = gates.recorded()["as shipped"]
    assert agreement.differences(said.routes, shipped.routes, ["requested", "model", "SM"], "reached")["SM"].isin([90]).all()
    nvfp4 = said.rows[said.rows["quantisation"] == "NVFP4"]
    assert agreement.differences(nvfp4, shipped.rows, ["check", *agreement.KEY]).empty


# What each real tree says: layout, the SMs that TRTLLM's can_implement and own constructor (None: it has none) admit, who serves TRTLLM on SM121, patches that fit.
REAL = {
    "a-1.2.0rc2": ("no can_implement", set(), {90, 100, 103}, "not asked", {"published"}),
    "b-march-2026": ("can_implement(quant_algo)", {100, 103}, {90, 100, 103}, "NotImplementedError", {"published", "revised"}),
    "c-moe-resolution": ("can_implement(problem, deployment)", {100, 103}, None, "CUTLASS", {"published"}),
    "d-moved-folder": ("can_implement(problem, deployment)", {100, 103}, None, "CUTLASS", {"published"}),
}


@pytest.mark.parametrize("name", REAL)
def test_the_gates_of_real_trees(name, tmp_path):
    checkout, layout, listed, through, served, fit = tree_of(name), *REAL[name]
    installed = tmp_path / "site-packages"  # a package as it is installed has no cpp/
    shutil.copytree(checkout / "tensorrt_llm", installed / "tensorrt_llm")
    for place in (checkout, installed):
        assert set(patches.fitting(place, gates.PATCHES)) == fit
        asked = gates.tried(place)
        assert set(asked) == {"as shipped", *fit}
        assert asked["as shipped"].layout == layout
        assert admitted(asked["as shipped"].rows, "trtllm-gen", check="can_implement") == listed
        constructor = asked["as shipped"].rows.query("`back end` == 'trtllm-gen' and check == 'constructor'")
        assert constructor.empty if through is None else admitted(constructor, "trtllm-gen", "") == through
        assert reached(asked["as shipped"].routes, "TRTLLM", 121)[0] == served
        open_to = admitted(asked["published"].rows, "trtllm-gen", check="can_implement")
        assert 121 in (open_to or admitted(asked["published"].rows, "trtllm-gen", "", "constructor"))


@pytest.mark.parametrize("version", VERSIONS)
def test_flashinfer_answers_for_every_gpu(version, inventory):
    rows, generated = gates.flashinfer(version)
    assert set(rows["SM"]) == set(gates.SM) and rows["admitted"].isin([True, False]).all()
    assert admitted(rows, "trtllm-gen", check="is_trtllm_moe_supported") == {100, 103, 120, 121}
    assert admitted(rows, "trtllm-gen", "", "module") == ({100, 103} if version == "0.6.6" else {100, 103, 120, 121})
    assert admitted(rows, "CUTLASS", "", "module") == set(gates.SM)
    assert not rows["said"].str.contains("ModuleNotFoundError|AttributeError|ImportError").any()
    counts = kernels.existing(inventory, generated, version).set_index(["back end", "quantisation", "SM"])["kernels"]
    assert counts["CUTLASS", "NVFP4", 120] == counts["CUTLASS", "NVFP4", 121] == {"0.6.6": 32, "0.7.2.post1": 64}[version]
    assert counts["CUTLASS", "NVFP4", 90] == 0 and counts["trtllm-gen", "NVFP4", 100] == 215
    nvfp4 = generated[generated["activation"].eq("SafeFP4") & generated["weight"].eq("SafeFP4")]
    assert nvfp4.loc[nvfp4["SM"] == 121, "macro"].str.contains("Sm120, SafeFP4, SafeFP4").all() and 90 not in set(nvfp4["SM"])


def test_an_extra_kernel_is_counted(inventory):
    generated = gates.flashinfer("0.6.6")[1]
    mended = inventory.assign(sm=inventory["sm"].where(inventory["family"] != kernels.MOE, 121),
                              named=inventory["named"].where(inventory["family"] != kernels.MOE, "121a"))
    more = pd.concat([generated, generated[generated["SM"] == 121]])
    counts = kernels.existing(mended, more, "0.6.6").set_index(["back end", "quantisation", "SM"])["kernels"]
    assert counts["trtllm-gen", "NVFP4", 121] == 215 and counts["trtllm-gen", "NVFP4", 100] == 0
    assert counts["CUTLASS", "NVFP4", 121] == 64


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
        assert not patch.git(copy, "--reverse")
        assert all((copy / file).read_bytes() == (source / file).read_bytes() for file in patch.files)


def test_the_runner_hands_sm121_a_kernel_for_sm100_until_it_is_revised():
    shipped, revised = kernels.picked("0.6.6"), kernels.picked("0.6.6", REVISED)
    spark = shipped[shipped["SM"] == 121]
    assert len(spark) == 5 and set(spark["target"]) == {"100f"} and not spark["loadable"].any()
    assert shipped.loc[shipped["SM"].isin([100, 103]), "loadable"].all() and spark["said"].str.contains("Error occurred when running GEMM!").all()
    assert (shipped.loc[shipped["SM"].isin([100, 103]), "said"] == "").all()
    assert revised.loc[revised["SM"] == 121, "said"].str.contains("none of the trtllm-gen batched GEMM kernels runs on SM 121").all()
    for sm in (100, 103):
        pd.testing.assert_frame_equal(shipped[shipped["SM"] == sm], revised[revised["SM"] == sm])


@given(some.sampled_from([True, False, None]), some.integers(0, 9))
def test_a_cell_is_marked_if_gate_and_kernels_disagree(answer, count):
    row, = agreement.held({"gate": pd.DataFrame([("a", "b", 121, answer)], columns=[*agreement.KEY, "admitted"])},
                          pd.DataFrame([("a", "b", 121, count)], columns=[*agreement.KEY, "kernels"])).itertuples()
    assert (row.verdict == agreement.UNKNOWN) == (answer is None)
    assert row.marked == (answer is not None and answer != (count > 0))


def test_a_decision_table_leaves_out_what_was_not_counted():
    rows = pd.DataFrame([("trtllm-gen", quantisation, sm, sm == 120) for quantisation in ("NVFP4", "made up") for sm in (100, 120)],
                        columns=[*agreement.KEY, "admitted"])
    there = pd.DataFrame([("trtllm-gen", "NVFP4", 100, 3), ("trtllm-gen", "NVFP4", 120, 0)], columns=[*agreement.KEY, "kernels"])
    table = agreement.held({"gate": rows}, there)
    assert list(table["verdict"]) == [agreement.WASTED, agreement.EMPTY] and agreement.marked(table) == {"gate": 2}
    assert list(agreement.cells(table).iloc[0])[3:] == ["REFUSED DESPITE KERNELS (3)", "ADMITTED WITHOUT KERNELS (0)"]
    assert {trace.marker.symbol for trace in agreement.chart(table).figure.data} == {"triangle-up", "x"}


def test_bad_input_is_a_clear_error(tmp_path):
    with pytest.raises(CollectionError, match="generates no NVFP4 kernel"):
        kernels.compiled("0.6.6", gates.flashinfer("0.6.6")[1], "sm_90a")
    with pytest.raises(CollectionError, match="gave no answer"):
        gates.ask(gates.FLASHINFER, tmp_path, {}, ())
