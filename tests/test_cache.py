"""The cache: built once, whole or not at all, and errors that say what to do."""

import errno
import json
import multiprocessing
import os
import shutil
import time

import pytest

from lib import cache
from lib.errors import CollectionError


def test_an_entry_is_built_once(cache_folder):
    built = []

    def build(folder):
        built.append(1)
        (folder / "a").write_text("x")

    first, second = cache.entry("kind", {"b": 1, "a": 2}, build), cache.entry("kind", {"a": 2, "b": 1}, build)
    assert first == second and (first.folder / "a").read_text() == "x" and built == [1]
    assert cache.entry("kind", {"a": 3}, build).folder != first.folder


def test_a_build_that_fails_leaves_nothing(cache_folder):
    def build(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        cache.entry("kind", "key", build)
    assert [path.name for path in (cache_folder / "kind").iterdir() if not path.name.endswith(".lock")] == []


def test_what_a_killed_build_left_is_not_taken_for_a_result(cache_folder):
    leftover = cache_folder / "kind" / f".{cache.digest('key')}.building"
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("x")
    folder = cache.entry("kind", "key", lambda folder: (folder / "whole").write_text("y")).folder
    assert cache.names(folder) == ["whole"]


def slow_build(folder):
    time.sleep(0.5)
    (folder / str(os.getpid())).write_text("x")


def test_two_processes_build_one_entry_once(cache_folder):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=cache.entry, args=("kind", "key", slow_build)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(cache.names(cache_folder / "kind" / cache.digest("key"))) == 1


@pytest.mark.parametrize("code, words", [(errno.ENOSPC, "disk is full"), (errno.EROFS, "no permission"), (errno.EACCES, "no permission")])
def test_a_disk_that_is_full_or_read_only_is_named(cache_folder, code, words):
    def build(folder):
        raise OSError(code, os.strerror(code), str(folder / "file"))

    with pytest.raises(CollectionError, match=words) as error:
        cache.entry("kind", "key", build)
    assert "SM12X_CACHE" in error.value.next_step and "file" in error.value.what


def test_a_cache_that_cannot_be_a_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SM12X_CACHE", "/proc/nowhere")
    with pytest.raises((CollectionError, FileNotFoundError)):
        cache.entry("kind", "key", lambda folder: None)


PACKAGE = {
    "__init__.py": "", "asks.py": "from pkg import near\nimport pkg.plain\n", "near.py": "def late():\n    from pkg.room.far import x\n",
    "plain.py": "import os, json\n", "room/__init__.py": "", "room/far.py": "x = 1\n", "room/beside.py": "from pkg import asks\n", "other.py": "y = 1\n"}


@pytest.fixture
def package(tmp_path, cache_folder, monkeypatch):
    """A small package in place of lib, with inputs beside it; `ask` counts how often it is asked."""
    for name, text in PACKAGE.items():
        (tmp_path / "pkg" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pkg" / name).write_text(text)
    (tmp_path / "units/deep").mkdir(parents=True)
    for name in ("one.cu", "units/two.cuh", "units/deep/three.h", "unasked.cu"):
        (tmp_path / name).write_text("int i;\n")
    monkeypatch.setattr(cache, "PACKAGE", tmp_path / "pkg")
    names = {"__name__": "pkg.asks", "asked": []}
    exec("def ask(folder):\n    asked.append(1)\n    (folder / 'sub').mkdir()\n    (folder / 'sub/built.o').write_bytes(b'built')\n"
         "    (folder / 'log').write_text('said')\n    return {'n': [len(asked)], 5: None}", names)

    def remember(**more):
        inputs = {"source": tmp_path / "one.cu", "nested": [{"units": tmp_path / "units"}], "target": "sm_121a"} | more
        return cache.remember("kind", inputs, names["ask"])

    remember.asked = names["asked"]
    return remember


@pytest.mark.parametrize("path, again", [
    ("pkg/asks.py", True), ("pkg/near.py", True), ("pkg/plain.py", True), ("pkg/room/far.py", True), ("pkg/__init__.py", True),
    ("one.cu", True), ("units/two.cuh", True), ("units/deep/three.h", True), ("units/new.h", True),
    ("pkg/other.py", False), ("pkg/room/beside.py", False), ("unasked.cu", False), ("pkg/new.py", False)])
def test_an_answer_is_asked_for_again_when_what_it_depends_on_changes_and_only_then(package, tmp_path, path, again):
    first = package()
    assert package() == first and package.asked == [1]
    with open(tmp_path / path, "a") as file:
        file.write("\n# changed")
    second = package()
    assert len(package.asked) == (2 if again else 1) and (second.folder != first.folder) == again
    assert package() == second and len(package.asked) == (2 if again else 1)


def test_a_module_that_is_imported_from_now_on_counts_from_now_on(package, tmp_path):
    package()
    (tmp_path / "pkg/plain.py").write_text("from pkg.other import y\n")
    package()
    (tmp_path / "pkg/other.py").write_text("y = 2\n")
    assert package().value["n"] == [3] and package().value["n"] == [3]


def test_other_inputs_are_another_answer_and_equal_ones_in_other_places_are_not(package, tmp_path):
    package()
    assert package(target="sm_120a").value["n"] == [2] and package(more=None).value["n"] == [3]
    (tmp_path / "copy.cu").write_bytes((tmp_path / "one.cu").read_bytes())
    assert package(source=tmp_path / "copy.cu").value["n"] == [1]


def test_an_answer_knows_when_it_was_made_how_long_it_took_and_its_files(package, monkeypatch):
    ticks = iter([10.0, 12.5])
    monkeypatch.setattr(cache.time, "monotonic", lambda: next(ticks))
    first = package()
    assert first.seconds == 2.5 and first.made.endswith("+00:00") and first.value == {"n": [1], "5": None}
    assert (first.folder / "sub/built.o").read_bytes() == b"built"
    again = package()
    assert (again.made, again.seconds, again.value, package.asked) == (first.made, 2.5, first.value, [1])


DAMAGE = {
    "value changed": lambda folder: (folder / "answer.json").write_text((folder / "answer.json").read_text().replace('"n": [1]', '"n": [7]')),
    "seconds changed": lambda folder: (folder / "answer.json").write_text((folder / "answer.json").read_text().replace('"seconds": ', '"seconds": 1')),
    "truncated": lambda folder: os.truncate(folder / "answer.json", 20), "emptied": lambda folder: os.truncate(folder / "answer.json", 0),
    "gone": lambda folder: (folder / "answer.json").unlink(), "a list": lambda folder: (folder / "answer.json").write_text("[]"),
    "a number": lambda folder: (folder / "answer.json").write_text("3"), "no text": lambda folder: (folder / "answer.json").write_bytes(b"\xff"),
    "files of another kind": lambda folder: (folder / "answer.json").write_text('{"files": 3, "digest": ""}'),
    "file changed": lambda folder: (folder / "log").write_text("sAid"), "file emptied": lambda folder: os.truncate(folder / "log", 0),
    "file gone": lambda folder: (folder / "sub/built.o").unlink(), "file a folder": lambda folder: ((folder / "log").unlink(), (folder / "log").mkdir()),
    "file more": lambda folder: (folder / "more").write_text("x"), "file moved": lambda folder: (folder / "log").rename(folder / "log2"),
    "empty folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()), "half": lambda folder: shutil.rmtree(folder / "sub"),
    "of another key": lambda folder: change(folder, key="0" * 40)}


def change(folder, **fields):
    """Write the record of an entry with other fields, and a digest of it that is right."""
    record = json.loads((folder / "answer.json").read_text()) | fields
    del record["digest"]
    (folder / "answer.json").write_text(json.dumps(record | {"digest": cache.digest(record)}))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_answer_is_made_again_and_said_so(package, damage, caplog):
    folder = package().folder
    assert package.asked == [1] and not caplog.messages
    DAMAGE[damage](folder)
    mended = package()
    assert [str(folder) in message and "made again" in message for message in caplog.messages] == [True]
    assert mended.value == {"n": [2], "5": None} and mended.folder == folder and (folder / "log").read_text() == "said"
    assert package() == mended and len(package.asked) == 2


def test_a_tree_is_checked_as_an_answer_is_and_a_build_that_fails_leaves_what_was_there(cache_folder, caplog):
    def build(folder):
        (folder / "deep").mkdir()
        (folder / "deep/file.h").write_text("#define N 101376\n")
        (folder / "deep/file.h").chmod(0o444)

    def broken(folder):
        raise OSError(28, "No space left on device")

    path = cache.entry("trees", "key", build).folder / "deep/file.h"
    before = path.stat()
    path.chmod(0o644)
    path.write_text("#define N 228000\n")
    path.chmod(0o444)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(CollectionError, match="disk is full"):
        cache.entry("trees", "key", broken)
    assert cache.held("trees", "key") is None
    assert cache.entry("trees", "key", build).folder == path.parents[1] and path.read_text() == "#define N 101376\n"
    assert len(caplog.messages) == 2


def test_an_answer_of_an_older_form_is_read_and_a_tree_without_digests_is_made_again(package, caplog):
    record = json.loads((package().folder / "answer.json").read_text())
    del record["key"], record["digest"]
    (package().folder / "answer.json").write_text(json.dumps(record | {"digest": cache.digest(record)}))
    assert package().value["n"] == [1] and not caplog.messages
    (package().folder / "answer.json").unlink()
    assert package().value["n"] == [2] and "no digest" in caplog.text


def test_all_that_is_written_is_synced_before_it_has_its_name(package, monkeypatch):
    synced, path_of = [], lambda opened: os.readlink(f"/proc/self/fd/{opened}")
    monkeypatch.setattr(cache.os, "fsync", lambda opened: synced.append(path_of(opened)))
    folder = package().folder
    inside, [last] = synced[:-1], synced[-1:]
    assert {name.partition(".building")[2] for name in inside} == {"", "/log", "/sub", "/sub/built.o", "/answer.json"}
    assert last == str(folder.parent)


def test_a_warm_cache_is_only_read(package, monkeypatch):
    first = package()
    for name in ("mkdir", "rename", "write_text", "unlink"):
        monkeypatch.setattr(cache.Path, name, lambda *_, **__: pytest.fail("a warm cache was written to"))
    monkeypatch.setattr(cache.fcntl, "flock", lambda *_: pytest.fail("a warm cache was locked"))
    assert package() == first


def test_what_fails_is_not_remembered(package, monkeypatch):
    names = {"__name__": "pkg.asks"}
    exec("def ask(folder):\n    (folder / 'half').write_text('x')\n    raise RuntimeError('no compiler')", names)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no compiler"):
            cache.remember("kind", {}, names["ask"])
    assert package().value["n"] == [1]


def test_a_question_from_outside_the_package_has_no_key(package):
    with pytest.raises(CollectionError, match="no module of this package"):
        cache.remember("kind", {}, lambda folder: 1)


def test_every_module_of_lib_that_remembers_has_a_key_of_itself_and_of_no_report():
    asking = [path for path in cache.PACKAGE.rglob("*.py") if "cache.remember(" in path.read_text() and path.name != "cache.py"]
    for path in asking:
        name = ".".join(["lib", *path.relative_to(cache.PACKAGE).with_suffix("").parts])
        found = cache.sources(name)
        above = ("lib.report",) if name.startswith("lib.history") else ("lib.report", "lib.doctor")  # whose rules the history asks
        assert name in found and not any(each.startswith(above) for each in found), name


def test_a_tree_of_ten_thousand_files_is_checked_within_two_seconds(cache_folder, monkeypatch):
    """Of this process's own time, which other work on the machine does not change."""
    monkeypatch.setattr(cache, "sync", lambda *_: None)

    def build(folder):
        for number in range(10_000):
            (folder / f"{number}.h").write_bytes(b"%d" % number)

    assert cache.entry("trees", "key", build).folder
    began = time.process_time()
    assert cache.held("trees", "key") and time.process_time() - began < 2
