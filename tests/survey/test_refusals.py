"""What a driver is asked to load, beside a driver of ours that keeps to the rules, or does not; and NVIDIA's reader beside ours."""

import ctypes
import io
from types import SimpleNamespace

import pytest

from lib.instruments import images, loading, toolchain
from lib.survey import cuobjdump, refusals


class Status(int):
    name = "CUDA_ERROR_NO_BINARY_FOR_GPU"


class Driver:
    """A stand-in for cuda.bindings.driver that loads what `loads` says of an image's text or header."""

    def __init__(self, loads):
        self.loads = loads

    def __getattr__(self, name):
        return lambda *_: (Status(0), 1)

    def cuModuleLoadData(self, address):
        first = ctypes.string_at(address, 4)
        if first == images.ELF:
            flags = int.from_bytes(ctypes.string_at(address + 48, 4), "little")
            return Status(209 * (not self.loads(flags >> 8 & 0xFF, ""))), None
        text = ctypes.string_at(address).decode()
        return Status(209 * (not self.loads(0, text))), None


@pytest.fixture(scope="module")
def offered():
    with pytest.MonkeyPatch.context() as few:
        few.setattr(refusals, "targets", lambda tc: ["80", "90", "90a", "100f", "120"])
        return refusals.offered(90, toolchain.find())


def test_all_targets_of_ptxas_are_known():
    assert {"75", "90", "90a", "100", "103f", "110a", "120", "120a", "120f", "121f"} <= set(refusals.targets(toolchain.find()))


@pytest.fixture
def asked(offered, monkeypatch):
    monkeypatch.setattr(refusals, "offered", lambda sm, tc: offered)
    monkeypatch.setattr(refusals, "relinked", lambda sm, tc: [])
    return lambda loads, version="13.0": refusals.trials(Driver(loads), SimpleNamespace(sm=90), version)


def test_images_of_every_kind_are_offered(offered):
    kinds = {(image.kind, loading.how([image], 90, "580").how) for image, _ in offered}
    assert kinds == {("cubin", "native"), ("cubin", "nothing loads"), ("ptx", "compiled by the driver"), ("ptx", "nothing loads")}
    own = [image.ptx for image, _ in offered if image.kind == "ptx" and image.target == "compute_90"]
    assert own[0] == "7.8" and own[-1] == "99.0" and {"9.0", "9.1"} < set(own)
    assert {image.suffix for image, _ in offered} == {"", "a", "f"}
    for image, content in offered:
        assert content.endswith(b"\0") if image.kind == "ptx" else images.read(io.BytesIO(content)) == [image]


def test_a_driver_that_keeps_to_the_rules_agrees_and_one_that_does_not_is_seen(asked):
    def keeps(sm, text):
        known = not text or loading.number(text.split()[1]) < (9, 1)
        target = text.partition(".target sm_")[2].split("\n")[0] if text else ""
        return known and (sm == 90 or target == "90a" or target.isdigit() and int(target) <= 90)

    said = asked(keeps)
    assert said["agree"].all() and said["loads"].any() and not said["loads"].all()
    assert set(said["driver"]) == {"loaded", "CUDA_ERROR_NO_BINARY_FOR_GPU"}
    assert not asked(lambda sm, text: True)["agree"].all()
    assert not asked(lambda sm, text: False)["agree"].all()
    assert not asked(keeps, "12.6")["agree"].all()  # an older CUDA would know fewer ISAs


def test_without_a_gpu_nothing_is_tried(monkeypatch):
    monkeypatch.setattr(refusals.devices, "gpus", list)
    said = refusals.trials()
    assert said.empty and list(said.columns) == refusals.COLUMNS


def test_the_program_of_relocatable_code_and_nvidias_reader(tmp_path):
    tc, path = toolchain.find(), tmp_path / "program"
    (held, content), = refusals.relinked(90, tc)
    assert {(each.target, each.ptx, each.relocatable) for each in held} == {("sm_75", "", False), ("sm_75", "", True), ("compute_75", "6.3", True)}
    ptx, = (each for each in held if each.kind == "ptx")
    source = content[ptx.offset:ptx.offset + ptx.bytes].rstrip(b"\0").decode()
    assert ".version 6.3" in source and refusals.ptxas.run(tc, "sm_90", source)[1]  # it is PTX of that ISA
    said = loading.how(held, 90, "570")
    assert said.how == loading.COMPILED and said.image.relocatable
    path.write_bytes(content)
    told = cuobjdump.compare(path, tc)
    assert told.same and told.everything.total() == 3 and told.linked.total() == 1 and not told.error
    assert [each._replace(section="") for each in images.read(path)] == images.scan(io.BytesIO(content), "x")
    path.write_bytes(content.replace(images.MAGIC, b"\0" * 8))
    with pytest.raises(refusals.CollectionError):
        cuobjdump.compare(path, tc)


def test_nvidias_reader_does_not_print_the_f_of_machine_code(tmp_path):
    tc, cubin, fatbin = toolchain.find(), tmp_path / "k.cubin", tmp_path / "k.fatbin"
    cubin.write_bytes(refusals.ptxas.run(tc, "sm_120f", refusals.text("120f", "8.8"))[1])
    (tmp_path / "k.ptx").write_text(refusals.text("120f", "8.8"))
    tc.run("fatbinary", f"--create={fatbin}", "-64", f"--image3=kind=elf,sm=120f,file={cubin}", f"--image3=kind=ptx,sm=120f,file={tmp_path / 'k.ptx'}")
    told = cuobjdump.compare(fatbin, tc)
    assert set(told.ours) == {("cubin", "120f"), ("ptx", "120f")} and set(told.everything) == {("cubin", "120"), ("ptx", "120f")} and told.same
