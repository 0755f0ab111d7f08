"""The inventory of cubins: headers, rules of loading, wheels that are damaged, and what it found in the real one."""

import re
import struct
import sys
import types
import zipfile

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib.errors import CollectionError
from lib.instruments import cubins, devices, toolchain
from lib.subjects import wheels


def elf(sm, accelerated=False, abi=8, machine_type=190):
    """A cubin's header, as LLVM lays it out, with some bytes after it."""
    flags = sm << 8 | 0x8 * accelerated | 0x06000000 if abi >= 8 else sm | 0x800 * accelerated
    head = bytearray(64)
    head[:9] = b"\x7fELF\x02\x01\x01\x41" + bytes([abi])
    struct.pack_into("<HH", head, 16, 2, machine_type)
    struct.pack_into("<I", head, 48, flags)
    return bytes(head) + bytes(range(256)) * 8


def wheel_of(tmp_path, members, compression=zipfile.ZIP_DEFLATED):
    """A wheel with these members (name to bytes)."""
    path = tmp_path / "some.whl"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@given(some.integers(20, 255), some.booleans(), some.sampled_from([7, 8, 9]))
def test_a_header_says_what_was_written(sm, accelerated, abi):
    said = cubins.header(elf(sm, accelerated, abi))
    assert (said.sm, said.suffix) == (sm, "a" * accelerated)


@given(some.binary(max_size=200))
def test_any_bytes_are_a_header_or_a_clear_error(data):
    try:
        assert 0 <= cubins.header(data, "x.cubin").sm <= 255
    except CollectionError as error:
        assert "x.cubin" in error.what and error.next_step


@pytest.mark.parametrize("data, words", [(b"", "0 bytes"), (elf(100)[:63], "63 bytes"), (b"PK\3\4" + elf(100)[4:], "begin with 50 4b"),
                                         (elf(100, machine_type=62), "02 00 3e 00")])
def test_what_is_no_cubin_is_told(data, words):
    with pytest.raises(CollectionError, match=words):
        cubins.header(data)


@given(some.sampled_from([90, 100, 103, 110, 120, 121]), some.sampled_from([90, 100, 103, 110, 120, 121]))
def test_each_kind_of_target_is_narrower_than_the_next(sm, device):
    architecture, family, plain = (cubins.loads_on(sm, kind, device) for kind in ("a", "f", ""))
    assert architecture <= family <= plain
    assert plain <= (sm // 10 == device // 10)
    assert architecture == (sm == device)


def test_a_family_is_not_its_neighbour():
    assert cubins.loads_on(100, "f", 103) and not cubins.loads_on(103, "f", 100)
    assert cubins.loads_on(120, "f", 121) and not cubins.loads_on(120, "a", 121)
    assert not any(cubins.loads_on(sm, kind, 121) for sm in (90, 100, 103, 110) for kind in ("", "f", "a"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_an_inventory_of_a_wheel_of_ours(tmp_path, compression):
    path = wheel_of(tmp_path, {"a/fmha/trtllm-gen/fmhaSm100fKernel_X.cubin": elf(100),
                               "a/fmha/trtllm-gen/fmhaSm103aKernel_Y.cubin": elf(103, True), "a/gemm-1/gemm_x_sm100f.cubin": elf(100),
                               "a/other/z.cubin": elf(121), "a/readme.txt": b"no"}, compression)
    table = cubins.inventory(path)
    assert list(table["family"]) == ["attention", "attention", "GEMM", "other"]
    assert list(table["named"]) == ["100f", "103a", "100f", ""] and list(table["sm"]) == [100, 103, 100, 121]
    assert set(table["bytes"]) == {len(elf(100))}
    assert cubins.disagreements(table).empty
    assert list(cubins.loadable(table, 121)) == [False, False, False, True]
    assert list(cubins.loadable(table, 103)) == [True, True, True, False]


def test_a_name_that_lies_is_found(tmp_path):
    names = [f"fmha/fmhaSm{name}.cubin" for name in ("100fKernel_X", "103aKernel_Y", "100fKernel_Z")]
    path = wheel_of(tmp_path, dict(zip(names, (elf(103), elf(103), elf(100)))))
    assert list(cubins.disagreements(cubins.inventory(path))["member"]) == names[:2]


def test_a_wheel_without_cubins(tmp_path):
    with pytest.raises(CollectionError, match="holds no cubins"):
        cubins.inventory(wheel_of(tmp_path, {"a.py": b"pass"}))


def test_a_file_that_is_no_wheel_or_is_not_there(tmp_path):
    (tmp_path / "x.whl").write_bytes(b"not a zip")
    for name in ("x.whl", "nowhere.whl"):
        with pytest.raises(CollectionError, match=name):
            cubins.inventory(tmp_path / name)


def test_a_truncated_wheel(tmp_path):
    path = wheel_of(tmp_path, {"a.cubin": elf(100)})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CollectionError, match="not a readable wheel"):
        cubins.inventory(path)


def test_a_damaged_cubin_is_named(tmp_path):
    path = wheel_of(tmp_path, {"good.cubin": elf(100), "bad.cubin": b"\0" * 500})
    with pytest.raises(CollectionError, match="bad.cubin is no cubin"):
        cubins.inventory(path)


def test_a_damaged_stream_is_named(tmp_path):
    path = wheel_of(tmp_path, {"torn.cubin": elf(100)})
    with zipfile.ZipFile(path) as archive:
        start = archive.infolist()[0].header_offset + 30 + len("torn.cubin")
    data = bytearray(path.read_bytes())
    data[start:start + 20] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(CollectionError, match="torn.cubin"):
        cubins.inventory(path)
    with pytest.raises(CollectionError, match="torn.cubin"):
        cubins.read(path, "torn.cubin")


def test_a_member_is_read_whole_or_refused(tmp_path):
    path = wheel_of(tmp_path, {"a/x.cubin": elf(100), "b/x.cubin": elf(103)})
    assert cubins.read(path, "b/x.cubin", "a/x.cubin") == [elf(103), elf(100)]
    for ending, number in (("x.cubin", 2), ("y.cubin", 0)):
        with pytest.raises(CollectionError, match=f"{number} files that end in {ending}"):
            cubins.read(path, ending)


def test_a_sample_has_every_kind():
    table = pd.DataFrame({"flags": [1] * 50 + [2] + [3] * 7, "member": range(58)})
    sample = cubins.sample(table, 3)
    assert sample.groupby("flags").size().to_dict() == {1: 3, 2: 1, 3: 3}
    assert sample["member"].is_monotonic_increasing and sample["member"].is_unique


def test_headers_agree_with_cuobjdump(tmp_path):
    wheel, tc = wheels.wheel("flashinfer-cubin", "0.6.6"), toolchain.find()
    table = cubins.inventory(wheel)
    chosen = cubins.sample(table, 1)
    for row, data in zip(chosen.itertuples(), cubins.read(wheel, *chosen["member"])):
        (tmp_path / "x.cubin").write_bytes(data)
        said = re.search(r"sm=(\d+)(a?)", tc.run("cuobjdump", "-elf", tmp_path / "x.cubin").stdout)
        assert (int(said[1]), said[2] == "a") == (row.sm, row.accelerated), row.member
        assert len(data) == row.bytes


@pytest.mark.skipif(bool(devices.gpus()), reason="there is a GPU here")
def test_loading_without_a_gpu_is_told():
    with pytest.raises(CollectionError, match="no CUDA GPU"):
        cubins.load(elf(100))


@pytest.mark.parametrize("status, said", [(0, "loaded"), (209, "CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available")])
def test_what_the_driver_says_is_passed_on(monkeypatch, status, said):
    class Status(int):
        name = "CUDA_ERROR_NO_BINARY_FOR_GPU"
    done, calls = Status(0), []
    driver = types.SimpleNamespace(
        cuInit=lambda flags: (done,), cuDeviceGet=lambda ordinal: (done, "device"),
        cuDevicePrimaryCtxRetain=lambda device: (done, "context"),
        cuCtxPushCurrent=lambda context: (done,), cuCtxPopCurrent=lambda: calls.append("pop"), cuDevicePrimaryCtxRelease=calls.append,
        cuModuleLoadData=lambda image: (Status(status), "module"), cuModuleUnload=calls.append,
        cuGetErrorString=lambda status: (done, b"no kernel image is available"))
    monkeypatch.setattr(devices, "gpus", lambda: ["a GPU"])
    monkeypatch.setitem(sys.modules, "cuda.bindings", types.SimpleNamespace(driver=driver))
    assert cubins.load(elf(100)) == said
    assert calls == (["module"] if status == 0 else []) + ["pop", "device"]


def test_what_the_wheels_hold(findings):
    found = findings["attention.inventory"]
    assert (found["verdict"], found["tier"], found["claim"]) == ("confirmed", "inspected", "5a")
    rows = pd.DataFrame(found["values"]["cubins"])
    assert rows["cubins"].sum() == 9734 and set(rows["sm"]) == {100, 103}
    attention = rows[rows["family"] == "attention"].set_index("named")["cubins"].to_dict()
    assert attention == {"100f": 6630, "100a": 250, "103a": 1114}
    may = pd.DataFrame(found["values"]["may load"])
    assert may[["110", "120", "121"]].sum().sum() == 0 and may["100"].sum() == 8620
    newest = pd.DataFrame(findings["attention.newest"]["values"]["cubins"])
    assert newest["cubins"].sum() == 15970 and set(newest["sm"]) == {100, 103}
