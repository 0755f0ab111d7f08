"""Probes of TensorRT-LLM, their whole path on a stand-in: answers, crashes, hangs, rubbish, limits, overlays."""

import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from lib.errors import CollectionError
from lib.instruments import devices, probes
from lib.overlay import trials
from lib.subjects import patches
from tests.conftest import TREES

pytestmark = pytest.mark.xdist_group("probes")
STANDIN = Path(__file__).with_name("standin")
LAYER = {"experts": 2, "top": 1, "hidden": 256, "intermediate": 128}
SMALL = {1: {"sizes": [[16, 128, 128]], "tokens": [8], "layer": LAYER, "repeats": 1},
         2: {"model_dir": "small", "prompts": 4, "length": 128, "pool": 256, "host_cache_size": 2**24},
         3: {"tokens": 8, "layer": LAYER, "repeats": 1},
         4: {"sizes": [1, 16], "most": 16, "n": 128, "k": 128, "layer": LAYER, "repeats": 1, "back_ends": ["CUTLASS"]},
         5: {"model_dir": "small", "length": 64, "answer": 4}}
TUNER = "tensorrt_llm/_torch/autotuner.py"
HEADER = "What: x\nWhy: y\nBase: the stand-in\nLicence: Apache-2.0\n\n"


def ask(number, behaviour="", sm=121, script=None, **options):
    """A probe with the stand-in, whatever this machine has."""
    environment = {"PYTHONPATH": str(STANDIN), "STANDIN": behaviour, "STANDIN_SM": str(sm)}
    return probes.ask(number, python=sys.executable, environment=environment,
                      parameters=SMALL[number], **{"seconds": 120} | options)


def ours(asker):
    """Whether a probe was asked for by this process, by a child of it, or by one that is gone: not by another worker."""
    return asker == os.getpid() or not psutil.pid_exists(asker) or psutil.Process(asker).ppid() == os.getpid()


def marked():
    """The processes that some probe of ours left behind."""
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(probes.MARK)
            found += [process] if mark and ours(int(mark.partition("-")[0])) else []
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert not marked()


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """Make a probe of a few lines, number 1."""
    def make(code):
        monkeypatch.setattr(probes, "FOLDER", tmp_path)
        (tmp_path / "01-scripted.py").write_text(textwrap.dedent(code))
        return probes.ask(1, python=sys.executable, seconds=20)
    return make


@pytest.fixture(scope="module")
def tactics():
    """Probe 1 where all goes on, amid rubbish, and where one tactic computes something else."""
    return ask(1, "rubbish wrong")


@pytest.fixture(scope="module")
def crashed():
    began = time.monotonic()
    return *ask(1, "crash"), time.monotonic() - began


def test_every_tactic_is_asked_timed_and_held_against_a_float64_product(tactics):
    found, said = tactics
    assert "ran through" in said and "no answer" not in said.partition(";")[0]
    gemm = found[(found["operator"] == "gemm") & (found["step"] == "alone")].set_index("tactic")
    assert list(gemm.index) == [-1, 0, 1, 2, 3, 4]
    refused = gemm[gemm["status"] == "error"]
    assert list(refused.index) == [1, 3] and refused["message"].str.endswith("Error: Error Internal").all()
    ran = gemm[gemm["status"] == "ok"]
    assert ran["error"].drop(4).between(0, 0.004).all() and (ran["ms"] > 0).all()  # rounding to bf16
    assert ran["error"][4] == pytest.approx(1, abs=0.01)  # twice the product
    moe = found[(found["operator"] == "moe") & (found["step"] == "in the layer") & (found["gemm"] > 0)]
    assert set(zip(moe["gemm"], moe["tactic"])) == {(gemm, tactic) for gemm in (1, 2) for tactic in (0, 2, 4)}
    assert moe["error"].between(0, 0.004).all()


def test_rubbish_lines_and_half_lines_are_no_answers(tactics):
    found, said = tactics
    assert "lines were no answers" in said and found["status"].isin(probes.STATUSES).all()
    assert not found["case"].eq("").any() and not found["case"].eq("cut off").any()


def test_pools_hits_moves_and_tokens():
    found, said = ask(2, "wrong")
    by = found.set_index("pools")
    assert list(by.index) == ["one pool", "two pools", "one pool of both"] and "3 ok" in said
    assert list(by["hits"]) == [0, 16, 16] and by["offloaded"]["two pools"] > 0
    assert by["onboarded"].eq([0, 16, 0]).all() and by["removed"]["one pool"] > 0
    assert list(by["as with one pool"]) == [True, False, True]  # its answers change with the second pool
    assert by["most"]["one pool of both"] == 32 * by.loc["two pools", ["blocks", "blocks of the second pool"]].sum()


@pytest.fixture
def probing(monkeypatch):
    """What the probes share, in this process."""
    monkeypatch.syspath_prepend(str(probes.FOLDER))
    return importlib.import_module("probing")


def said_by(probing, capfd, main, given="{}", **defaults):
    """The one answer of a probe that runs in this process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["probe", given])
        probing.begin(7, ("x",), main, **defaults)
    return json.loads(capfd.readouterr().out)


def test_what_ends_a_probe_early_is_an_answer(probing, capfd):
    def lacks(given):
        probing.need("json:nothing", "no_such_package.part:name")

    def gone(given):
        raise probing.Unusable("sticky")

    missing = said_by(probing, capfd, lacks)
    assert missing["status"] == "missing" and missing["message"] == "looked for json:nothing or no_such_package.part:name"
    assert said_by(probing, capfd, gone)["status"] == "skipped"
    wrong = said_by(probing, capfd, lambda given: 1 / 0)
    assert wrong["status"] == "error" and wrong["values"] == {"x": None, "exception": "ZeroDivisionError", "raised in": "<lambda>"}
    refused = said_by(probing, capfd, print, '{"size": 1}', sizes=[])
    assert refused["message"] == "ValueError: no parameter size; there are: sizes"


def test_a_package_that_a_module_needs_is_not_the_module_missing(probing, tmp_path, monkeypatch):
    (tmp_path / "needs_another.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError):
        probing.need("needs_another:name")


def test_after_an_error_a_device_that_answers_no_more_ends_the_probe(probing, capfd, monkeypatch):
    def broken():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    monkeypatch.setattr(probing, "synchronise", broken)
    answer = said_by(probing, capfd, lambda given: pytest.raises(probing.Unusable, probing.attempt, "a", dict) and None)
    assert answer["status"] == "error" and "illegal memory access" in answer["message"]


def test_gates_and_layers():
    found, _ = ask(3, sm=100)
    gates = found[found["gate"] == "can_implement"].set_index("requested")
    assert gates["admitted"].to_dict() == {"TRTLLM": True, "CUTLASS": True, "CUTEDSL": True}
    layers = found[found["gate"] == "layer"].set_index("requested")
    assert layers["class"]["AUTO"] == "TRTLLMGenFusedMoE" and layers["error"]["TRTLLM"] < 0.004


def test_the_tuner_under_an_operator():
    found, _ = ask(4, sm=100)
    gemm = found[found["layer"] == "gemm"]
    assert gemm["status"].eq("ok").all() and gemm["tactic"].eq("0").all() and gemm["tuner asked"].ge(1).all()
    assert gemm["error"].between(0.001, 0.06).all()  # the activation's rounding to FP8
    assert found[found["layer"] == "quantiser"]["rank of the scales"].item() == 2


def test_attention_kernels_by_the_profilers_names():
    found, _ = ask(5)
    kernels = found.dropna(subset="kernel")
    assert set(zip(kernels["phase"], kernels["family"])) == {
        ("context", "FMHA v2"), ("generation", "XQA")}
    assert kernels.loc[kernels["family"] == "XQA", "launches"].item() == 3
    assert found.loc[found["case"] == "the tokens", "tokens"].map(len).item() == 4


def test_a_crash_names_its_signal_and_keeps_the_answers_before_it(crashed):
    found, said, _ = crashed
    assert "was ended by SIGABRT" in said and found["tactic"].dropna().tolist() == [-1, 0, 1]


def test_a_hang_is_killed_after_the_limit_with_its_children_and_theirs(crashed):
    limit = 2 + 2 * crashed[-1]
    began = time.monotonic()
    found, said = ask(1, "hang", seconds=limit)
    assert time.monotonic() - began < limit + 10
    assert "killed after its limit" in said and found["tactic"].dropna().tolist() == [-1, 0, 1]


def test_a_flood_is_stopped(scripted):
    found, said = scripted("import os\nwhile True: os.write(1, b'x' * 2**20)")
    assert "printed more than 64 MiB" in said and found.empty and list(found.columns) == list(probes.FIELDS)


def test_silence_is_told(scripted):
    found, said = scripted("")
    assert found.empty and "ran through" in said and "with no answer" in said


def test_a_call_that_this_revision_does_not_have_is_named():
    found, said = ask(1, "missing")
    lacking = found[found["status"] == "missing"]
    assert lacking["message"].str.contains("torch_custom_ops:FP4GemmRunner").all() and "1 missing" in said
    assert (found["operator"] == "moe").any()  # the rest is asked all the same


def test_what_fails_to_start_and_what_it_said_last(scripted):
    found, said = probes.ask(1, python="no/such/python")
    assert found.empty and "does not start: No such file" in said
    found, said = scripted("import sys\nprint('half', file=sys.stderr)\nsys.exit('no CUDA here')")
    assert found.empty and "ended with status 1" in said and said.endswith("last words: no CUDA here")


def test_a_line_cut_by_a_crash_is_no_answer(scripted):
    found, said = scripted("""
        import os
        line = '{"probe": 1, "case": "a", "status": "ok", "message": "", "seconds": 0, "values": {"x": 1}}'
        os.write(1, (line + "\\n" + line[:40]).encode())
        os.kill(os.getpid(), 11)
        """)
    assert found[["case", "x"]].values.tolist() == [["a", 1]] and "SIGSEGV" in said and "1 lines were no answers" in said


def test_values_cannot_take_the_place_of_the_fields(scripted):
    found, _ = scripted("""
        import json
        print(json.dumps({"probe": 1, "case": "a", "status": "ok", "message": "", "seconds": 0, "values": {"status": "error"}}))
        """)
    assert found["status"].item() == "ok"


def test_a_probe_does_not_outlive_who_asked(tmp_path):
    (tmp_path / "01-waits.py").write_text(f"import sys, time\nsys.path.insert(0, {str(probes.FOLDER)!r})\nimport probing\n"
                                          "probing.begin(1, (), lambda given: time.sleep(600))\n")
    code = (f"import sys, pathlib; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
            f"from lib.instruments import probes\nprobes.FOLDER = pathlib.Path({str(tmp_path)!r})\n"
            "probes.ask(1, python=sys.executable)")
    asking = subprocess.Popen([sys.executable, "-c", code])
    probe = wait_for(lambda: next((each for each in marked() if each.ppid() == asking.pid), None))
    wait_for(lambda: "libtorch_cpu" in Path(f"/proc/{probe.pid}/maps").read_text())  # it is past the beginning
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    probe.wait(10)


def wait_for(what, seconds=60):
    """The first true answer of a question."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer


@pytest.fixture
def here(monkeypatch):
    """A machine with a GPU, and a Python that has the stand-in."""
    monkeypatch.setattr(devices, "gpus", lambda: [object()])
    monkeypatch.setenv("TRTLLM_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(STANDIN))
    monkeypatch.setenv("STANDIN_SM", "121")


def test_why_nothing_runs(monkeypatch, here):
    assert probes.why_not() == "" and probes.installation() == (sys.executable, STANDIN)
    monkeypatch.setenv("PYTHONPATH", "")
    assert f"{sys.executable} has no TensorRT-LLM to import" in probes.why_not() and "TRTLLM_PYTHON" in probes.why_not()
    monkeypatch.setenv("TRTLLM_PYTHON", "no/such/python")
    assert "no/such/python does not run" in probes.why_not()
    monkeypatch.setattr(devices, "gpus", list)
    assert probes.why_not().startswith("No CUDA GPU here")
    found, said = probes.ask(1)
    assert found.empty and said == probes.why_not()
    found, said = trials.probed(4)
    assert found.empty and said == probes.why_not() and "patch" in found


def test_a_folder_of_the_name_alone_is_no_installation(monkeypatch, here, tmp_path):
    (tmp_path / "tensorrt_llm" / "_torch").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CollectionError, match="no TensorRT-LLM to import"):
        probes.installation()


FILE = f"\n--- a/{TUNER}\n+++ b/{TUNER}\n"
LOOK_UP = """@@ -45,3 +45,4 @@
         for tensor, dimension in specs:
-            profile[tensor][dimension] = -1
+            if dimension < len(profile[tensor]):
+                profile[tensor][dimension] = -1
         return str(profile)
"""
WARM_UP = """@@ -36,3 +36,4 @@
         for tensor, dimension in specs:
-            profile[tensor][dimension] = 512
+            if dimension >= len(profile[tensor]):
+                return []
         return [profile]
"""
OTHERWISE = LOOK_UP.replace("= -1", "= -2")
GATE = """
--- a/tensorrt_llm/_torch/modules/fused_moe/gate.py
+++ b/tensorrt_llm/_torch/modules/fused_moe/gate.py
@@ -3,1 +3,1 @@
-TRTLLM = (100, 103)
+TRTLLM = (100, 103, 120, 121)
"""


@pytest.fixture
def laid(tmp_path, monkeypatch):
    """Have patches/ hold some of ours: name to diff."""
    monkeypatch.setattr(patches, "FOLDER", tmp_path / "patches")

    def lay(**diffs):
        (tmp_path / "patches").mkdir()
        for name, diff in diffs.items():
            (tmp_path / "patches" / f"{name.replace('__', '-').replace('_0', '.')}.diff").write_text(HEADER + diff)
    return lay


def test_three_runs_see_what_each_overlay_changes(here, laid):
    laid(**{"04__autotuner_0published_0tensorrt__llm": FILE + LOOK_UP, "04__autotuner_0published_0tensorrt__llm__other": FILE + OTHERWISE,
            "04__autotuner_0revised_0tensorrt__llm": FILE + WARM_UP + LOOK_UP})
    before = {path: path.read_bytes() for path in STANDIN.rglob("*.py")}
    found, said = trials.probed(4, parameters=SMALL[4])
    gemm = found[found["layer"] == "gemm"].set_index(["patch", "step"])
    outcomes = {kind: [set(gemm.loc[[(kind, step)], "status"]) for step in ("warm-up", "call")]
                for kind in ("as installed", "published", "revised")}
    assert gemm.loc["as installed", "message"].eq("IndexError: list assignment index out of range").all()
    assert gemm.loc[("as installed", "call"), "raised in"].eq("_find_nearest_profile").all()
    assert outcomes == {"as installed": [{"error"}, {"error"}], "published": [{"error"}, {"ok"}], "revised": [{"ok"}, {"ok"}]}
    assert gemm.loc[[("published", "warm-up")], "raised in"].item() == "_optimization_profiles"
    assert gemm.loc[("revised", "call"), "tactic"].eq("-1").all()  # not tuned, so the default
    assert said.count("ran through") == 3 and "published (04-autotuner.published.tensorrt-llm.diff)" in said
    assert before == {path: path.read_bytes() for path in STANDIN.rglob("*.py")}


def test_an_opened_gate_leads_to_the_next_error(here, laid):
    laid(**{"03__moe_0published_0tensorrt__llm": GATE})
    found, said = trials.probed(3, parameters=SMALL[3])
    layers = found[found["gate"] == "layer"].set_index(["patch", "requested"])
    assert layers.loc[("as installed", "AUTO"), "class"] == "CutlassFusedMoE"
    assert layers.loc[("as installed", "CUTLASS"), "error"] < 0.004
    asked = layers.xs("TRTLLM", level="requested")
    assert asked["exception"].to_dict() == {"as installed": "NotImplementedError", "published": "RuntimeError"}
    assert "SM121" in asked["message"]["as installed"] and "There is no revised patch." in said


def test_which_patches_can_be_laid_over_an_installation(laid, tmp_path):
    laid(**{"04__a_0published_0tensorrt__llm": FILE + OTHERWISE, "04__a_0revised_0tensorrt__llm": GATE.replace("gate.py", "gate.cpp")})
    assert trials.fitting(4, STANDIN) == (
        {"published": "", "revised": ""},
        "No published patch fits this release. The revised patch changes more than Python files.")
    assert trials.fitting(5, STANDIN)[1] == "There is no published patch. There is no revised patch."


@pytest.mark.skipif(not (TREES / "README.md").is_file(), reason="no excerpts of TensorRT-LLM here: name their folder in TRTLLM_TREES")
def test_the_real_patches_fit_the_real_files_that_the_probes_are_for():
    both = {"published": "04-autotuner.published.tensorrt-llm.diff", "revised": "04-autotuner.revised.tensorrt-llm.diff"}
    assert trials.fitting(4, TREES / "a-1.2.0rc2") == (both, "")
    chosen, _ = trials.fitting(4, TREES / "c-moe-resolution")
    assert chosen["published"] == "04-autotuner.published.tensorrt-llm-since-2026-03.diff"
    assert trials.fitting(3, TREES / "b-march-2026")[0]["published"] == "03-moe-gate.published.tensorrt-llm.diff"
    assert "more than Python" in trials.fitting(1, TREES / "a-1.2.0rc2")[1]
