"""The doctor: every judgement on the pinned FlashInfer trees, before and after our patches, and on small trees of ours for TensorRT-LLM."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lib.doctor import (
    AFFECTED,
    BUGS,
    CANNOT_TELL,
    FIXED,
    NOT_AFFECTED,
    examine,
    places,
    rules,
    text,
)
from lib.subjects import patches, wheels
from tests.conftest import ROOT

RELEASES = ("0.6.6", "0.6.8", "0.7.2.post1")
DECIDING = ("autotuner.py", "autotuner/autotuner.py", "fused_moe/core.py", "jit/fused_moe.py", "decode.py",
            "data/csrc/trtllm_batched_gemm_runner.cu", "data/csrc/trtllm_fused_moe_kernel_launcher.cu",
            "data/include/flashinfer/trtllm/fmha/fmhaRunner.cuh", "data/include/flashinfer/gemm/fp4_gemm_cutlass_template_sm120.h",
            "data/csrc/nv_internal/tensorrt_llm/kernels/cutlass_kernels/moe_gemm/moe_gemm_template_dispatch_tma_ws.h",
            "data/csrc/nv_internal/tensorrt_llm/kernels/cutlass_kernels/moe_gemm/launchers/moe_gemm_tma_ws_launcher.inl")


def verdicts(root, product="FlashInfer", sm=121, version="1"):
    """Bug to verdict, for one tree."""
    return {answer.bug: answer.verdict for answer in examine.examine([places.Place(product, version, root, "test")], sm)}


def checks(root, bug, product="TensorRT-LLM", sm=121):
    answer, = (each for each in examine.examine([places.Place(product, "1", root, "test")], sm) if each.bug == bug)
    return {check.what: check for check in answer.checks}


def write(root, files):
    """Files of our own: relative path to content."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def doctor(*words, python=(sys.executable,), env=None, status=0, cwd=ROOT):
    done = subprocess.run([*python, "-m", "lib.doctor", *map(str, words)], cwd=cwd, capture_output=True, text=True, env=env)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def answers(root, version="1.3.0rc7", sm=121):
    """Bug to answer, for one TensorRT-LLM."""
    found = examine.examine([places.Place("TensorRT-LLM", version, root, "test")], sm)
    return {answer.bug: answer for answer in found}


@pytest.fixture
def bare(tmp_path):
    """A Python that sees nothing: no site-packages, no GPU, no variables."""
    return {"python": (sys.executable, "-S"), "env": {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}}


# FlashInfer

@pytest.mark.parametrize("release", RELEASES)
def test_a_pinned_release_is_judged_as_the_notebooks_do(release):
    tree = wheels.source("flashinfer-python", release)
    assert verdicts(tree) == {1: AFFECTED, 2: NOT_AFFECTED, 3: AFFECTED, 4: AFFECTED, 5: AFFECTED}
    mxfp8 = {"0.6.6": NOT_AFFECTED, "0.6.8": AFFECTED, "0.7.2.post1": FIXED}[release]
    first = {what: check.verdict for what, check in checks(tree, 1, "FlashInfer").items()}
    assert first == {"grouped GEMM": AFFECTED, "FP4 GEMM": FIXED, "MXFP8 GEMM": mxfp8}
    assert set(checks(tree, 3, "FlashInfer")) == {"support check", "trtllm-gen module", "runner"}
    assert set(checks(tree, 5, "FlashInfer")) == {"trtllm-gen runner", "decode, auto"}
    for bug in BUGS:
        for check in checks(tree, bug, "FlashInfer").values():
            if check.verdict != NOT_AFFECTED:
                line = text.Source(check.file).lines[check.line - 1]
                assert check.text and line.strip().startswith(check.text), check


@pytest.mark.parametrize("name, expected", [
    ("01-shared-memory.revised.flashinfer-0.6.6", {"grouped GEMM": FIXED}),
    ("03-moe-gate.published.flashinfer-0.6.6", {"support check": AFFECTED, "trtllm-gen module": AFFECTED, "runner": AFFECTED}),
    ("03-moe-gate.revised.flashinfer-0.6.6", {"support check": FIXED, "trtllm-gen module": FIXED, "runner": FIXED}),
    ("03-moe-gate.revised.flashinfer-0.7.2.post1", {"support check": FIXED, "trtllm-gen module": FIXED, "runner": FIXED}),
    ("04-autotuner.published.flashinfer-0.6.6", {"look-up": FIXED, "warm-up": AFFECTED}),
    ("04-autotuner.published.flashinfer-0.6.8", {"look-up": FIXED, "warm-up": AFFECTED}),
    ("04-autotuner.published.flashinfer-0.7.2.post1", {"look-up": FIXED, "warm-up": AFFECTED}),
    ("04-autotuner.revised.flashinfer-0.6.8", {"look-up": FIXED, "warm-up": FIXED}),
    ("04-autotuner.skip-both.flashinfer-0.6.8", {"look-up": FIXED, "warm-up": FIXED}),
    ("04-autotuner.skip-both.flashinfer-0.7.2.post1", {"look-up": FIXED, "warm-up": FIXED}),
    ("04-autotuner.revised.flashinfer-0.6.6", {"look-up": FIXED, "warm-up": FIXED}),
    ("04-autotuner.revised.flashinfer-0.7.2.post1", {"look-up": FIXED, "warm-up": FIXED}),
    ("04-autotuner.skip-both.flashinfer-0.6.6", {"look-up": FIXED, "warm-up": FIXED}),
    ("05-attention.revised.flashinfer-0.6.6", {"trtllm-gen runner": FIXED}),
])
def test_a_patch_changes_the_judgement_and_only_as_far_as_it_goes(name, expected):
    tree = wheels.source("flashinfer-python", name.partition("flashinfer-")[2])
    with wheels.scratch(tree, *(f"flashinfer/{file}" for file in DECIDING if (tree / "flashinfer" / file).is_file())) as copy:
        before = checks(copy, int(name[:2]), "FlashInfer")
        patches.Patch(f"{name}.diff").apply(copy)
        after = checks(copy, int(name[:2]), "FlashInfer")
    assert {what: after[what].verdict for what in expected} == expected
    assert before != after


def test_every_flashinfer_patch_was_judged():
    judged = {name for mark in test_a_patch_changes_the_judgement_and_only_as_far_as_it_goes.pytestmark for name, _ in mark.args[1]}
    assert {path.name.removesuffix(".diff") for path in patches.FOLDER.glob("*.flashinfer-*.diff")} == judged


# TensorRT-LLM, in small files of ours

TUNER = """
class AutoTuner:
    def _optimization_profiles(
        self, tuning_config, inputs
    ):
        for spec in tuning_config.dynamic_tensor_specs:
            assert len(spec.buckets) > 0{early}
            opt = base.shapes[spec.input_idx][spec.dim_idx].val
        for point in grid:
            for spec in tuning_config.constraint_specs:{warm}
                p.shapes[spec.input_idx][spec.dim_idx] = Dim(opt)  # if i >= len(p.shapes): not code
        return profiles

    def _find_nearest_profile(cls, shapes,
                              dynamic_tensor_specs, constraint_specs) -> tuple:
        '''Bounds: i < len(base_profile) is not tested.'''
        for spec in dynamic_tensor_specs:{find}
            base_profile[spec.input_idx][spec.dim_idx] = 1
        for spec in constraint_specs:{also}
            base_profile[spec.input_idx][spec.dim_idx] = -1
        return base_profile
"""
CHECKED = "\n            if not _spec_in_bounds(spec, base_profile):\n                continue"


@pytest.mark.parametrize("warm, find, also, expected", [
    ("", "", "", {"look-up": AFFECTED, "warm-up": AFFECTED}), ("", CHECKED, CHECKED, {"look-up": FIXED, "warm-up": AFFECTED}),
    (CHECKED, CHECKED, "", {"look-up": AFFECTED, "warm-up": FIXED}), (CHECKED, CHECKED, CHECKED, {"look-up": FIXED, "warm-up": FIXED})])
def test_the_autotuner_is_fixed_only_where_every_loop_checks(tmp_path, warm, find, also, expected):
    write(tmp_path, {"tensorrt_llm/_torch/autotuner.py": TUNER.format(early=warm, warm=warm.replace("\n", "\n    "), find=find, also=also)})
    assert {what: check.verdict for what, check in checks(tmp_path, 4).items()} == expected
    assert verdicts(tmp_path, "TensorRT-LLM", 90)[4] == (FIXED if set(expected.values()) == {FIXED} else AFFECTED)


GATE = """
class TRTLLMGenFusedMoE:
    def can_implement(cls, quant_algo):
        \"\"\"Only SM in {{100, 103, 121}}, it says.\"\"\"
        sm_version = get_sm_version()
        if sm_version not in {{{admitted}}}:
            return False
"""
TABLE = 'TABLE = {{\n    QuantAlgo.NVFP4: {{\n        "sm_constraint": ("in", {{{admitted}}}),\n    }},\n}}\n'
MOE = "tensorrt_llm/_torch/modules/fused_moe/"


def gated(root, trtllm, cutlass):
    return write(root, {MOE + "fused_moe_trtllm_gen.py": GATE.format(admitted=trtllm),
                        MOE + "fused_moe_cutlass.py": TABLE.format(admitted=cutlass)})


def test_a_list_that_leaves_sm12x_out_is_right_for_trtllm_and_not_for_cutlass(tmp_path):
    found = checks(gated(tmp_path, "100, 103", "100, 103"), 3)
    assert found["TRTLLM back end"].verdict == NOT_AFFECTED and found["TRTLLM back end"].line == 6
    assert "as it should be" in found["TRTLLM back end"].note
    assert found["CUTLASS back end"].verdict == AFFECTED
    answer = answers(tmp_path)[3]
    assert answer.verdict == AFFECTED and "Do not widen" in answer.todo and "CUTLASS" in answer.todo
    found = checks(gated(tmp_path, "100, 103, 120, 121", "100, 103, 120, 121"), 3)
    assert found["TRTLLM back end"].verdict == AFFECTED and "widened" in found["TRTLLM back end"].note
    assert found["CUTLASS back end"].verdict == FIXED
    assert verdicts(gated(tmp_path, "100, 103", "100, 103, 120, 121"), "TensorRT-LLM")[3] == FIXED


def test_our_moe_patch_is_recognised(tmp_path):
    config = """
class ModelConfig:
    def resolve_moe_backend(moe_backend: str, architecture: str) -> str:
        if moe_backend.upper() != "AUTO":
            return moe_backend

        return "CUTLASS"
"""
    gated(tmp_path, "100, 103", "100, 103, 120, 121")
    write(tmp_path, {"tensorrt_llm/_torch/model_config.py": config})
    assert checks(tmp_path, 3)["TRTLLM back end"].verdict == NOT_AFFECTED
    patch = (patches.FOLDER / "03-moe-gate.revised.tensorrt-llm.diff").read_text()
    added = [line[1:] for line in patch.splitlines() if line.startswith("+ ")][:6]
    patched = "\n".join([*added, "            return moe_backend\n"])
    changed = config.replace("            return moe_backend\n", patched)
    write(tmp_path, {"tensorrt_llm/_torch/model_config.py": changed})
    assert {check.verdict for check in checks(tmp_path, 3).values()} == {FIXED}
    assert "CUTLASS" in checks(tmp_path, 3)["TRTLLM back end"].note


DISPATCH = """switch (config) {{
{extra}    case tkc::CutlassTileConfigSM120::CtaShape128x128x256B:
        return dispatch<T, cute::Int<128>, cute::Int<128>, cute::Int<256>>(D, A);
    // case tkc::CutlassTileConfigSM120::CtaShape128x128x128B:
    case tkc::CutlassTileConfigSM100::CtaShape128x128x128B: return other<T, cute::Int<128>, cute::Int<128>, cute::Int<128>>(D, A);
}}
"""


SMALL = """    case tkc::CutlassTileConfigSM120::CtaShape128x128x128B:
        return dispatch<T, cute::Int<128>, cute::Int<128>,
            cute::Int<128>>(D, A);
"""


@pytest.mark.parametrize("extra, expected", [("", AFFECTED), (SMALL, FIXED)])
def test_the_dense_dispatch(tmp_path, extra, expected):
    write(tmp_path, {"cpp/tensorrt_llm/kernels/cutlass_kernels/fp4_gemm/fp4_gemm_template.h": DISPATCH.format(extra=extra)})
    assert checks(tmp_path, 1)["FP4 GEMM"].verdict == expected
    assert verdicts(tmp_path, "TensorRT-LLM", 100)[1] == NOT_AFFECTED


NOT_120 = "(mSM >= 100) && (mSM != 120)"


@pytest.mark.parametrize("condition, maps, sm, expected", [
    ("(mSM >= 100)", True, 121, AFFECTED), (NOT_120, True, 121, FIXED),
    (NOT_120, False, 121, AFFECTED), (NOT_120, None, 121, CANNOT_TELL), (NOT_120, None, 120, FIXED),
    (f"{NOT_120} && (mSM != 121)", None, 121, FIXED),
    ("tensorrt_llm::common::isSM100Family()", False, 121, FIXED), ("", True, 121, CANNOT_TELL)])
def test_the_attention_condition(tmp_path, condition, maps, sm, expected):
    operator = f"int mSM = getSMVersion();\nbool mUseTllmGen = {condition};\n" if condition else "int mSM;\n"
    write(tmp_path, {"cpp/tensorrt_llm/common/attentionOp.h": operator})
    mapped = "if (sm == 121 && !queryRealSmArch)\n{\n    return 120;\n}\n" if maps else "return sm;\n"
    if maps is not None:
        write(tmp_path, {"cpp/include/tensorrt_llm/common/cudaUtils.h": mapped})
    assert checks(tmp_path, 5, sm=sm)["C++ operator"].verdict == expected
    assert verdicts(tmp_path, "TensorRT-LLM", 103)[5] == NOT_AFFECTED


PLAIN = "auto freeSecondary = config.getHostCacheSize().value_or(0);\n"


def test_the_kv_cache_of_a_machine_with_one_memory(tmp_path):
    pool = "class Manager:\n    def size(self):\n        self._secondary_pool_memory_bytes = config.host_cache_size or 0\n"
    write(tmp_path, {"tensorrt_llm/_torch/pyexecutor/resource_manager.py": pool})
    found = checks(tmp_path, 2)
    assert found["PyTorch path"].verdict == AFFECTED and found["PyTorch path"].line == 3 and found["C++ manager"].verdict == CANNOT_TELL
    assert verdicts(tmp_path, "TensorRT-LLM", 120)[2] == NOT_AFFECTED  # a discrete card
    write(tmp_path, {"tensorrt_llm/_torch/pyexecutor/resource_manager.py": "if device.is_integrated: host_cache_size = 0\n" + pool})
    assert checks(tmp_path, 2)["PyTorch path"].verdict == FIXED
    skips = "if (!tc::isUnifiedMemorySystem())\n{\n    mTransferManager->offload(block, other);\n}\n" + PLAIN
    write(tmp_path, {"cpp/tensorrt_llm/batch_manager/kvCacheManager.cpp": skips})
    assert "stale" in checks(tmp_path, 2)["C++ manager"].note
    for source, expected in ((PLAIN, AFFECTED), (PLAIN + "if (tc::sharesHostMemory())\n{\n    freeSecondary = 0;\n}\n", FIXED)):
        write(tmp_path, {"cpp/tensorrt_llm/batch_manager/kvCacheManager.cpp": source})
        assert checks(tmp_path, 2)["C++ manager"].verdict == expected


def test_a_wheel_without_sources_cannot_be_told_and_says_what_to_look_at(tmp_path):
    (tmp_path / "tensorrt_llm").mkdir()
    assert set(verdicts(tmp_path, "TensorRT-LLM").values()) == {CANNOT_TELL}
    answer = answers(tmp_path)[5]
    assert "looked for cpp/" in answer.checks[0].note and "TRTLLM_SRC" in answer.todo


# CUTLASS

@pytest.mark.parametrize("release", RELEASES)
def test_a_measured_cutlass_is_judged_and_another_is_not(release):
    headers = wheels.source("flashinfer-python", release) / "flashinfer/data/cutlass/include"
    assert verdicts(headers, "CUTLASS", 121, places.version("CUTLASS", headers)) == {1: AFFECTED}
    assert verdicts(headers, "CUTLASS", 121, "9.9.9") == {1: CANNOT_TELL} and verdicts(headers, "CUTLASS", 90) == {1: NOT_AFFECTED}


# Finding

def fabricated(folder, release="0.6.6"):
    """A site-packages with that FlashInfer in it, and a TensorRT-LLM of which only the folder is there."""
    tree = wheels.source("flashinfer-python", release)
    folder.mkdir(parents=True)
    for path in tree.glob("flashinfer*"):
        (folder / path.name).symlink_to(path)
    write(folder, {"tensorrt_llm-1.3.0rc7.dist-info/METADATA": "Name: tensorrt-llm\nVersion: 1.3.0rc7\n\nVersion: 0\n"})
    (folder / "tensorrt_llm").mkdir()
    return folder


def test_nothing_installed_says_what_was_looked_for_and_what_to_do(bare):
    said = doctor(**bare)
    assert "Nothing was found" in said and "tensorrt_llm, flashinfer" in said and "next:" in said and "no GPU" in said and "SM121" in said
    assert json.loads(doctor("--json", **bare))["found"] == []


def test_what_is_installed_is_found_and_not_imported(bare, tmp_path):
    folder = fabricated(tmp_path / "lib/python3.12/site-packages")
    (folder / "tensorrt_llm/__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nraise SystemExit('imported')\n")
    bare["env"]["PYTHONPATH"] += os.pathsep + str(folder)
    for words in ((), (tmp_path,), (folder,), (folder / "flashinfer",)):
        told = json.loads(doctor("--json", *words, **bare))
        found = {(each["product"], each["version"]) for each in told["found"]}
        assert found == {("FlashInfer", "0.6.6"), ("TensorRT-LLM", "1.3.0rc7"), ("CUTLASS", "4.2.1")}
        assert len(told["found"]) == 3 and told["judged for"] == "SM121" and {each["bug"] for each in told["answers"]} == set(BUGS)
    assert not (tmp_path / "imported").exists()
    bare["env"]["PYTHONPATH"] = str(ROOT)
    assert len(json.loads(doctor("--json", tmp_path, **bare))["found"]) == 3  # a prefix named by D


def test_the_gpu_asked_for_changes_the_answers(bare, tmp_path):
    folder = fabricated(tmp_path / "packages")
    said = {}
    for sm in ("121", "12.0", "sm_100a"):
        told = json.loads(doctor("--json", "--gpu", sm, folder, **bare))
        said[sm] = {(each["product"], each["bug"]): each["verdict"] for each in told["answers"]}
    assert said["121"]["TensorRT-LLM", 2] == CANNOT_TELL
    assert said["12.0"]["TensorRT-LLM", 2] == NOT_AFFECTED
    assert said["sm_100a"]["FlashInfer", 1] == said["sm_100a"]["CUTLASS", 1] == NOT_AFFECTED
    assert said["sm_100a"]["FlashInfer", 4] == AFFECTED  # not a matter of the GPU


def test_the_gpu_here_is_asked_for(bare, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 9.0'\n")
    program.chmod(0o755)
    told = json.loads(doctor("--json", **bare))
    assert told["judged for"] == "SM90" and told["GPU"] == "NVIDIA H100 80GB HBM3"
    program.write_text("#!/bin/sh\necho 'No devices were found'\n")
    assert json.loads(doctor("--json", **bare))["judged for"] == "SM121"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    bare["env"]["PATH"] += os.pathsep + os.defpath
    assert "did not answer" in doctor(**bare)


@pytest.mark.parametrize("words, said", [
    (["--gpu", "banana"], "is no GPU architecture"), (["/no/such/folder"], "is not a folder"),
    ([__file__], "unpack it: ")])
def test_wrong_arguments_end_in_2_with_what_to_do(bare, words, said):
    told = doctor(*words, status=2, **bare)
    assert said in told and "next:" in told


def test_hostile_installations(bare, tmp_path):
    folder = tmp_path / "packages"
    write(folder, {"flashinfer/autotuner.py": "x",
                   "flashinfer_python-0.6.6.dist-info/METADATA": "\0\0 no header",
                   "flashinfer_python-0.6.6.dist-info/direct_url.json": "{"})
    (folder / "flashinfer/autotuner.py").write_bytes("# coding: utf-16\nübel\n".encode("utf-16"))
    (folder / "flashinfer/fused_moe/core.py").mkdir(parents=True)
    os.mkfifo(folder / "flashinfer/decode.py")
    (folder / "flashinfer/jit").symlink_to(folder / "flashinfer/jit")
    huge = folder / "flashinfer/data/include/flashinfer/trtllm/fmha"
    huge.mkdir(parents=True)
    with open(huge / "fmhaRunner.cuh", "wb") as file:
        file.truncate(1 << 30)
    told = json.loads(doctor("--json", folder, **bare))
    assert told["found"][0]["version"] == "0.6.6" and told["seconds"] < 2
    assert {each["verdict"] for each in told["answers"]} == {CANNOT_TELL, NOT_AFFECTED}
    assert any("more than such a file can have" in check["note"] for each in told["answers"] for check in each["checks"])


def test_a_file_that_may_not_be_read_is_said(tmp_path, monkeypatch):
    path = write(tmp_path, {"tensorrt_llm/_torch/autotuner.py": "x"}) / "tensorrt_llm/_torch/autotuner.py"
    monkeypatch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    found = checks(tmp_path, 4)
    assert set(found) == {"look-up", "warm-up"}
    for check in found.values():
        assert check.verdict == CANNOT_TELL and "Permission denied" in check.note
        assert check.file == str(path)


def test_editable_installations_are_followed(bare, tmp_path):
    checkout = write(tmp_path / "checkout", {"flashinfer/version.py": '__version__ = "0.9.0"\n'})
    address = json.dumps({"url": checkout.as_uri(), "dir_info": {"editable": True}})
    info = "flashinfer_python-0.9.0.dist-info/direct_url.json"
    found = json.loads(doctor("--json", write(tmp_path / "packages", {info: address}), **bare))["found"]
    here = [(each["product"], each["version"], each["root"]) for each in found]
    assert here == [("FlashInfer", "0.9.0", str(checkout))]


def test_a_package_without_init_and_the_variables_are_found(bare, tmp_path):
    write(tmp_path / "source", {"tensorrt_llm/version.py": '__version__ = "1.3.0rc9"\n'})
    numbers = "#define CUTLASS_MAJOR 4\n#define CUTLASS_MINOR 3\n#define CUTLASS_PATCH 1\n"
    write(tmp_path / "headers", {"include/cutlass/version.h": numbers})
    bare["env"] |= {"TRTLLM_SRC": str(tmp_path / "source"), "CUTLASS_PATH": str(tmp_path / "headers")}
    found = json.loads(doctor("--json", **bare))["found"]
    here = {(each["product"], each["version"], each["found"]) for each in found}
    assert here == {("TensorRT-LLM", "1.3.0rc9", "TRTLLM_SRC"), ("CUTLASS", "4.3.1", "CUTLASS_PATH")}
    bare["env"] = {"PATH": "", "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'source'}"}
    assert [each["product"] for each in json.loads(doctor("--json", **bare))["found"]] == ["TensorRT-LLM"]


def test_the_doctor_needs_the_standard_library_only(bare):
    script = ("import sys; import lib.doctor.__main__; "
              "print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names - {'lib', '__main__'})")
    done = subprocess.run([*bare["python"], "-c", script], cwd=ROOT, capture_output=True, text=True, env=bare["env"])
    assert done.stdout.strip() == "", done.stdout + done.stderr


def test_make_doctor_sets_nothing_up_and_passes_its_arguments_on(tmp_path):
    targets = re.findall(r"^doctor:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "" in targets and not any("ready" in each for each in targets), "it must not wait for the environment"
    folder = fabricated(tmp_path / "packages")
    command, keywords = ["make", "-s", "doctor", f"PYTHON={sys.executable} -S"], {"cwd": ROOT, "capture_output": True, "text": True}
    said = subprocess.run([*command, f"D={folder}", "GPU=120"], **keywords)
    assert said.returncode == 0 and "judged for SM120" in said.stdout and "FlashInfer 0.6.6" in said.stdout, said.stderr
    assert re.search(r"^1\. shared memory +affected +affected +affected$", said.stdout, re.MULTILINE)
    assert "\033[" not in said.stdout  # no colours but on a terminal
    wrong = subprocess.run([*command, "GPU=banana"], **keywords)
    assert wrong.returncode == 2 and "next:" in wrong.stderr


def test_the_bytes_that_it_names_are_those_that_the_report_measured(findings):
    """The doctor compiles nothing, so its numbers are written down: each must be one of notebook 01's."""
    measured = {row["kernel"] for id in ("fp4-gemm.oversized", "fp4-gemm.dense-tiles") for row in findings[id]["values"]["kernels"]}
    exceeding = findings["fp4-gemm.versions"]["values"]["exceeding"]
    measured |= {row["kernel"] for row in exceeding} | {row["budget"] for row in exceeding} | {-row["headroom"] for row in exceeding}
    known, = (rule["measured"] for rule in rules.RULES if "measured" in rule)
    assert {row["cutlass"] for row in exceeding} == set(known)
    notes = [step["note"] for rule in rules.RULES for step in rule["steps"]]
    written = " ".join([*notes, (ROOT / "lib/doctor/todo.toml").read_text()])
    named = {int(number.replace(",", "")) for number in re.findall(r"\b\d{1,3},\d{3}\b", written)}
    assert named and named <= measured
