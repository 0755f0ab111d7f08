"""What files made to harm the doctor cost it: no minute, no escape, no crash."""

import json
import os
import subprocess
import sys
import time

import pytest

from lib.doctor import CANNOT_TELL, conditions, examine, places, text
from lib.doctor.__main__ import main, plain
from tests.conftest import ROOT

SECONDS = 20  # of processor time, for a product in which each of these files is such a one
TORCH = "tensorrt_llm/_torch/"
GATE = TORCH + "fused_moe_trtllm_gen.py"
FILES = (TORCH + "autotuner.py", GATE, TORCH + "fused_moe_cutlass.py", TORCH + "model_config.py",
         TORCH + "resource_manager.py", TORCH + "moe_resolution.py", TORCH + "trtllm_gen.py",
         "cpp/fp4_gemm_template.h", "cpp/kvCacheManager.cpp", "cpp/attentionOp.h", "cpp/cudaUtils.h",
         "cpp/moe_gemm_tma_ws_launcher.inl", "cpp/moe_gemm_template_dispatch_tma_ws.h")
FULL, LINES = text.LARGEST - 4096, text.MOST_LINES - 99


def full(piece):
    return (piece * (FULL // len(piece) + 1))[:FULL]


def lines(piece):
    """As many of a line as a file may have, and as it may have bytes."""
    return f"{piece}\n" * min(LINES, FULL // (len(piece) + 1))


CRAFTED = [
    "\n" * 1_000_000, full("/*"), full('"\\'), full('"\'"\n\'\'\'\n'), full("("), full("not "), full("CHECK"),
    full("is_integrated "), full("case CutlassTileConfigSM120::CtaShape128B: 128 128 "), full("len("),
    lines("if sm:"), lines("def can_implement("), lines("if sm not in " + "(" * 60), lines("x = [" * 90),
    lines("isUnifiedMemorySystem()) {"), lines("NVFP4: (1111111111"), lines("QuantAlgo.NVFP4:"),
    lines("can_implement("), lines("mUseTllmGen = "), lines("for dynamic_tensor_specs"), lines("len(" * 140),
    lines("NO_FALLBACK_BACKENDS = x"), lines("SM120::CtaShape128B: 128, 128, 128x"), lines(" " * 590 + "x"),
    "def can_implement(x):\n    if x == 0:\n        pass\n" + "    elif x:\n        pass\n" * 1500 + "    if sm != 100:\n        return False\n",
    "".join(f"def f{at}(): return f{at + 1}()\n" for at in range(20_000)) + f"def can_implement(x):\n    y = [{'f1(), ' * 20_000}]\n    if sm != 100:\n        return False\n",
    "".join(f"{' ' * depth}if sm in (1,):\n" for depth in range(1500)),
    "".join(f"{' ' * depth}def can_implement(x):\n" for depth in range(1500))]


@pytest.mark.parametrize("content", CRAFTED, ids=[f"{at}-{each[:12]!r}" for at, each in enumerate(CRAFTED)])
def test_a_crafted_file_costs_no_minute(tmp_path, content):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def can_implement(\n):\n" + content if name == GATE else content)
    begin = time.process_time()
    answers = examine.examine([places.Place("TensorRT-LLM", "1", tmp_path, "")], 121)
    assert time.process_time() - begin < SECONDS
    assert len(answers) == 5


def test_a_million_newlines_are_said(tmp_path):
    (tmp_path / TORCH).mkdir(parents=True)
    (tmp_path / TORCH / "autotuner.py").write_text("\n" * 1_000_000)
    answer = examine.examine([places.Place("TensorRT-LLM", "1", tmp_path, "")], 121)[3]
    assert answer.verdict == CANNOT_TELL and "1,000,000 lines" in answer.checks[0].note


@pytest.mark.parametrize("expression", [
    "(" * 500 + ")" * 500, "not " * 480 + "x", "-" * 1900 + "1", "x" + ".y" * 900, "[" * 300, "x" + "[0]" * 600,
    "1" * 1900, "'\\d' % 5", "f'{" * 300, "x if " * 300, "lambda: " * 200 + "0", "a" + "+a" * 900, "\0", "(yield)"])
def test_deep_expressions_are_unknown(tmp_path, expression):
    (tmp_path / "a.py").write_text(f"def f():\n    if sm in {expression}:\n        raise X\n")
    source = text.Source(tmp_path / "a.py")
    assert conditions.gate(source, 121, source.functions("f"))[0] is None


def test_names_that_lead_in_circles_end(tmp_path):
    names = "".join(f"n{number} = n{(number + 1) % 50}\n" for number in range(50))
    (tmp_path / "a.py").write_text(f"{names}def f():\n    if sm in n0 or sm in self.n0:\n        raise X\n")
    source = text.Source(tmp_path / "a.py")
    said, line = conditions.gate(source, 121, source.functions("f"))
    assert said is None and line.number == 52


def test_folders_in_circles_and_very_deep_ones_end(tmp_path):
    torch = tmp_path / TORCH
    deep = torch.joinpath(*"abcdefghij" * 20)
    deep.mkdir(parents=True)
    (deep / "autotuner.py").write_text("x")
    (torch / "again").symlink_to(torch)
    (torch / "autotuner.py").mkdir()
    wanted = "tensorrt_llm/_torch//autotuner.py"
    assert text.Tree(tmp_path).source(wanted) is None
    (torch / "b").mkdir()
    (torch / "b/autotuner.py").write_text("x")
    assert text.Tree(tmp_path).source(wanted).path == str(torch / "b/autotuner.py")


ESCAPE = "\x1b]0;owned\x07\x1b[31m\u202e\x9b"


@pytest.fixture
def hostile(tmp_path):
    """A package whose folder, version and deciding line have what would act on a terminal."""
    root = tmp_path / f"packages{ESCAPE}"
    (root / TORCH).mkdir(parents=True)
    condition = f"    if sm not in {{100, 103}}:  # {ESCAPE}\n        return False\n"
    (root / GATE).write_text(f"def can_implement():\n{condition}")
    info = root / "tensorrt_llm-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Version: 1.3.0rc7{ESCAPE}\n")
    return root


@pytest.mark.parametrize("terminal", (False, True))
def test_no_escape_of_a_file_reaches_the_terminal(hostile, capsys, monkeypatch, terminal):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    main(["--gpu", "121", str(hostile)])
    said = capsys.readouterr().out
    assert "\\x1b]0;owned" in said and "as it should be" in said
    assert ("\033[33m" in said) == terminal  # colours of ours
    for code in (0, 2, 31, 32, 33):
        said = said.replace(f"\033[{code}m", "") if terminal else said
    assert all(each.isprintable() or each == "\n" for each in said)


def test_no_escape_reaches_programs_or_the_error_stream(hostile, capsys):
    main(["--json", "--gpu", "121", str(hostile)])
    raw = capsys.readouterr().out
    assert raw.isascii() and json.loads(raw)["found"][0]["version"] == f"1.3.0rc7{ESCAPE}"
    with pytest.raises(SystemExit):
        main([str(hostile / f"none{ESCAPE}")])
    assert plain("a\tb\x1b\n") == "a b\\x1b\n" and "\x1b" not in capsys.readouterr().err


def make(*variables, **environment):
    own = {name: value for name, value in os.environ.items()
           if name not in ("D", "GPU", "DRIVER", "TRTLLM_SRC", "MAKEFLAGS")}
    return subprocess.run(["make", "-s", "doctor", f"PYTHON={sys.executable} -S", *variables], cwd=ROOT,
                          capture_output=True, text=True, env=own | environment)


def checkout(root):
    (root / "tensorrt_llm").mkdir(parents=True)
    (root / "tensorrt_llm/version.py").write_text('__version__ = "1.3.0rc5"\n')
    return root


def test_make_passes_values_as_they_are(tmp_path):
    odd = checkout(tmp_path / "a b$HOME 'c' $(touch x) \"d\" `touch y`; touch z")
    plain = checkout(tmp_path / "plain")
    for variables, environment in (
            ([f"TRTLLM_SRC={plain}"], {}), ([f"TRTLLM_SRC={odd}"], {}), ([], {"TRTLLM_SRC": str(odd)}),
            ([f"D={odd}"], {}), ([], {"D": str(odd)}), ([f"D={plain}"], {}), ([f"D='{plain}' {plain}"], {})):
        done = make(*variables, "GPU=12.0", **environment)
        assert done.returncode == 0, done.stderr
        assert "judged for SM120" in done.stdout and "TensorRT-LLM 1.3.0rc5" in done.stdout
    done = make(f"D='{plain}' \"{tmp_path}\"", "GPU=120")
    assert done.returncode == 0 and f"D={tmp_path}: nothing is there" in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", ("GPU", "D", "DRIVER", "TRTLLM_SRC"))
def test_make_executes_nothing(tmp_path, name):
    for value in ("$(touch {})", "/none; touch {}", "`touch {}`", '"; touch {}; "', "$(shell touch {})", "'"):
        value = value.format(tmp_path / "x")
        for done in (make(f"{name}={value}"), make(**{name: value})):
            assert done.returncode == 2 and "next:" in done.stderr and value.strip('"').split()[0][:5] in done.stderr, value
    assert not (tmp_path / "x").exists()


def test_files_that_are_none_cost_nothing_and_are_named(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    kinds = {}
    for at, name in enumerate(FILES):
        path = tmp_path / name
        if at % 4 == 0:
            os.mkfifo(path)
        elif at % 4 == 1:
            path.symlink_to(path.name)
        elif at % 4 == 2:
            path.write_bytes(b"x = '" + b"a" * 50_000_000 + b"'\n")
        else:
            path.write_bytes(b"\xff\xfe\0\0def can_implement(\0):\n\0" * 9)
        kinds[str(path)] = ("no ordinary file", "cannot be read", "50,000", "cannot be parsed")[at % 4]
    os.mkfifo(tmp_path / "tensorrt_llm/version.py")
    begin = time.process_time()
    place, = (each for each in places.search([tmp_path])[0] if each.root == tmp_path)
    answers = examine.examine([place], 121)
    assert time.process_time() - begin < SECONDS
    named = [(check.file, check.note) for answer in answers for check in answer.checks if check.file]
    assert len(named) >= 6 and all(kinds[file] in note or file.endswith((".h", ".inl", ".cpp")) for file, note in named), named


@pytest.mark.parametrize("piece", ["a = " + "(" * 150 + ")" * 150, "x" + "[0]" * 5000, "-" * 50_000 + "1", "a" + ".b" * 50_000,
                                   "lambda: " * 3000 + "0", "f(" * 99 + ")" * 99, "if sm:\n  " + "1;" * 50_000,
                                   "\n".join(f"n{at} = (n{at + 1}, n{at + 1}, n{at + 1}, n{at + 1})" for at in range(40))])
def test_deep_python_ends(tmp_path, piece):
    content = f"{piece}\ndef can_implement(a):\n    if sm in n0:\n        return False\n    return f(f(a))\n\n\ndef f(a):\n    return f(a) or can_implement(a)\n"
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    begin = time.process_time()
    assert len(examine.examine([places.Place("TensorRT-LLM", "1", tmp_path, "")], 121)) == 5
    assert time.process_time() - begin < SECONDS
