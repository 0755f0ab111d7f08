"""What a condition says of an architecture, and since when a release has a fix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.doctor import (
    AFFECTED,
    CANNOT_TELL,
    FIXED,
    NOT_AFFECTED,
    conditions,
    examine,
    places,
    releases,
    text,
)

SMS = st.sampled_from((80, 89, 90, 100, 103, 110, 120, 121))
HEAD = """class TRTLLMGenFusedMoE(MoE):
    _SUPPORTED_SMS = frozenset({100, 103})
    _WIDE = (100, 103, 120, 121)

"""
REFUSED, ADMITTED, OPEN = NOT_AFFECTED, AFFECTED, CANNOT_TELL
TORCH = "tensorrt_llm/_torch/any/where"


def back_ends(root, sm=121):
    found = examine.examine([places.Place("TensorRT-LLM", "1", root, "")], sm)
    answer, = (each for each in found if each.bug == 3)
    return {check.what: check for check in answer.checks}


def gate(root, body, sm=121, signature="can_implement(cls, p, d):"):
    """The check of the TRTLLM back end for a function of ours."""
    (root / TORCH).mkdir(parents=True, exist_ok=True)
    lines = "".join(f"        {line}\n" for line in body.split("\n"))
    code = f"{HEAD}    @classmethod\n    def {signature}\n{lines}"
    (root / TORCH / "fused_moe_trtllm_gen.py").write_text(code)
    return back_ends(root, sm)["TRTLLM back end"]


LONG = "can_implement(\n            cls,\n            p: Optional[X] = None,\n    ) -> Tuple[bool, str]:"


@pytest.mark.parametrize("body, expected", [
    ("if sm_version not in {100, 103}:\n    return False, 'no'\nreturn True, None", REFUSED),
    ("if sm_version not in {100, 103, 120, 121}:\n    return False, 'no'\nreturn True, 1", ADMITTED),
    ("if get_sm_version() in {120, 121}:\n    return _reject(SM, '')\nreturn ok()", REFUSED),
    ("if (sm := get_sm_version()) in {100, 103}:\n    return True, None\nreturn False, f'SM{sm}'", REFUSED),
    ("try:\n    sm = get_sm_version()\nexcept RuntimeError:\n    return False, 'no GPU'\nelse:\n    if sm not in {100, 103}:\n        return False, 'no'\nreturn True, None", REFUSED),
    ("try:\n    import flashinfer\nexcept ImportError:\n    return False, 'no'\nfinally:\n    if sm not in {100, 103, 120, 121}:\n        raise ValueError\nreturn True, None", ADMITTED),
    ("match sm:\n    case 100 | 103:\n        return True, None\nreturn False, 'no'", OPEN),
    ("if d.env.sm in (90,):\n    return _reject(SM, '')\nif d.env.sm not in cls._WIDE:\n"
     "    return _reject(SM, '')", ADMITTED),
    ("if sm_version >= 120:\n    raise NotImplementedError('no')", REFUSED),
    ("if sm_version < 100:\n    raise NotImplementedError('no')", ADMITTED),
    ("if sm_version < 80:\n    raise NotImplementedError('no')", OPEN),
    ("if not 100 <= sm_version < 120:\n    raise NotImplementedError('no')", REFUSED),
    ("if not is_sm_100f():\n    return _warn_and_return('no')", REFUSED),
    ("if not is_sm_100f(sm):\n    return (\n        False,\n        'no')", REFUSED),
    ("if is_sm_100f(sm):\n    return True, None\nreturn False, 'no'", REFUSED),
    ("if is_sm_100f(sm):\n    pass\nelse:\n    raise ValueError", REFUSED),
    ("if sm in (100, 103):\n    pass\nelif sm == 121:\n    pass\nelse:\n    raise ValueError", OPEN),
    ("if sm in (120, 121):\n    x = 1\nelif sm in (100, 103):\n    pass\nelse:\n    raise X", OPEN),
    ("if not (is_sm_100f() or is_sm_120f()):\n    return False", ADMITTED),
    ("if not is_blackwell():\n    return False", ADMITTED),
    ("if is_blackwell(sm):\n    return MoEEligibility.ok()\nreturn _reject('')", ADMITTED),
    ("if sm not in cls._SUPPORTED_SMS:\n    return cls._reject('no')", REFUSED),
    ("if sm not in self._WIDE:\n    return cls._reject('no')", ADMITTED),
    ("supported = {100, 103}\nif sm not in supported:\n    return False", REFUSED),
    ("good = get_sm_version() in {100, 103}\nif not good:\n    return False", REFUSED),
    ("return get_sm_version() in (100, 103)", REFUSED),
    ("return get_sm_version() in (100, 103, 121), None", ADMITTED),
    ("assert sm_version in [100, 103], 'no'", REFUSED),
    ("assert sm_version == 100 or sm_version == 103 or sm_version == 121", ADMITTED),
    ("if (sm_version != 100\n        and sm_version != 103):\n    log('no')\n    return False", REFUSED),
    ("if sm_version not in (100, 103): return False", REFUSED),
    ("if quant == X:\n    if sm_version not in {100, 103}:\n        return _reject('')", REFUSED),
    ("if sm_version not in {100, 103} and not os.environ.get('FORCE'):\n    return False", OPEN),
    ("if sm_version not in elsewhere.LIST:\n    return False", OPEN),
    ("# if sm_version not in {100, 103}: return False\n'''sm in {100, 103}'''\nreturn True", OPEN)])
def test_a_gate_of_every_kind(tmp_path, body, expected):
    assert gate(tmp_path, body).verdict == gate(tmp_path, body, 121, LONG).verdict == expected


def test_the_constructor_decides_where_there_is_no_can_implement(tmp_path):
    body = "sm = get_sm_version()\nif sm >= 120:\n    raise ValueError"
    refusal = gate(tmp_path, body, 120, "__init__(self):")
    assert refusal.verdict == NOT_AFFECTED and refusal.text == "if sm >= 120:"
    assert gate(tmp_path, "self.x = 1", 120, "__init__(self):").verdict == CANNOT_TELL


@pytest.mark.parametrize("code, expected", [
    ("if moe_backend == 'TRTLLM' and not is_sm_100f():\n    return 'CUTLASS'", FIXED),
    ("if moe_backend == 'TRTLLM':\n    if sm_version >= 120:\n        moe_backend = 'CUTLASS'", FIXED),
    ("if moe_backend == 'TRTLLM' and is_sm_100f():\n    return 'CUTLASS'", NOT_AFFECTED),
    ("if architecture == 'X':\n    if 100 <= sm_version < 120:\n        return 'TRTLLM'\n    else:\n"
     "        return 'CUTLASS'", NOT_AFFECTED)])
def test_a_name_that_is_replaced_where_it_is_resolved(tmp_path, code, expected):
    gate(tmp_path, "if sm not in {100, 103}:\n    return False")
    lines = "".join(f"    {line}\n" for line in code.split("\n"))
    head = "def resolve_moe_backend(moe_backend, architecture):\n"
    (tmp_path / TORCH / "model_config.py").write_text(f"{head}{lines}    return moe_backend\n")
    assert back_ends(tmp_path)["TRTLLM back end"].verdict == expected


@pytest.mark.parametrize("code, expected", [
    ('T = {QuantAlgo.NVFP4: {"sm_constraint": ("in", {100, 103})}}', AFFECTED),
    ('T = {QuantAlgo.NVFP4: {\n  "dtypes": {torch.float8_e4m3fn},\n  "sm": ("in", {100, 121})}}', FIXED),
    ('T = {QuantAlgo.NVFP4: {"sm_constraint": ("min", 100)}}', FIXED),
    ('T = {QuantAlgo.NVFP4: {"sm_constraint": ("exact", 100)}}', AFFECTED),
    ("T = {QuantAlgo.NVFP4: (100, 103, 120, 121),\n     QuantAlgo.FP8: (90,)}", FIXED),
    ('T = {QuantAlgo.NVFP4: Method,\n     QuantAlgo.FP8: {"sm": ("in", {100})}}', NOT_AFFECTED),
    ("def can_implement(cls, quant_algo):\n    if quant_algo == QuantAlgo.NVFP4:\n"
     "        if sm not in {100, 103}:\n            return False", AFFECTED),
    ("def can_implement(cls, quant_algo):\n    if quant_algo == QuantAlgo.FP8:\n"
     "        if sm not in {100, 103}:\n            return False", NOT_AFFECTED),
    ("def can_implement(cls, quant_algo):\n    if sm < 80:\n        return False\n"
     "    if sm not in TABLE[quant_algo]:\n        return False", CANNOT_TELL),
    ("def __init__(self):\n    if self.has_w4afp8:\n        if sm not in (89, 90):\n"
     "            raise ValueError", NOT_AFFECTED)])
def test_the_list_of_cutlass(tmp_path, code, expected):
    gate(tmp_path, "if sm not in {100, 103}:\n    return False")
    (tmp_path / TORCH / "fused_moe_cutlass.py").write_text(code + "\n")
    assert back_ends(tmp_path)["CUTLASS back end"].verdict == expected


TERMS = st.one_of(
    st.sets(SMS, min_size=1).map(lambda sms: f"sm in {sms}"), SMS.map(lambda sm: f"sm >= {sm}"),
    SMS.map(lambda sm: f"{sm} < sm <= 121"), SMS.map(lambda sm: f"sm != {sm}"),
    st.sampled_from(("True", "False", "is_sm_100f(sm)")))
EXPRESSIONS = st.recursive(TERMS, lambda inner: st.one_of(
    inner.map("not ({})".format), st.tuples(inner, inner).map(lambda each: f"({each[0]} or {each[1]})"),
    st.tuples(inner, inner).map(lambda each: f"({each[0]}) and ({each[1]})")), max_leaves=6)


def said(expression, sm):
    node = conditions.ast.parse(expression, mode="eval").body
    return conditions.Reader(text.Source("/nowhere"), sm).value(node)


@given(EXPRESSIONS, SMS)
def test_a_condition_is_what_python_says(expression, sm):
    real = eval(expression, {"sm": sm, "is_sm_100f": lambda sm: sm in (100, 103)})
    assert said(expression, sm) == real


@given(EXPRESSIONS, SMS, st.booleans())
def test_what_is_not_known_never_decides_wrongly(expression, sm, flag):
    names = {"sm": sm, "is_sm_100f": lambda sm: sm in (100, 103), "flag": flag}
    for form in ("({}) and flag", "({}) or flag", "not flag or ({})", "flag and not ({})"):
        form = form.format(expression)
        assert said(form, sm) in (None, bool(eval(form, names)))


VERSIONS = ("1.2.0rc6", "1.2.0", "1.2.1", "1.3.0.dev1", "1.3.0rc8", "1.3.0rc8.post1", "1.3.0rc9.dev1",
            "1.3.0rc9", "1.3.0rc18", "1.3.0rc19", "1.3.0rc20", "1.3.0", "1.3.0.post1", "1.10.0rc1", "2.0")


@given(st.lists(st.sampled_from(VERSIONS), max_size=9))
def test_versions_are_in_the_order_of_pep_440(versions):
    from packaging.version import Version
    assert sorted(versions, key=releases.order) == sorted(versions, key=Version)


@given(st.sampled_from(VERSIONS), st.sampled_from(VERSIONS), st.sampled_from((1, 4)))
def test_a_newer_release_of_a_series_never_loses_a_fix(one, other, bug):
    older, newer = sorted((one, other), key=releases.order)
    if releases.has(older, bug) is True:
        assert releases.has(newer, bug) is True
    if releases.order(older)[:2] == releases.order(newer)[:2] and releases.has(newer, bug) is False:
        assert releases.has(older, bug) is False


@pytest.mark.parametrize("version", ("version unknown", "", "9" * 400, "1.3.0rc", "main", "1.3\x1b[31m"))
def test_what_is_no_version_decides_nothing(version):
    assert releases.has(version, 1) is None and "12141" in releases.beside(version, 1)


def test_every_release_fact_has_its_bounds_and_links():
    for bug, fact in releases.FACTS["release"].items():
        assert releases.has(fact["since"], bug) is True and fact["links"]
        assert all(releases.has(each, bug) is False for each in fact["without"])
