"""The laboratory of GEMM kernels: what it refuses, the launcher's own answers, dispatch code, the driver's."""

import dataclasses
import re
import subprocess
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib import cache
from lib.bug1_shared_memory import (
    binaries,
    charts,
    diagnostics,
    dispatch,
    gemm,
    harness,
    launcher,
    optin,
    tiles,
)
from lib.errors import CollectionError
from lib.instruments import nvcc, toolchain
from lib.subjects import cpp, patches, vendored, wheels
from tests.conftest import TREES

VERSION = "0.6.6"
REVISED = "01-shared-memory.revised.flashinfer-0.6.6.diff"
TILE = (128, 128, 128)
needs_trees = pytest.mark.skipif(not TREES.is_dir(), reason="no excerpts of TensorRT-LLM: set TRTLLM_TREES")

pytestmark = pytest.mark.xdist_group("01")


@pytest.fixture(scope="module")
def tree():
    return wheels.source("flashinfer-python", VERSION)


@pytest.fixture(scope="module")
def front():
    return nvcc.of_flashinfer(VERSION)


@pytest.fixture(scope="module")
def measured(tree, front):
    """The kernels that the notebook measures, in its order, so that they come from the cache."""
    kernels = tiles.of_tensorrt_llm() + tiles.of_flashinfer(tree, VERSION, ("bf16", "fp16")) + [tiles.EXAMPLE_79D]
    return gemm.measure(kernels, front)


# What is refused before a compiler runs

@pytest.mark.parametrize("wrong, named", [
    ({"d": "fp64"}, "fp64"), ({"a": "int4"}, "int4"), ({"b": "fp8"}, "fp8"), ({"fusion": "relu"}, "relu"), ({"schedule": "fast"}, "fast"),
    ({"c": "int8"}, "int8"), ({"epilogue_schedule": "late"}, "late"), ({"scheduler": "none"}, "none"), ({"arch": "sm121"}, "sm121"),
    ({"arch": "sm90"}, "nvfp4"), ({"a": "fp8"}, "fp8")])
def test_an_unknown_kernel_is_named_with_what_is_known(wrong, named):
    with pytest.raises(CollectionError) as raised:
        gemm.Gemm(**{"tile": TILE} | wrong)
    assert named in raised.value.what and raised.value.next_step


@pytest.mark.parametrize("name", ["128x128", "128x128x128", "CtaShape128x128x", "tile", ""])
def test_an_unknown_tile_name_is_refused(name):
    with pytest.raises(CollectionError, match="no tile name"):
        dispatch.extent(name)


@given(some.tuples(*[some.integers(1, 32)] * 3), some.sampled_from([0, 4, 8]))
def test_a_tile_name_says_its_extent(sizes, bits):
    m, n, k = (16 * size for size in sizes)
    found = dispatch.extent(f"CtaShape{m}x{n}x{k}B", bits)
    assert found[:2] == (m, n) and found[2] * (bits or 8) == 8 * k


@given(some.tuples(*[some.integers(1, 32)] * 3), some.booleans(), some.sampled_from(sorted(gemm.OUTPUTS)))
def test_kernels_that_differ_in_name_alone_are_one_probe(sizes, swap, d):
    kernel = gemm.Gemm(tuple(16 * size for size in sizes), d, swap_ab=swap)
    assert kernel.cpp() == dataclasses.replace(kernel, name="another", product="someone", version="9").cpp()
    assert kernel.cpp() != dataclasses.replace(kernel, scheduler="stream-k").cpp()


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


def test_a_wrong_target_is_refused():
    with pytest.raises(CollectionError, match="no target"):
        nvcc.of_flashinfer(VERSION, "compute_121a")


def test_headers_that_do_not_compile_are_no_kernels_fault(tmp_path):
    (tmp_path / "include/cutlass").mkdir(parents=True)
    (tmp_path / "include/cutlass/version.h").write_text("#define CUTLASS_MAJOR 2\n#define CUTLASS_MINOR 9\n#define CUTLASS_PATCH 0\n")
    with pytest.raises(CollectionError, match="CUTLASS 2.9.0 does not build[\\s\\S]*4.0 or later"):
        gemm.compiled([gemm.Gemm(TILE).cpp()], nvcc.FrontEnd(tmp_path / "include", (), "of ours", "sm_121a"))


NARROW = [gemm.Gemm(tile, d) for tile in [(128, 64, 128), (64, 128, 128), (128, 32, 128)] for d in ("bf16", "fp32")]


def test_a_kernel_that_nvcc_refuses_is_a_row_in_cutlass_words_and_costs_the_others_nothing(front):
    """Narrow tiles share what fails in them, which nvcc reports once; each is refused all the same."""
    kernels = [*NARROW, gemm.Gemm((128, 16, 128)), gemm.Gemm(TILE), gemm.Gemm(TILE, stages=3), gemm.Gemm((128, 256, 256), stages=3)]
    found = gemm.measure(kernels, front)
    assert list(found["status"]) == ["does not compile"] * 7 + ["fits", "fits", "too large"]
    assert found["message"].str.startswith("TMA requires CTA_Tile and SLayout").tolist() == [True] * 6 + [False] * 4
    assert "must divide CTA_N" in found["message"][6] and (found["message"][7:] == "").all()
    assert found[["kernel", "headroom"]].isna().all(axis=1).tolist() == [True] * 7 + [False] * 3
    assert list(found["fixed_stages"]) == [0] * 8 + [3, 3] and found["stages"][8] == 3


def test_an_epilogue_that_is_not_there_is_said(front):
    bare = dataclasses.replace(front, extensions=(), identity=front.identity + " without extensions")
    found = gemm.measure([tiles.grouped("128x128x64B", fused=True)], bare)
    assert "no fused finalize" in found["message"][0]


def error(words, line, *inside):
    """An error as nvcc reports it, within CUTLASS's classes and functions, for a line of a unit."""
    frames = "".join(f'            instantiation of "{each}" at line 9 of /a/c.hpp\n' for each in inside)
    return f"/a/b/tma.hpp(739): error: {words}\n          detected during:\n{frames}            instantiation of \"ask\" at line {line} of unit.cu\n\n"


def told(line, *types):
    return f'unit.cu({line}): error: incomplete type "unit::Told<{line}, int>" (aka "unit::Found<{line}, {", ".join(map(str, types))}> *") is not allowed\n\n'


def asserted(words):
    return f'static assertion failed with "{words}"'


EPILOGUE, MAIN = "cutlass::epilogue::collective::CollectiveEpilogue<int>", "cutlass::gemm::collective::CollectiveMma<int>"


def test_a_line_has_the_words_of_its_own_first_assertion():
    said = error(asserted("one"), 3, MAIN) + error("too many initializer values", 3, MAIN) + error(asserted("two"), 3) \
        + error("static assertion failed\n    static_assert(N >= 32);", 4) + error("no such name", 5)
    assert diagnostics.refusals(said) == {3: "one", 4: "static_assert(N >= 32);"}
    assert diagnostics.refusals(error("no such name", 5)) == {5: "no such name"}
    assert 0 in diagnostics.refusals("/a/header.hpp(1): error: name followed by :: must be a class")


def test_what_fails_in_a_type_is_said_of_every_kernel_that_has_it_and_of_no_other():
    said = error(asserted("stages"), 3, MAIN) + error(asserted("divide"), 4, EPILOGUE) \
        + told(3, 1, 2, 3, 4, 5) + told(4, 10, 20, 30, 40, 50) + told(5, 6, 2, 7, 8, 9) + told(6, 10, 2, 7, 8, 9) + told(7, 2, 1, 2, 2, 2)
    assert diagnostics.refusals(said) == {3: "stages", 4: "divide", 5: "stages", 6: "divide"}
    assert diagnostics.found(said)[7] == (2, 1, 2, 2, 2)


def test_a_tensor_map_is_known_by_the_line_of_cutlass_that_defines_it(tmp_path):
    """A map of A fails for all kernels with A's extents; one of B is another matter."""
    header = tmp_path / "mainloop.hpp"
    header.write_text("using TMA_A = decltype(make_tma_copy(\n  a));\nusing TMA_SFB = decltype(make_tma_copy(\n  b));\n")
    said = error(asserted("size"), 3, MAIN).replace("detected during:\n", f'detected during:\n  instantiation of "auto cute::make_tma_copy(int)" at line 2 of {header}\n')
    kernels = told(3, 1, 1, 30, 31, 1) + told(4, 2, 2, 30, 32, 2) + told(5, 3, 3, 33, 31, 3)
    assert diagnostics.refusals(said + kernels) == {3: "size", 4: "size"}
    assert diagnostics.refusals(said.replace("at line 2 of", "at line 4 of") + kernels) == {3: "size", 5: "size"}
    stumbles = 'unit.cu(6): error: incomplete type "unit::whole<int>" is not allowed\n\n'
    assert diagnostics.refusals(said + stumbles) == {3: "size", 6: "size"}
    other = said.replace('with "size"', 'with "rank"').replace("at line 3 of unit.cu", "at line 7 of unit.cu")
    assert diagnostics.refusals(said + other + stumbles) == {3: "size", 7: "rank"}


def test_a_kernel_that_stumbles_alone_has_nvccs_words_and_beside_others_is_asked_again():
    stumbles = 'unit.cu(5): error: incomplete type "unit::whole<int>" is not allowed\n\n'
    assert diagnostics.refusals(error(asserted("one"), 3) + stumbles) == {3: "one"}
    assert set(diagnostics.refusals(stumbles)) == {5}


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
    table = charts.shares(measured)
    assert (table[charts.GROUPS].sum(axis=1) == table["needs"]).all() and list(table["needs"]) == list(measured["kernel"])
    assert (table["left over"] == measured["budget"].to_numpy() - table["needs"]).all()
    assert set(gemm.PARTS.values()) < set(charts.GROUPS)


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
        assert not patch.git(copy, "--reverse")
        assert (copy / vendored.LAUNCHER).read_bytes() == original


def test_the_ends_of_a_macros_lines_are_one_below_the_other():
    for path in patches.FOLDER.glob("01-shared-memory.revised.*"):
        lines = [line.value.rstrip("\n") for file in patches.Patch(path).parsed for hunk in file for line in hunk]
        assert len({len(line) for line in lines if line.endswith("\\")}) == 1


@pytest.mark.parametrize("version", [wheel.version for wheel in wheels.pins() if wheel.name == "flashinfer-python"])
def test_every_pinned_flashinfer_has_a_patch_and_a_launcher_that_is_read(version):
    tree = wheels.source("flashinfer-python", version)
    assert launcher.revised(tree).state(tree) == patches.READY
    assert "TOLD" in launcher.told((tree / vendored.LAUNCHER).read_text())
    assert len(dispatch.grouped(tree)) >= 4 and dispatch.dispatched(tree / dispatch.DENSE[120])


def test_a_tree_that_no_patch_fits_is_refused_with_the_bases(tmp_path):
    with pytest.raises(CollectionError, match=r"no revised patch fits[\s\S]*flashinfer-python==0\.6\.6"):
        launcher.revised(tmp_path)


# What is kept

class Front:
    """A compiler that gives every kernel two stages, and counts how often it is asked."""

    key, version, target = {"nvcc": "none"}, "4.0.0", "sm_121a"

    def __init__(self):
        self.asked = 0

    def compile(self, source, kind, *options, more=()):
        self.asked += source.count("PROBE(")
        size = diagnostics.TYPES + len(gemm.FIELDS) + 2 * len(gemm.PARTS)
        lines = re.findall(r"PROBE\((\d+)", source)
        return 1, b"", "".join(told(line, *range(diagnostics.TYPES), 2, *[0] * (size - diagnostics.TYPES - 3)) for line in lines)


def test_bytes_are_asked_once_and_again_when_the_unit_changes(cache_folder, monkeypatch, tmp_path):
    front = Front()
    for _ in range(2):
        assert gemm.measure([gemm.Gemm(TILE, name="any")], front)["stages"].tolist() == [2]
    assert front.asked == 1
    (tmp_path / "gemm.cuh").write_text((gemm.UNITS / "gemm.cuh").read_text() + "// changed\n")
    monkeypatch.setattr(gemm, "UNITS", tmp_path)
    gemm.measure([gemm.Gemm(TILE)], front)
    assert front.asked == 2


def test_one_more_kernel_asks_for_that_kernel_alone(cache_folder, monkeypatch):
    front = Front()
    monkeypatch.setattr(gemm, "opened", lambda *_: front)
    kernels = [gemm.Gemm((128, 128, 64 * size)) for size in range(1, 101)]
    for some_of_them, asked in ((kernels[:-1], 99), (kernels, 100), (kernels[::-1], 100)):
        gemm.measure(some_of_them)
        assert front.asked == asked


def test_what_is_built_depends_on_every_unit_of_ours(monkeypatch, tmp_path):
    def inputs():
        with monkeypatch.context() as asked:
            asked.setattr(cache, "remember", lambda kind, inputs, ask: SimpleNamespace(folder=tmp_path, value=cache.content(inputs)))
            return binaries.compiled(harness.nvfp4(harness.PUBLISHED, "sm_121a"), VERSION)[1].value

    before = inputs()
    for path in gemm.UNITS.glob("*.cuh"):
        (tmp_path / path.name).write_text(path.read_text())
    monkeypatch.setattr(binaries, "UNITS", tmp_path)
    assert inputs() == before
    for path in tmp_path.glob("*.cuh"):
        path.write_text(path.read_text() + "// changed\n")
        assert inputs() != before
        path.write_text((gemm.UNITS / path.name).read_text())


def test_a_colour_recompiles_nothing():
    for asking in ("gemm", "launcher", "binaries"):
        sources = cache.sources(f"lib.bug1_shared_memory.{asking}")
        assert not [name for name in sources if name.startswith("lib.evidence") or name.endswith(".charts")]


# What the source of a runner says

CPP = """void f(int a)  // { not a block
{
    switch (sm120)
    {
    case 1: return { g<128>(1); };
    }
    if (sm == 120) { one(); }
    else
    {
        two();  /* } nor this */
        three();
    }
}
} // an excerpt may end more than it begins
after();
"""


def test_the_blocks_around_a_line_are_known_by_their_heads():
    at = {line.split("//")[0].strip(): number for number, line in enumerate(CPP.split("\n"))}
    assert cpp.around(CPP, at["case 1: return { g<128>(1); };"]) == ["void f(int a)", "switch (sm120)"]
    assert cpp.around(CPP, at["three();"]) == ["void f(int a)", "else"] and cpp.around(CPP, at["after();"]) == []
    assert [len(line) for line in cpp.code(CPP).split("\n")] == [len(line) for line in CPP.split("\n")]


def test_a_dispatch_is_read_in_either_spelling(tmp_path):
    header = tmp_path / "any.h"
    header.write_text("case tkc::CutlassTileConfigSM120::CtaShape128x128x256B:\n return run<T, cute::Int<128>, cute::Int<128>, cute::Int<256>>(x);\n"
                      "// case CutlassTileConfigSM120::CtaShape64x64x64B: return run<64, 64, 64>(x);\n"
                      "case CutlassTileConfigSM100::CtaShape128x64x128B: return run<128, 64, 128>(x);")
    assert dispatch.dispatched(header) == {"128x128x256B": (128, 128, 256)}
    assert dispatch.dispatched(header, 100) == {"128x64x128B": (128, 64, 128)} and not dispatch.dispatched(tmp_path / "none.h")


@needs_trees
def test_the_published_fix_changes_lines_for_sm120_alone_and_another_would_be_seen(tmp_path):
    tree, patch = TREES / "a-1.2.0rc2", patches.Patch("01-shared-memory.published.tensorrt-llm.diff")
    touched = dispatch.touched(tree, patch)
    assert len(touched) == 9 and touched["for SM120"].all() and set(touched["file"]) == {"fp4_gemm_template.h", "fp4Gemm.cpp"}
    name = "cpp/tensorrt_llm/thop/fp4Gemm.cpp"
    wide = tmp_path / "01-wide.diff"
    wide.write_text(f"What: x\nWhy: x\nBase: x\nLicence: x\n\n--- a/{name}\n+++ b/{name}\n"
                    "@@ -12,1 +12,1 @@\n-            return tkc::CutlassGemmConfig(tkc::CutlassTileConfigSM100::CtaShape128x256x256B,\n"
                    "+            return tkc::CutlassGemmConfig(tkc::CutlassTileConfigSM100::CtaShape128x128x256B,\n")
    lines = (tree / name).read_text().split("\n")
    at = 1 + next(number for number, line in enumerate(lines) if "SM100::CtaShape128x256x256B" in line)
    wide.write_text(wide.read_text().replace("-12,1 +12,1", f"-{at},1 +{at},1"))
    assert not dispatch.touched(tree, patches.Patch(wide))["for SM120"].any()


@needs_trees
def test_a_package_without_c_is_no_error():
    tree = TREES / "b-march-2026"
    assert patches.Patch("01-shared-memory.published.tensorrt-llm.diff").state(tree) == patches.FAILS
    assert dispatch.instantiated(tree, TILE) == ([], []) and dispatch.dispatched(tree / dispatch.TEMPLATE) == {}


def test_instances_are_found_by_tile(tmp_path):
    for number, name in enumerate(dispatch.INSTANCES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(("// " if number else "") + "INSTANTIATE_FP4_GEMM_KERNEL_LAUNCHER_SM120(half, 128, 128, 128, 1, 1, 1)\n")
    assert dispatch.instantiated(tmp_path, TILE) == ([dispatch.INSTANCES[0]], list(dispatch.INSTANCES))
    assert dispatch.instantiated(tmp_path, (256, 128, 128))[0] == []


def test_a_launcher_with_other_lines_is_refused():
    with pytest.raises(CollectionError, match="does not have the lines"):
        launcher.told("#define INSTANTIATE_SOMETHING\n")


def test_a_list_of_candidates_is_read_as_printed():
    found = launcher.candidates("100\tgrouped nvfp4\t128064128\t1001001\t1\t0\n100\tdense nvfp4\tnone\n120\tdense nvfp4\t256128128\t1001001\t0\t0\n")
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
