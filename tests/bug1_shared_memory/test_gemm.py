"""Notebook 01: the laboratory of GEMM kernels, what it refuses, the launcher's own answers, and the facts that it found."""

import dataclasses
import subprocess
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib.bug1_shared_memory import budget, gemm, heuristic, launcher, optin, tiles
from lib.errors import CollectionError
from lib.instruments import nvcc, toolchain
from lib.subjects import patches, vendored, wheels

VERSION = "0.6.6"
REVISED = "01-shared-memory.revised.flashinfer-0.6.6.diff"
TILE = (128, 128, 128)


@pytest.fixture(scope="module")
def tree():
    return wheels.source("flashinfer-python", VERSION)


@pytest.fixture(scope="module")
def front():
    return nvcc.of_flashinfer(VERSION)


@pytest.fixture(scope="module")
def measured(tree, front):
    """The kernels that the notebook measures, in its order, so that they come from the cache."""
    kernels = tiles.of_tensorrt_llm() + tiles.of_flashinfer(tree, VERSION, ("bf16", "fp16")) + [tiles.example_79d()]
    return gemm.measure(kernels, front)


# What is refused before a compiler runs

@pytest.mark.parametrize("wrong, named", [
    ({"tile": (128, 128)}, "tile"), ({"tile": (128, 128, 100)}, "tile"), ({"tile": (0, 128, 128)}, "tile"), ({"tile": ("128", 128, 128)}, "tile"),
    ({"d": "fp64"}, "fp64"), ({"a": "int4"}, "int4"), ({"b": "fp8"}, "fp8"), ({"fusion": "relu"}, "relu"), ({"schedule": "fast"}, "fast"),
    ({"scheduler": "none"}, "none"), ({"arch": "sm121"}, "sm121"), ({"fixed_stages": -1}, "stages")])
def test_an_unknown_kernel_is_named_with_what_is_known(wrong, named):
    with pytest.raises(CollectionError) as raised:
        gemm.Gemm(**{"tile": TILE} | wrong)
    assert named in raised.value.what and raised.value.next_step


@pytest.mark.parametrize("name", ["128x128", "128x128x128", "CtaShape128x128x", "tile", ""])
def test_an_unknown_tile_name_is_refused(name):
    with pytest.raises(CollectionError, match="no tile name"):
        tiles.extent(name)


@given(some.tuples(*[some.integers(1, 32)] * 3), some.sampled_from([0, 4, 8]))
def test_a_tile_name_says_its_extent(sizes, bits):
    m, n, k = (16 * size for size in sizes)
    found = tiles.extent(f"CtaShape{m}x{n}x{k}B", bits)
    assert found[:2] == (m, n) and found[2] * (bits or 8) == 8 * k


@given(some.tuples(*[some.integers(1, 32)] * 3), some.booleans(), some.sampled_from(sorted(gemm.OUTPUTS)))
def test_kernels_that_differ_in_name_alone_are_one_probe(sizes, swap, d):
    kernel = gemm.Gemm(tuple(16 * size for size in sizes), d, swap_ab=swap)
    assert kernel.cpp() == dataclasses.replace(kernel, name="another", used_by="someone").cpp()
    assert kernel.cpp() != dataclasses.replace(kernel, scheduler="stream-k").cpp()


def test_no_kernels_is_an_error(front):
    with pytest.raises(CollectionError, match="no kernel"):
        gemm.measure([], front)


# The toolchain

def test_a_missing_host_compiler_is_named(front, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("NVCC_CCBIN", raising=False)
    with pytest.raises(CollectionError, match=r"g\+\+ is not installed[\s\S]*build-essential"):
        front.compile("", "ptx")


@pytest.mark.parametrize("version", ["12.8.93", "11.8.0"])
def test_a_compiler_that_is_too_old_is_named_with_the_wheel(version):
    with pytest.raises(CollectionError, match=r"too old: sm_121a needs 12\.9[\s\S]*nvidia-cuda-nvcc==1\d\."):
        nvcc.check(dataclasses.replace(toolchain.find(), version=version), "sm_121a")


@pytest.mark.parametrize("part", sorted(nvcc.NEEDED))
def test_a_missing_part_is_named_with_its_wheel(part, tmp_path):
    for name in nvcc.NEEDED:
        if name != part:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    with pytest.raises(CollectionError, match=f"{part} is missing[\\s\\S]*{nvcc.NEEDED[part]}=="):
        nvcc.check(dataclasses.replace(toolchain.find(), home=tmp_path), "sm_121a")


def test_a_tree_without_cutlass_and_a_wrong_target_are_refused(tmp_path, tree):
    with pytest.raises(CollectionError, match="no cutlass/version.h"):
        nvcc.over(tmp_path)
    with pytest.raises(CollectionError, match="no target"):
        nvcc.over(tree, "compute_121a", "any")


def test_headers_that_do_not_compile_are_no_kernels_fault(tmp_path):
    (tmp_path / "include/cutlass").mkdir(parents=True)
    (tmp_path / "include/cutlass/version.h").write_text("#define CUTLASS_MAJOR 2\n#define CUTLASS_MINOR 9\n#define CUTLASS_PATCH 0\n")
    with pytest.raises(CollectionError, match="not for the sake of one kernel[\\s\\S]*older than 4.0"):
        gemm.ask([gemm.Gemm(TILE).cpp()], nvcc.over(tmp_path))


def test_what_cutlass_refuses_is_said_in_its_words_and_the_rest_is_measured(front):
    bare = dataclasses.replace(front, extensions=(), identity=front.identity + " without extensions")
    kernels = [gemm.Gemm((128, 16, 128)), tiles.dense("128x128x128B", TILE), tiles.grouped("128x128x64B", fused=True)]
    table = gemm.measure(kernels, bare, at_once=1)
    assert list(table["error"] != "") == [True, False, True]
    assert "static assertion failed" in table["error"][0] and "no fused finalize" in table["error"][2]
    assert pd.isna(table["kernel"][0]) and table["kernel"][1] > 0 and table["headroom"][1] == table["budget"][1] - table["kernel"][1]


# Bytes

def test_every_byte_of_every_kernel_is_accounted_for(measured):
    for _, row in measured.iterrows():
        found = gemm.account(row)
        assert found.sum() == row["kernel"] and (found > 0).all()
        assert row["mainloop"] + row["epilogue"] <= row["kernel"] + 1024


@given(some.lists(some.tuples(some.integers(0, 999), some.integers(1, 500)), min_size=1, max_size=11))
def test_an_account_has_no_byte_twice(blocks):
    parts, at = {}, 0
    for name, (gap, size) in zip(gemm.PARTS, blocks):
        parts[name], at = (at + gap, size), at + gap + size
    found = gemm.account({"name": "any", "kernel": at + 7, "parts": parts})
    assert found.sum() == at + 7
    assert found[[name for name in found.index if not name.startswith("padding")]].to_dict() == {name: size for name, (_, size) in parts.items()}


def test_shares_add_up_and_every_part_has_a_group(measured):
    table = budget.shares(measured)
    assert (table[list(budget.GROUPS)].sum(axis=1) == table["kernel"]).all()
    assert {budget.group(part) for part in gemm.PARTS} <= set(budget.GROUPS)


def test_stages_that_are_left_to_cutlass_fill_the_capacity(measured):
    """One stage more would exceed what the epilogue leaves: the rule of StageCountAutoCarveout, from the parts alone."""
    for _, row in measured[measured["fixed_stages"] == 0].iterrows():
        stage = sum(row["parts"][part][1] for part in ("A", "B", "scales of A", "scales of B")) / row["stages"]
        left = row["budget"] - row["epilogue"]
        assert row["stages"] * stage <= left < (row["stages"] + 1) * (stage + 64)


# The launcher and the patch

def test_the_revised_patch_applies_and_comes_off_to_the_byte(tree, tmp_path):
    patch = patches.Patch(REVISED)
    with wheels.scratch(tree, vendored.LAUNCHER) as copy:
        original = (copy / vendored.LAUNCHER).read_bytes()
        subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
        subprocess.run(["git", "apply", "--check", patch.path], cwd=copy, check=True)
        patch.apply(copy)
        assert patch.state(copy) == patches.APPLIED and (copy / vendored.LAUNCHER).read_bytes() != original
        patch.revert(copy)
        assert (copy / vendored.LAUNCHER).read_bytes() == original


@pytest.mark.parametrize("name", ["published", "revised"])
def test_a_patch_for_tensorrt_llm_keeps_to_sm120(name):
    patch = patches.Patch(f"01-shared-memory.{name}.tensorrt-llm.diff")
    changed = [line for change in patch.changes for line in {*change.old} ^ {*change.new}]
    assert any("120" in line for line in changed) and not any("SM100" in line or "Sm100" in line for line in changed)
    assert {len(line) for line in changed if line.endswith("\\")} <= {317}, "the ends of the macro's lines are not one below the other"


def test_a_launcher_with_other_lines_is_refused():
    with pytest.raises(CollectionError, match="does not have the lines"):
        launcher.told("#define INSTANTIATE_SOMETHING\n")


def test_the_launchers_tactics_are_each_tile_twice_twice(tree):
    offered = launcher.candidates(tree)
    assert len(offered) == 4 * len(tiles.grouped_names(tree)) == len(set(offered))


def test_a_list_of_candidates_is_read_as_printed():
    found = heuristic.table(b"100\tgrouped nvfp4\t128064128\t1001001\t1\t0\n100\tdense nvfp4\tnone\n120\tdense nvfp4\t256128128\t1001001\t0\t0\n")
    assert list(found["tile"]) == ["128x64x128B", "256x128x128B"] and list(found["sm"]) == [100, 120]


# The cell that decides on a GPU, with a stand-in for the driver

class Driver:
    """A driver of a GPU that grants `limit` bytes and loads images for `own` alone."""

    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8)

    def __init__(self, limit, own):
        self.limit, self.image = limit, optin.image(own)

    def __getattr__(self, name):
        return lambda *arguments: (Status(0), 1)

    def cuModuleLoadData(self, binary):
        return (Status(0), 1) if binary == self.image else (Status(209), None)

    def cuFuncSetAttribute(self, function, attribute, size):
        return (Status(0 if size <= self.limit else 1),)

    def cuMemcpyDtoH(self, target, source, size):
        optin.ctypes.c_uint.from_address(target).value = optin.VALUE
        return (Status(0),)


class Status(int):
    @property
    def name(self):
        return {0: "CUDA_SUCCESS", 1: "CUDA_ERROR_INVALID_VALUE", 209: "CUDA_ERROR_NO_BINARY_FOR_GPU"}[int(self)]


def test_the_deciding_cell_finds_the_limit_to_the_byte():
    gpu = SimpleNamespace(sm=121, shared_per_block=101376, name="stand-in")
    found = optin.decide([83968, 102400], cuda=Driver(101376, "sm_121a"), gpu=gpu)
    status = found.dropna(subset="bytes").set_index("bytes")["status"].to_dict()
    assert status == {83968: "CUDA_SUCCESS", 101376: "CUDA_SUCCESS", 101377: "CUDA_ERROR_INVALID_VALUE", 102400: "CUDA_ERROR_INVALID_VALUE"}
    assert set(found["launch"]) == {"ran", ""}
    images = found[found["bytes"].isna()]
    assert set(images["status"]) == {"CUDA_ERROR_NO_BINARY_FOR_GPU"} and "sm_121a" not in " ".join(images["asked"])


def test_the_deciding_cell_is_empty_without_a_gpu(monkeypatch):
    monkeypatch.setattr(optin.devices, "gpus", lambda: [])
    assert optin.decide([83968]).empty


# What the notebook found

def test_the_dense_tiles_of_the_account_fit(findings):
    kernels = findings["fp4-gemm.dense-tiles"]["values"]["kernels"]
    assert {(row["name"], row["d"]): row["kernel"] for row in kernels} == {
        ("128x128x256B", "bf16"): 83968, ("128x128x256B", "fp16"): 83968, ("128x128x256B", "fp32"): 92160,
        ("256x128x128B", "bf16"): 93184, ("256x128x128B", "fp16"): 93184, ("256x128x128B", "fp32"): 73728}
    assert findings["fp4-gemm.dense-tiles"]["verdict"] == "refuted" and findings["fp4-gemm.dense-tiles"]["tier"] in ("compiled", "sm12x")
    same = findings["fp4-gemm.published-tile"]["values"]
    assert same["128x128x128B"] == same["128x128x256B"]


def test_the_kernels_that_do_not_fit_are_the_fused_ones_256_wide(findings):
    kernels = findings["fp4-gemm.oversized"]["values"]["kernels"]
    over = [row for row in kernels if row["headroom"] < 0]
    assert {(row["name"], row["fusion"], row["swap_ab"], row["kernel"]) for row in over} == {
        ("128x256x64B", "scatter", False, 102400), ("256x128x64B", "scatter", False, 102400)}
    assert all(row["budget"] == 101376 and not row["error"] for row in kernels)
    assert sum(findings["fp4-gemm.account"]["values"]["account"].values()) == 102400


def test_three_cutlasses_agree_and_mxfp8_with_two_stages_exceeds(findings):
    values = findings["fp4-gemm.versions"]["values"]
    assert len({row["cutlass"] for row in values["dense"]}) >= 3
    assert len({(row["name"], row["d"], row["kernel"]) for row in values["dense"]}) == 6
    assert {row["kernel"] for row in values["exceeding"]} == {102400, 111616}


def test_the_laboratory_gives_what_real_machines_printed(findings):
    threads = findings["fp4-gemm.threads"]["values"]["threads"]
    assert len(threads) >= 6 and all(row["ours"] == row["printed"] for row in threads)


def test_the_revised_launcher_keeps_all_that_fits_and_sm100(findings):
    tactics = findings["fp4-gemm.revised"]["values"]["tactics"]
    assert len(tactics) == 16 and max(row["kernel after"] for row in tactics) == 98304
    changed = [row for row in tactics if row["kernel after"] != row["kernel before"]]
    assert [(row["kernel before"], row["kernel after"], row["stages before"], row["stages after"]) for row in changed] == [(102400, 74752, 3, 2)] * 2
    sm100 = findings["fp4-gemm.sm100"]["values"]
    assert {row["sm"] for row in sm100["candidates"]} == {100, 103, 120, 121}
    assert sum(row["sm"] == 100 and row["kind"] == "grouped nvfp4" for row in sm100["candidates"]) == 21
    assert vendored.LAUNCHER not in vendored.HEURISTIC and max(row["kernel"] for row in sm100["SM100"]) == 230400


def test_the_published_kernel_runs_on_the_fp4_tensor_cores(findings):
    values = findings["fp4-gemm.published-kernel"]["values"]
    assert any(name.startswith("OMMA.SF") and "E2M1.E2M1" in name for name in values["matrix"]) and values["usage"]["registers"] <= 255


def test_every_claim_of_the_bug_has_its_finding(findings):
    said = {finding["claim"]: finding["verdict"] for finding in findings.values() if finding["notebook"] == "01-shared-memory" and finding["claim"]}
    assert said == {"1a": "confirmed", "1b": "refuted", "1c": "refined", "1d": "confirmed", "1e": "confirmed", "1f": "refined", "1g": "confirmed",
                    "1h": "refined"}
