"""Subjects: what is fetched is what was pinned, what is unpacked stays in its folder, and every failure says what to do."""

import hashlib
import io
import os
import stat
import subprocess
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib.errors import CollectionError
from lib.subjects import tensorrt_llm, wheels


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
    return folder, pinned


def test_a_wheel_is_fetched_verified_and_kept(index, monkeypatch):
    path = wheels.wheel("pkg", "1.0")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked the network although the cache is warm"))
    assert wheels.wheel("pkg", "1.0", verify=True) == path
    assert (wheels.source("pkg", "1.0") / "pkg/file.txt").read_bytes() == b"data"


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


@pytest.mark.parametrize("change", [lambda data: data[:-5], lambda data: data[:-1] + b"?"], ids=["truncated", "altered"])
def test_damage_in_the_cache_is_found_and_mended_by_the_next_step(index, change):
    path = wheels.wheel("pkg", "1.0")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CollectionError) as error:
        wheels.wheel("pkg", "1.0", verify=True)
    assert f"delete {path.parent}" in error.value.next_step
    path.unlink()
    assert wheels.wheel("pkg", "1.0", verify=True) == path


def test_no_network_names_the_file(index, cache_folder):
    folder, pinned = index
    (folder / pinned.file).unlink()
    with pytest.raises(CollectionError, match=pinned.file) as error:
        wheels.wheel("pkg", "1.0")
    assert "network" in error.value.next_step and nothing_kept(cache_folder)


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
    with wheels.scratch(tree) as copy:
        (copy / "pkg/file.txt").write_text("changed")
    assert not copy.exists() and (tree / "pkg/file.txt").read_bytes() == b"data"
    assert not (tree / "pkg/file.txt").stat().st_mode & stat.S_IWUSR


def test_tensorrt_llm_absent_is_no_error(monkeypatch, cache_folder):
    monkeypatch.delenv("TRTLLM_SRC", raising=False)
    monkeypatch.setattr(tensorrt_llm, "installed", lambda: None)
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
    assert (tree / "tensorrt_llm/_torch/autotuner.py").read_text() == "x = 1\n"
    assert tensorrt_llm.fetch(f"file://{upstream}/nowhere", head) is None
