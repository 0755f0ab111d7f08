"""The cache: built once, whole or not at all, and errors that say what to do."""

import errno
import multiprocessing
import os
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
    assert first == second and (first / "a").read_text() == "x" and built == [1]
    assert cache.entry("kind", {"a": 3}, build) != first


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
    path = cache.entry("kind", "key", lambda folder: (folder / "whole").write_text("y"))
    assert [each.name for each in path.iterdir()] == ["whole"]


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
    assert len(list((cache_folder / "kind" / cache.digest("key")).iterdir())) == 1


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
