"""The doctor's second table: packages with CUDA code of our own making, how each gets onto a GPU, and what is damaged."""

import json
import os
import sys

import pytest

from lib.doctor import libraries
from tests.conftest import ROOT
from tests.doctor.test_doctor import doctor
from tests.instruments.fatbins import cubin, elf, entry, fatbin, library

PTX80, SM90A, SM120, SM120F, SM121 = entry("ptx", 80, isa="8.7"), entry("cubin", 90, "a"), entry("cubin", 120), entry("cubin", 120, "f"), entry("cubin", 121)
NEW = entry("ptx", 90, isa="9.2")
FILES = {
    "torch-2.9.1": {"torch/lib/libtorch_cuda.so": library(SM90A, SM120), "torch/lib/libtorch.so": elf([(".text", b"x")]), "torch/__init__.py": b"", "torch/lib/libc10_cuda.so": library(SM121)},
    "nvidia_cublas-13.1": {"nvidia/cu13/lib/libcublas.so.13": library(SM120F)},
    "fast_attn-2": {"fast_attn/_C.cpython-312-x86_64-linux-gnu.so": library(SM90A), "fast_attn/_D.abi3.so": library(PTX80, SM90A)},
    "new_ops-1": {"new_ops/_C.so": library(NEW)},
    "flashinfer_cubin-0.6": {f"flashinfer_cubin/cubins/gen/{name}{at}.cubin": cubin(sm, "f") for at in range(50) for name, sm in (("a", 100), ("b", 120))},
    "numpy-2": {"numpy/core.so": elf([(".text", b"x")])},
}


def installed(folder, packages=FILES):
    """A site-packages with these packages, each with its RECORD."""
    for name, files in packages.items():
        info = folder / f"{name}.dist-info"
        info.mkdir(parents=True)
        (info / "RECORD").write_text("".join(f"{path},sha256=x,{len(content)}\n" for path, content in files.items()) + f"{info.name}/RECORD,,\n")
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    return folder


@pytest.fixture
def bare(tmp_path):
    """A Python that sees nothing, and has no GPU."""
    return {"python": (sys.executable, "-S"), "env": {"PATH": str(tmp_path / "bin"), "PYTHONPATH": str(ROOT)}}


def table(*words, **bare):
    """The second table as text, and as programs read it: package to the ways of its libraries, in order."""
    said = doctor(*words, **bare)
    told = json.loads(doctor("--json", *words, **bare))
    ways = {package["name"]: [each["answer"]["how"] if each["answer"] else "damaged" for each in package["libraries"]] for package in told["packages"]}
    assert all(len(line) <= 98 for line in said.splitlines() if str(ROOT) not in line and "/" not in line), said
    return said[said.index("CUDA code in packages"):], ways, told


def test_each_library_of_what_is_installed_or_named(tmp_path, bare):
    folder = installed(tmp_path / "venv/lib/python3.12/site-packages")
    bare["env"]["PYTHONPATH"] += f"{os.pathsep}{folder}"
    said, ways, told = table(**bare)
    assert ways == {"fast-attn": ["nothing loads", "compiled by the driver"], "flashinfer-cubin": ["nothing loads", "same family"], "new-ops": ["nothing loads"],
                    "nvidia-cublas": ["same family"], "torch": ["same family", "native"]}
    assert (told["driver"], told["CUDA of the driver"]) == ("580", "13.0") and "presumed" in said
    lines = said.splitlines()
    assert [line.split()[2:] for line in lines if line.startswith("   torch")] == [["2", "files:", "1", "native,", "1", "same", "family"]]
    assert any(line.startswith("   nvidia-cublas 13.1") and line.endswith("same family") for line in lines)
    assert "100 files: 50 same family, 50 nothing loads" in said
    assert "_C.cpython-312-x86_64-linux-gnu.so: it holds sm_90a" in said and "do: take a newer release, or a build for CUDA 13, that has sm_120f" in said
    assert "to branch 595" in " ".join(said.split())
    assert "numpy" not in said and "_D.abi3.so" not in said
    bare["env"]["PYTHONPATH"] = str(ROOT)
    assert table(**bare)[1] == {}
    (tmp_path / "venv/lib64").symlink_to("lib")
    assert len(table(tmp_path / "venv", **bare)[2]["packages"]) == len(ways)
    assert table(tmp_path / "venv", **bare)[1] == table(folder, **bare)[1] == table(folder, tmp_path / "venv", **bare)[1] == ways


@pytest.mark.parametrize("words, expected", [
    (("--gpu", "120"), {"torch": ["same family", "nothing loads"], "new-ops": ["nothing loads"], "flashinfer-cubin": ["nothing loads", "native"]}),
    (("--gpu", "90", "--driver", "595.45.04"), {"torch": ["native", "nothing loads"], "new-ops": ["compiled by the driver"], "nvidia-cublas": ["nothing loads"]}),
    (("--gpu", "103", "--driver", "570.26"), {"fast-attn": ["nothing loads", "compiled by the driver"], "flashinfer-cubin": ["same family", "nothing loads"]})])
def test_another_gpu_and_another_driver(tmp_path, bare, words, expected):
    said, ways, told = table(installed(tmp_path / "x"), *words, **bare)
    expected = dict(expected)
    if words[1] == "120":
        expected["torch"] = ["native", "nothing loads"]
    assert {name: ways[name] for name in expected} == expected
    assert told["judged for"] == f"SM{words[1]}" and ("presumed" in said) == (len(words) == 2)


def test_the_driver_here_is_asked_for(tmp_path, bare):
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'NVIDIA GB10, 12.1, 595.58.03'\n")
    program.chmod(0o755)
    said, ways, told = table(installed(tmp_path / "x"), **bare)
    assert told["driver"] == "595.58.03" and ways["new-ops"] == ["compiled by the driver"] and "presumed" not in said
    assert table(tmp_path / "x", "--driver", "575", **bare)[1]["new-ops"] == ["nothing loads"]
    program.write_text("#!/bin/sh\necho 'NVIDIA GB10, 12.1, [N/A]'\n")  # a driver that does not say
    assert "presumed" in table(tmp_path / "x", **bare)[0]


def test_what_is_damaged_costs_a_line_and_nothing_else(tmp_path, bare):
    whole = library(SM120)
    files = {"a/cut.so": whole[:-40], "a/whole.so": whole, "a/text.so": b"INPUT(libc.so.6)", "a/empty.so": b"", "a/cut.cubin": cubin(120)[:200]}
    folder = installed(tmp_path / "x", {"a-1": files, "b-1": {"b/fifo.so": b"", "b/folder.so": b"", "b/gone.so": b"", "b/closed.so": whole}})
    for name in ("fifo", "folder", "gone"):
        (folder / f"b/{name}.so").unlink()
    os.mkfifo(folder / "b/fifo.so")
    (folder / "b/folder.so").mkdir()
    with open(folder / "a-1.dist-info/RECORD", "a") as record:
        record.write('"../../../../../../../../dev/zero.so",,\n\0\x1b[31m.so,,\n,,,\n')
    (folder / "c-1.dist-info").mkdir()  # no RECORD
    (folder / "d-1.dist-info").mkdir()
    (folder / "d-1.dist-info/RECORD").write_bytes(b"\xff\xfe.so" * 99)
    said, ways, _ = table(folder, **bare)
    assert ways["a"].count("damaged") == 2 and "same family" in ways["a"]
    assert "cut.so is damaged" in " ".join(said.split()) and "\x1b" not in said
    assert set(ways) == {"a", "b"} and ways["b"].count("same family") == 1


def test_checkouts_and_folders_without_records_are_walked(tmp_path, bare):
    checkout = tmp_path / "checkout"
    (checkout / "pkg").mkdir(parents=True)
    (checkout / "pkg/_C.so").write_bytes(library(SM121))
    folder = installed(tmp_path / "x", {"pkg-1": {}})
    (folder / "pkg-1.dist-info/direct_url.json").write_text(json.dumps({"url": checkout.as_uri(), "dir_info": {"editable": True}}))
    assert table(folder, **bare)[1] == {"pkg": ["native"]}
    assert table(checkout, **bare)[1] == {"checkout": ["native"]}


def test_where_nothing_loads_by_its_sections_the_whole_file_is_searched(tmp_path, bare):
    hidden = elf([(".nv_fatbin", library(SM90A)[64 + 64:64 + 64 + 16 + 128]), (".cask_resource", library(SM121)[128:128 + 144])])
    folder = installed(tmp_path / "x", {"a-1": {"a/a.so": hidden}})
    assert table(folder, **bare)[1] == {"a": ["native"]}


def test_a_library_is_told_by_most_of_its_fatbins_that_load(tmp_path):
    many = elf([(".nv_fatbin", fatbin(SM120) * 5 + fatbin(SM121) * 2 + fatbin(SM90A) * 9)])
    package, = libraries.packages([installed(tmp_path / "x", {"a-1": {"a/a.so": many}})], 121, "580")
    held, = package.libraries
    assert held.answer.how == "same family" and held.fatbins == {"same family": 5, "native": 2, "nothing loads": 9}
    package, = libraries.packages([tmp_path / "x"], 90, "580")
    assert package.libraries[0].answer.how == "native" and package.libraries[0].fatbins == {"native": 9, "nothing loads": 7}


def test_a_name_that_says_what_to_do_and_long_lists(tmp_path):
    files = {f"a/lib{at}.so": library(SM90A) for at in range(9)}
    folder = installed(tmp_path / "x", {"bitsandbytes-1": files})
    from lib.doctor import __main__ as command

    package, = libraries.packages([folder], 121, "580")
    lines = command.ways(package, 30)
    assert lines[0].endswith("9 files: nothing loads") and "lib0.so, lib1.so, lib2.so and 6 more: it holds sm_90a" in lines[1]
    assert lines[2].startswith("     do: Nothing, if the library") and len(lines) <= 4
