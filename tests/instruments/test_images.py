"""The images in a file: what ptxas and fatbinary write for each target, what we write, and what is damaged."""

import io
import random
import struct
import time
import tracemalloc
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib.errors import CollectionError
from lib.instruments import cubins, images, ptxas, toolchain
from lib.subjects import wheels
from lib.survey import refusals
from tests.instruments import fatbins

TARGETS = ("75", "80", "87", "89", "90", "90a", "100", "100a", "100f", "103", "103a", "103f", "110", "110a", "110f", "120", "120a", "120f", "121", "121a", "121f")
SUFFIXES = some.sampled_from(["", "a", "f"])
CODE = some.builds(lambda sm, suffix, size: ("cubin", sm, suffix, "", 8 * size), some.integers(50, 199), SUFFIXES, some.integers(0, 30))
PTX = some.builds(lambda sm, suffix, major, minor: ("ptx", sm, suffix, f"{major}.{minor}", 40), some.integers(50, 199), SUFFIXES, some.integers(3, 12), some.integers(0, 9))
FATBINS = some.lists(some.lists(CODE | PTX, min_size=1, max_size=4), max_size=4)


def built(groups, gap=0):
    return b"".join(fatbins.fatbin(*(fatbins.entry(*each, header=64 + 8 * (each[1] % 3)) for each in group)) + bytes(gap) for group in groups)


def flat(found):
    return [(each.kind, each.sm, each.suffix, each.ptx, each.bytes) for each in found]


# What NVIDIA's tools write

@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """For each target: its cubin, and a fatbin of it and of its PTX (two Path)."""
    tc, folder, made = toolchain.find(), tmp_path_factory.mktemp("images"), {}
    for target in TARGETS:
        ptx, cubin, fatbin = (folder / f"{target}.{kind}" for kind in ("ptx", "cubin", "fatbin"))
        ptx.write_text(refusals.text(target, "9.0"))
        cubin.write_bytes(ptxas.run(tc, f"sm_{target}", ptx.read_text())[1])
        options = ["--compress-all"] if target.endswith("f") else ["--compress-mode=speed"] if target.endswith("a") else []
        done = tc.run("fatbinary", f"--create={fatbin}", "-64", *options, f"--image3=kind=elf,sm={target},file={cubin}", f"--image3=kind=ptx,sm={target},file={ptx}")
        assert done.returncode == 0, done.stderr
        made[target] = cubin, fatbin
    return made


@pytest.mark.parametrize("target", TARGETS)
def test_what_ptxas_and_fatbinary_write_for_a_target_is_read(written, target):
    cubin, fatbin = written[target]
    for path, expected in ((cubin, [("sm_" + target, "")]), (fatbin, [("sm_" + target, ""), ("compute_" + target, "9.0")])):
        found = images.read(path)
        assert [(each.target, each.ptx) for each in found] == expected
        assert images.scan(io.BytesIO(path.read_bytes()), "x") == found
        with zipfile.ZipFile(io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, "x")
            with archive.open("x") as member:
                assert [each.target for each in images.read(member)] == [each.target for each in found]


def test_cubins_of_flashinfer_are_what_their_names_say():
    archive = cubins.opened(wheels.wheel("flashinfer-cubin", "0.6.6"))
    members = [name for name in archive.namelist() if name.endswith(".cubin") and cubins.NAMED.findall(name)]
    unmarked = 0
    for name in random.Random(1).sample(members, 60):
        (sm, suffix), each = cubins.NAMED.findall(name)[-1], images.read(io.BytesIO(archive.read(name)))[0]
        assert each.sm == int(sm) and each.suffix in (suffix, ""), name
        unmarked += each.suffix != suffix
    assert unmarked <= 6  # an f target that CUDA 12 marked nowhere


# What we write

@given(FATBINS, FATBINS, some.integers(0, 3).map(lambda n: 8 * n))
def test_what_was_written_is_read_by_sections_and_as_a_stream(linked, relocatable, gap):
    content = fatbins.elf([(".text", b"\x50" * 24), ("__nv_relfatbin", built(relocatable, gap)), (".nv_fatbin", built(linked, gap))])
    found = images.read(io.BytesIO(content))
    assert flat(found) == [each for groups in (relocatable, linked) for group in groups for each in group]
    assert [each.relocatable for each in found] == [True] * sum(map(len, relocatable)) + [False] * sum(map(len, linked))
    assert len({each.fatbin for each in found}) == len(linked) + len(relocatable)
    assert images.scan(io.BytesIO(content), "x") == [each._replace(section="") for each in found]


@given(some.sampled_from([50, 75, 90, 100, 103, 120, 121]), SUFFIXES, some.booleans())
def test_a_bare_cubin_tells_its_suffix_in_its_note_or_by_a_flag(sm, suffix, accelerated):
    found, = images.read(io.BytesIO(fatbins.cubin(sm, suffix, accelerated)))
    assert (found.kind, found.sm, found.suffix) == ("cubin", sm, suffix or "a" * accelerated)
    assert cubins.header(fatbins.cubin(sm, suffix, accelerated)).sm == found.sm


@pytest.mark.parametrize("chunk", [1, 7, 64, 100])
def test_a_stream_in_chunks_of_any_size(monkeypatch, chunk):
    monkeypatch.setattr(images, "CHUNK", chunk)
    content = fatbins.elf([(".data", b"\x50\xed\x55" * 9), (".nv_fatbin", built([[("cubin", 90, "a", "", 80), ("ptx", 90, "", "8.0", 40)]] * 3, 8))])
    assert len(images.scan(io.BytesIO(content), "x")) == 6


def test_a_fatbin_outside_of_the_sections_is_seen_by_a_stream_alone():
    content = fatbins.elf([(".cask_resource", b"cask" * 2 + fatbins.fatbin(fatbins.entry(suffix="a")))])
    assert images.read(io.BytesIO(content)) == []
    assert [each.target for each in images.scan(io.BytesIO(content), "x")] == ["sm_120a"]


def test_a_library_of_2_gb_is_read_in_a_second_and_little_memory(tmp_path):
    path, size = tmp_path / "large.so", 2 << 30
    payload = fatbins.fatbin(*[fatbins.entry(size=8)] * 3, fatbins.entry("ptx", isa="8.8", size=8))
    content = bytearray(fatbins.elf([(".nv_fatbin", payload)]))
    place, = struct.unpack_from("<Q", content, 40)
    struct.pack_into("<Q", content, 40, size)
    with open(path, "wb") as file:  # the fatbin at its beginning, the section headers behind a hole
        file.write(content[:place])
        file.seek(size)
        file.write(content[place:])
    tracemalloc.start()
    begin = time.perf_counter()
    assert len(images.read(path)) == 4
    assert time.perf_counter() - begin < 1 and tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


# What is damaged

WHOLE = fatbins.elf([(".nv_fatbin", built([[("cubin", 120, "f", "", 64), ("ptx", 120, "", "8.8", 64)]] * 3))])


def asked(content):
    """What both readers make of bytes: a list or an error that names the file and says what to do."""
    told = []
    for ask in (lambda: images.read(io.BytesIO(content)), lambda: images.scan(io.BytesIO(content), "x.so")):
        try:
            told.append(ask())
        except CollectionError as error:
            assert ("x.so" in error.what or "the file" in error.what) and error.next_step
            told.append(None)
    return told


@pytest.mark.parametrize("size", [*range(0, 64, 7), *range(64, len(WHOLE), 97), len(WHOLE) - 1])
def test_a_truncated_library_is_an_error(size):
    assert asked(WHOLE[:size]) == [None, None]


@given(some.lists(some.tuples(some.integers(0, len(WHOLE) - 1), some.integers(0, 255)), min_size=1, max_size=8))
def test_bytes_turned_at_random_end_in_images_or_a_clear_error(changes):
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    begin = time.process_time()
    asked(bytes(content))
    assert time.process_time() - begin < 1


@given(some.binary(max_size=300), some.sampled_from([b"", b"\x7fELF", b"\x7fELF\x02\x01", images.MAGIC]))
def test_any_bytes_end_in_images_or_a_clear_error(data, first):
    asked(first + data)


@pytest.mark.parametrize("offset, form, value", [
    (8, "<Q", 1 << 60), (8, "<Q", 80), (20, "<I", 0), (20, "<I", 8), (20, "<I", 1 << 31), (24, "<Q", 1 << 63), (24, "<Q", 200), (16, "<H", 0), (0, "<I", 1)])
def test_a_wrong_length_is_an_error_and_no_hang(offset, form, value):
    content = bytearray(built([[("cubin", 120, "", "", 64)]] * 2))
    struct.pack_into(form, content, offset, value)
    with pytest.raises(CollectionError, match="damaged"):
        images.read(io.BytesIO(fatbins.elf([(".nv_fatbin", bytes(content))])))


@pytest.mark.parametrize("offset, form, value", [
    (40, "<Q", 1 << 62), (60, "<H", 0xFFFF), (62, "<H", 0xFFF0), (58, "<H", 0), (-64 + 32, "<Q", 1 << 62), (-128 + 32, "<Q", 1 << 62), (-128 + 24, "<Q", 1 << 62)])
def test_section_headers_that_lie_allocate_nothing(offset, form, value):
    content = bytearray(WHOLE)
    struct.pack_into(form, content, offset % len(content), value)
    tracemalloc.start()
    asked(bytes(content))
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(CollectionError, match="gone.so"):
        images.read(tmp_path / "gone.so")
    (tmp_path / "script.so").write_text("GROUP ( libm.so.6 )")
    with pytest.raises(CollectionError, match="neither ELF nor a fatbin"):
        images.read(tmp_path / "script.so")
