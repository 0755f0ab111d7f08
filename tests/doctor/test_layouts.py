"""The doctor on the shapes that TensorRT-LLM's files have had, in small files of ours."""

import pytest

from lib.doctor import AFFECTED, CANNOT_TELL, FIXED, NOT_AFFECTED, examine, places
from tests.doctor.test_doctor import TUNER, checks, write

TORCH = "tensorrt_llm/_torch/"
LEAF = """
@register
class {name}(Base):
    @classmethod
    def can_implement(cls, p, d):
        gate = (_reject(Reason.SM, f"no SM{{d.env.sm}}") if d.env.sm not in {own} else None)
        return leaf(cls, p, d, gate)
"""
GATES = """
def capabilities(cls, p, d) -> Optional[Eligibility]:
    '''The whole family of SM100 to SM121, it says.'''
    if {condition}:
        return _reject(Reason.SM, f"needs SM100, got SM{{d.env.sm}}")
    if p.dtype_act != torch.bfloat16:
        return _reject(Reason.DTYPE, "bfloat16")
    return None


def leaf(cls, p, d, *others):
    for verdict in (matches(cls, p), capabilities(cls, p, d), *others):
        if verdict is not None:
            return verdict
    return Eligibility.ok()
"""
BASE = """

class Base:
    def _check_before_weights(self) -> None:
        if not self.special:
            return
        if not is_sm_100f():
            raise ValueError(f"got SM{get_sm_version()}")
"""
NARROW, WIDE = "not is_sm_100f(d.env.sm)", "not is_sm_100f(d.env.sm) and d.env.sm not in (120, 121)"
FALLBACK = "FALLBACK_IMPL: Type = CutlassFusedMoE\n"


def leaves(condition):
    """Many implementations in one file, whose gate is a function that they call."""
    return {TORCH + "moe/fused_moe/fused_moe_trtllm_gen.py":
            GATES.format(condition=condition) + BASE + LEAF.format(name="A", own="(100, 103)")
            + LEAF.format(name="B", own="(100, 103, 120, 121)")}


def package(condition):
    """A folder of implementations, whose gates are a file of their own."""
    folder = TORCH + "moe/fused_moe/trtllm_gen/"
    return {folder + "eligibility.py": "# trtllm_gen\n" + GATES.format(condition=condition).replace("leaf", "trtllm_gen_leaf"),
            folder + "nvfp4.py": LEAF.format(name="A", own="(100, 103)"),
            TORCH + "moe/fused_moe/marlin/eligibility.py": "def gate(d):\n    if d.env.sm != 90:\n        return _reject('')\n"}


@pytest.mark.parametrize("layout", (leaves, package))
@pytest.mark.parametrize("sm", (120, 121))
@pytest.mark.parametrize("condition, resolution, expected", [
    (NARROW, "", NOT_AFFECTED), (NARROW, FALLBACK, FIXED), (WIDE, FALLBACK, AFFECTED),
    ("not is_sm_version_in(d.env.sm, 100, 103)", FALLBACK, CANNOT_TELL),
    ("d.env.sm not in SUPPORTED", FALLBACK, CANNOT_TELL)])
def test_a_gate_that_is_called(tmp_path, layout, sm, condition, resolution, expected):
    write(tmp_path, layout(condition) | {TORCH + "moe/fused_moe/moe_resolution.py": resolution})
    assert checks(tmp_path, 3, sm=sm)["TRTLLM back end"].verdict == expected


def gate(root, body, head=""):
    inner = "".join(f"        {line}\n" for line in body.split("\n"))
    write(root, {TORCH + "fused_moe_trtllm_gen.py": f"{head}\nclass Gate:\n    def can_implement(cls, quant_algo, flag):\n{inner}"})
    return checks(root, 3)["TRTLLM back end"].verdict


REFUSES = "    return False, 'no'\nreturn True, None"


@pytest.mark.parametrize("head, body, expected", [
    ("S = (100, 103)", f"if get_sm_version() not in S:\n{REFUSES}", NOT_AFFECTED),
    ("S = [100, 103]\nS += [121]", f"if sm not in S:\n{REFUSES}", CANNOT_TELL),
    ("S = [100, 103]\nS[0] = 121", f"if sm not in S:\n{REFUSES}", CANNOT_TELL),
    ("S = {100, 103}\nS.add(121)", f"if sm not in S:\n{REFUSES}", CANNOT_TELL),
    ("S = {100}\nif X:\n    S = {100, 121}", f"if sm not in S:\n{REFUSES}", CANNOT_TELL),
    ("", f"version = d.env.sm\nif version not in frozenset([\n    100,\n    103,\n]):\n{REFUSES}", NOT_AFFECTED),
    ("", f"if torch.cuda.get_device_capability()[0] != 10:\n{REFUSES}", CANNOT_TELL),
    ("", f"major, minor = f()\nif major != 10:\n{REFUSES}", CANNOT_TELL),
    ("", f"logger.info('if sm not in (100, 103): return False')  # if sm not in (100,): return False\nif sm not in (100, 121):\n{REFUSES}", AFFECTED),
    ("", f"if flag:\n    return True\nif sm not in (100, 103):\n{REFUSES}", CANNOT_TELL),
    ("", f"if flag:\n    return False\nif sm not in (100, 103):\n{REFUSES}", NOT_AFFECTED),
    ("", f"if sm not in (100, 121):\n    return False\nif quant_algo is None:\n{REFUSES}", AFFECTED),
    ("", "try:\n    if sm not in (100, 103):\n        return False\nfinally:\n    pass\nreturn True", NOT_AFFECTED),
    ("", f"if sm not in (100, 121):\n{REFUSES}\nif (", CANNOT_TELL)])
def test_what_is_not_sure_is_not_told(tmp_path, head, body, expected):
    assert gate(tmp_path, body, head) == expected


def test_an_excerpt_counts_as_far_as_it_goes(tmp_path):
    lines = "        sm = get_sm_version()\n        if not is_sm_100f(sm):\n            return (False, 'no')\n\n        if (\n            flag"
    write(tmp_path, {TORCH + "attention_backend/trtllm_gen.py": lines})
    assert checks(tmp_path, 5)["Python path"].verdict == FIXED
    write(tmp_path, {TORCH + "attention_backend/trtllm_gen.py": lines.replace("not is_sm_100f(sm)", "sm < 100")})
    assert checks(tmp_path, 5)["Python path"].verdict == CANNOT_TELL


@pytest.mark.parametrize("entry, expected", [
    ('{"sm": (\n    "in",\n    {100, 103},\n)}', AFFECTED), ('{"sm": ("in", S)}', AFFECTED), ("S | {120}", CANNOT_TELL),
    ('{"sm": ("between", 100, 103)}', CANNOT_TELL), ("[100, 103, 120, 121]", FIXED)])
def test_a_table_in_other_hands(tmp_path, entry, expected):
    ask = "def can_implement(cls, quant_algo):\n    if get_sm_version() not in T[quant_algo]:\n        return False\n"
    write(tmp_path, {TORCH + "fused_moe_cutlass.py": f"S = (100, 103)\nT = {{QuantAlgo.NVFP4: {entry}}}\n\n\n{ask}"})
    assert checks(tmp_path, 3)["CUTLASS back end"].verdict == expected


DICTS = """
class AutoTuner:
    def _find_nearest_profile(self, dynamic_tensors, constraints, inputs):
        for input_idx in dynamic_tensors:
            for dim_idx in dynamic_tensors[input_idx]:{check}
                base.shapes[input_idx][dim_idx] = 1
        return base
"""
CHECK = "\n                if input_idx >= len(base.shapes) or dim_idx >= len(base.shapes[input_idx]):\n                    continue"


@pytest.mark.parametrize("source, expected", [
    (DICTS.format(check=""), AFFECTED), (DICTS.format(check=CHECK), FIXED),
    (DICTS.format(check="\n                if len(dynamic_tensors) > 1:\n                    pass"), AFFECTED),
    (DICTS.format(check="\n                log('input_idx >= len(base.shapes)')  # input_idx >= len(base.shapes)"), AFFECTED),
    (TUNER.format(early="", warm="", find="", also="").replace("for spec in dynamic", "for spec in tuple(\n                dynamic").replace(
        "specs:\n            base", "specs):\n            base", 1), AFFECTED),
    ("class AutoTuner:\n    def _find_nearest_profile(self, shapes, specs):\n        return apply(shapes, specs)\n", CANNOT_TELL)])
def test_a_tuner_of_another_time(tmp_path, source, expected):
    write(tmp_path, {TORCH + "autotuner.py": source})
    assert checks(tmp_path, 4)["look-up"].verdict == expected


def test_a_release_before_the_pytorch_path_has_no_back_ends_and_no_tuner(tmp_path):
    write(tmp_path, {"tensorrt_llm/__init__.py": "", "tensorrt_llm/version.py": "__version__ = '0.14.0'\n", "cpp/a.h": ""})
    assert places.version("TensorRT-LLM", tmp_path) == "0.14.0"
    for bug in (3, 4):
        assert {check.verdict for check in checks(tmp_path, bug).values()} == {NOT_AFFECTED}
    found = {each.bug: each for each in examine.examine([places.Place("TensorRT-LLM", "0.14.0", tmp_path, "")], 121)}
    assert found[3].todo == "Nothing." and found[1].verdict == CANNOT_TELL


@pytest.mark.parametrize("strings", (True, False))
def test_what_stands_in_quotes_decides_nothing(tmp_path, strings):
    says = {"cpp/attentionOp.h": 'bool mUseTllmGen = x; log("mUseTllmGen = isSM100Family");',
            TORCH + "resource_manager.py": 'log("device.is_integrated")\nself._secondary_pool_memory_bytes = config.host_cache_size\n'}
    code = {name: text.replace('log("', "").replace('")', "") for name, text in says.items()}
    write(tmp_path, says if strings else code)
    expected = AFFECTED if strings else FIXED
    assert checks(tmp_path, 5)["C++ operator"].verdict == checks(tmp_path, 2)["PyTorch path"].verdict == expected
