"""Subjects: what is fetched is what was pinned, what is unpacked stays in its folder, and every failure says what to do."""

import errno
import hashlib
import io
import os
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib import cache
from lib.errors import CollectionError
from lib.subjects import tensorrt_llm, wheels
from tests.conftest import heard


def wheel_of(path, content=b"data"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pkg/file.txt", content)
        archive.writestr("pkg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pkg\nVersion: 1.0\n")
        archive.writestr("pkg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("pkg-1.0.dist-info/RECORD", "")
    data = path.read_bytes()
    return wheels.Wheel("pkg", "1.0", "any", "subject", path.name, len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def index(tmp_path, cache_folder, monkeypatch):
    """A package index of one wheel, served by pip from a folder, and its pin."""
    folder = tmp_path / "index"
    folder.mkdir()
    pinned = wheel_of(folder / "pkg-1.0-py3-none-any.whl")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(wheels, "pins", lambda: [pinned])
    another_process()
    yield folder, pinned
    another_process()


def another_process():
    """Forget what this process has checked."""
    wheels.wheel.cache_clear()
    wheels.source.cache_clear()


def test_a_wheel_is_fetched_verified_and_kept(index, monkeypatch):
    path = wheels.wheel("pkg", "1.0")
    another_process()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked the network although the cache is warm"))
    assert wheels.wheel("pkg", "1.0") == path
    assert (wheels.source("pkg", "1.0") / "pkg/file.txt").read_bytes() == b"data"


def test_an_edited_tree_is_unpacked_again_and_said_so(index, caplog):
    path = wheels.source("pkg", "1.0") / "pkg/file.txt"
    path.chmod(0o644)
    path.write_bytes(b"dAta")
    another_process()
    assert (wheels.source("pkg", "1.0") / "pkg/file.txt").read_bytes() == b"data"
    assert len(caplog.messages) == 1 and str(path.parents[1]) in caplog.text


def nothing_kept(cache_folder):
    return not list((cache_folder / "wheels").rglob("*.whl"))


def test_a_wrong_hash_is_refused_and_not_kept(index, cache_folder):
    folder, pinned = index
    data = bytearray((folder / pinned.file).read_bytes())
    data[data.index(b"data")] ^= 1
    (folder / pinned.file).write_bytes(data)
    with pytest.raises(CollectionError, match="wrong hash|pip could not fetch") as error:
        wheels.wheel("pkg", "1.0")
    assert pinned.file in error.value.what and nothing_kept(cache_folder)


def test_a_truncated_download_is_refused(index, cache_folder):
    folder, pinned = index
    wheel_of(folder / pinned.file, b"other data of another length")
    with pytest.raises(CollectionError, match="truncated, or another file"):
        wheels.wheel("pkg", "1.0")
    assert nothing_kept(cache_folder)


@pytest.mark.parametrize("change", [lambda data: data[:-5], lambda data: data[:-1] + b"?", lambda data: b""], ids=["truncated", "altered", "emptied"])
def test_a_damaged_wheel_is_fetched_again_said_so_and_never_used(index, caplog, change):
    folder, pinned = index
    path = wheels.wheel("pkg", "1.0")
    right = path.read_bytes()
    path.write_bytes(change(right))
    (folder / pinned.file).rename(folder / "away")
    another_process()
    with pytest.raises(CollectionError, match="could not fetch"):
        wheels.wheel("pkg", "1.0")
    (folder / "away").rename(folder / pinned.file)
    assert wheels.wheel("pkg", "1.0") == path and path.read_bytes() == right
    assert len(caplog.messages) == 2 and all(pinned.file in message and "fetched again" in message for message in caplog.messages)


def test_no_network_names_the_file(index, cache_folder):
    folder, pinned = index
    (folder / pinned.file).unlink()
    with pytest.raises(CollectionError, match=pinned.file) as error:
        wheels.wheel("pkg", "1.0")
    assert "network" in error.value.next_step and nothing_kept(cache_folder)


@pytest.fixture
def silent_index(index, monkeypatch):
    """An index that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "180")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}/simple")
        yield server


def test_an_index_that_never_answers_is_given_up_within_thirty_seconds(silent_index, monkeypatch, cache_folder):
    [timeout] = [int(word.partition("=")[2]) for word in wheels.PIP if word.startswith("--timeout")]
    [retries] = [int(word.partition("=")[2]) for word in wheels.PIP if word.startswith("--retries")]
    assert timeout * (1 + retries) < 28
    monkeypatch.setattr(wheels, "PIP", [word.replace(f"={timeout}", "=1") for word in wheels.PIP])
    monkeypatch.setenv("FORCE_COLOR", "1")
    with pytest.raises(CollectionError, match=r"index does not answer \(Read timed out\)\n") as error:
        wheels.wheel("pkg", "1.0")
    assert error.value.next_step == wheels.SILENT and "\x1b" not in str(error.value) and nothing_kept(cache_folder)


def test_a_refused_connection_is_no_missing_version(silent_index, cache_folder):
    silent_index.close()
    with pytest.raises(CollectionError, match=r"index does not answer \(Connection refused\)\n") as error:
        wheels.wheel("pkg", "1.0")
    assert "version" not in error.value.what and "network" in error.value.next_step


def test_an_interrupt_ends_the_wait_for_an_index(silent_index, tmp_path):
    code = ("from lib.subjects import wheels\n"
            "wheels.pins = lambda: [wheels.Wheel('pkg', '1.0', 'any', 'subject', 'pkg-1.0-py3-none-any.whl', 1, '0')]\n"
            "try:\n    wheels.wheel('pkg', '1.0')\nexcept KeyboardInterrupt:\n    print('interrupted')")
    waiting = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, preexec_fn=heard)
    silent_index.settimeout(60)
    with silent_index.accept()[0]:
        began = time.monotonic()
        waiting.send_signal(signal.SIGINT)
        said, _ = waiting.communicate(timeout=20)
    assert said == "interrupted\n" and time.monotonic() - began < 5


SAID = {
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n": ("the disk is full: .*pkg-1.0", "free some space"),
    "ERROR: Exception:\nTraceback\nOSError: [Errno 122] Disk quota exceeded: 'x'\n": ("the disk is full", "free some space"),
    "ERROR: Exception:\nTraceback\nValueError: strange\n": ("ValueError: strange\n", "network"), "": ("it said nothing", "network"),
    "\x1b[33mWARNING: a\x1b[0m\n\x1b[1;31mERROR: No matching distribution found for pkg\x1b[0m\n": ("pkg-1.0-py3-none-any.whl: No matching distribution found for pkg\n", "network"),
    "WARNING: Retrying (x) after connection broken by 'NewConnectionError('<a.b object at 0x7f>: Failed to establish a new connection: [Errno -2] Name or service not known')': /simple/pkg/\nERROR: no":
        (r"does not answer \(Name or service not known\)\n", "network, and the index"),
    "WARNING: Retrying (x) after connection broken by 'ProtocolError('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))': /simple/\nERROR: no":
        (r"does not answer \(Remote end closed connection without response\)\n", "network, and the index")}


@pytest.mark.parametrize("said", SAID)
def test_what_pip_says_is_blamed_on_what_it_is(index, monkeypatch, said):
    monkeypatch.setattr(wheels, "PIP", [sys.executable, "-c", f"import sys; sys.stderr.write({said!r}); sys.exit(1)"])
    words, step = SAID[said]
    with pytest.raises(CollectionError, match=words) as error:
        wheels.wheel("pkg", "1.0")
    assert step in error.value.next_step and "\x1b" not in str(error.value)


def test_a_read_only_cache_is_named(index, monkeypatch):
    monkeypatch.setattr(wheels.tempfile, "TemporaryDirectory", lambda **_: (_ for _ in ()).throw(OSError(30, "Read-only file system", "wheels")))
    with pytest.raises(CollectionError, match="no permission"):
        wheels.wheel("pkg", "1.0")


def test_an_unknown_pin_lists_the_known_ones():
    with pytest.raises(CollectionError, match="flashinfer-python==0.6.6"):
        wheels.pin("flashinfer-python", "9.9")


@given(climb=some.integers(1, 5), absolute=some.booleans(), name=some.text("abc.", min_size=1, max_size=8))
def test_no_path_leaves_the_folder(tmp_path_factory, climb, absolute, name):
    place = tmp_path_factory.mktemp("unsafe")
    with zipfile.ZipFile(place / "unsafe.whl", "w") as archive:
        archive.writestr(f"/{name}x" if absolute else "../" * climb + f"{name}x", "out")
    (place / "in").mkdir()
    with pytest.raises(CollectionError, match="unsafe path"):
        wheels.extract(place / "unsafe.whl", place / "in")
    assert sorted(path.name for path in place.iterdir()) == ["in", "unsafe.whl"]


def test_a_link_in_a_wheel_is_refused(tmp_path):
    member = zipfile.ZipInfo("link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "links.whl", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(CollectionError, match="unsafe path"):
        wheels.extract(tmp_path / "links.whl", tmp_path)


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "bad.whl").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(CollectionError, match="bad.whl is damaged"):
        wheels.extract(tmp_path / "bad.whl", tmp_path)


def packed(path, *members):
    """A source package of some (name, type, link) members."""
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size, member.mode = kind, link, 3 if kind == tarfile.REGTYPE else 0, 0o644
            archive.addfile(member, io.BytesIO(b"abc"))
    return path


@pytest.mark.parametrize("name, kind, link", [
    ("../out", tarfile.REGTYPE, ""), ("a/../../out", tarfile.REGTYPE, ""), ("link", tarfile.SYMTYPE, "/etc/passwd"),
    ("link", tarfile.SYMTYPE, "../out"), ("link", tarfile.SYMTYPE, "file"), ("link", tarfile.LNKTYPE, "file"), ("/absolute", tarfile.REGTYPE, ""), ("null", tarfile.CHRTYPE, "")])
def test_no_path_leaves_the_folder_of_a_source_package(tmp_path, name, kind, link):
    (tmp_path / "in").mkdir()
    with pytest.raises(CollectionError, match="unsafe path"):
        wheels.extract(packed(tmp_path / "unsafe.tar.gz", (name, kind, link)), tmp_path / "in")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "unsafe.tar.gz"]


def test_a_source_package_is_unpacked_read_only_and_damage_is_named(tmp_path):
    package = packed(tmp_path / "package.tar.gz", ("package/file", tarfile.REGTYPE, ""))
    wheels.extract(package, tmp_path / "in")
    assert (tmp_path / "in/package/file").read_bytes() == b"abc" and (tmp_path / "in/package/file").stat().st_mode & 0o777 == 0o444
    for damaged in (package.read_bytes()[:40], b"PK" + package.read_bytes()[2:]):
        package.write_bytes(damaged)
        with pytest.raises(CollectionError, match="is damaged"):
            wheels.extract(package, tmp_path / "again")


def test_scratch_is_private_writable_and_gone(index):
    tree = wheels.source("pkg", "1.0")
    with wheels.scratch(tree, "pkg/file.txt") as copy:
        (copy / "pkg/file.txt").write_text("changed")
    assert not copy.exists() and (tree / "pkg/file.txt").read_bytes() == b"data"
    assert not (tree / "pkg/file.txt").stat().st_mode & stat.S_IWUSR


@pytest.mark.parametrize("name", ["../victim.txt", "pkg/../../victim.txt", "nowhere.txt", "pkg", "/etc/hostname"])
def test_scratch_copies_nothing_from_or_to_outside(tmp_path, name):
    (tmp_path / "tree/pkg").mkdir(parents=True)
    (tmp_path / "victim.txt").write_text("one")
    with pytest.raises(CollectionError, match=f"does not have {name}"), wheels.scratch(tmp_path / "tree", name):
        pass
    assert not (Path(tempfile.gettempdir()) / "victim.txt").exists()


def test_tensorrt_llm_absent_is_no_error(monkeypatch, cache_folder):
    monkeypatch.delenv("TRTLLM_SRC", raising=False)
    monkeypatch.setattr(tensorrt_llm.places, "installed", lambda name: [])
    assert tensorrt_llm.find() is None


def test_tensorrt_llm_is_found_without_importing_it(monkeypatch, cache_folder, tmp_path):
    (tmp_path / "tensorrt_llm").mkdir()
    (tmp_path / "tensorrt_llm" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.delenv("TRTLLM_SRC", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert tensorrt_llm.find() == tmp_path
    monkeypatch.setenv("TRTLLM_SRC", str(tmp_path / "nowhere"))
    with pytest.raises(CollectionError, match="not a TensorRT-LLM checkout"):
        tensorrt_llm.find()


def test_tensorrt_llm_is_fetched_at_a_revision(cache_folder, tmp_path):
    upstream = tmp_path / "upstream"
    (upstream / "tensorrt_llm/_torch").mkdir(parents=True)
    (upstream / "tensorrt_llm/_torch/autotuner.py").write_text("x = 1\n")
    git = ["git", "-C", upstream, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "uploadpack.allowAnySHA1InWant=true"]
    subprocess.run([*git[:3], "init", "-q"], check=True)
    subprocess.run([*git, "config", "uploadpack.allowFilter", "true"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    tree = tensorrt_llm.fetch(f"file://{upstream}", head)
    assert (tree / "tensorrt_llm/_torch/autotuner.py").read_text() == "x = 1\n" and not (tree / ".git").exists()
    assert tensorrt_llm.fetch(f"file://{upstream}/nowhere", head) is None


def test_a_fetched_tensorrt_llm_is_found_while_it_is_whole(monkeypatch, cache_folder):
    monkeypatch.delenv("TRTLLM_SRC", raising=False)
    monkeypatch.setattr(tensorrt_llm.places, "installed", lambda name: [])
    key = [tensorrt_llm.REPOSITORY, tensorrt_llm.REVISION]
    folder = cache.entry("tensorrt-llm", key, lambda folder: (folder / "a.py").write_text("x = 1")).folder
    assert tensorrt_llm.find() == folder
    (folder / "a.py").write_text("x = 2")
    assert tensorrt_llm.find() is None


@pytest.mark.parametrize("code, fails", [(errno.EROFS, False), (errno.ENOSPC, True)])
def test_a_read_only_cache_has_no_fetched_tensorrt_llm_and_a_full_one_says_so(monkeypatch, cache_folder, code, fails):
    monkeypatch.setattr(cache.Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(OSError(code, os.strerror(code))))
    with pytest.raises(CollectionError, match="full") if fails else nullcontext():
        assert tensorrt_llm.fetch() is None
