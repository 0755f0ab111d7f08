"""The package index and parts of its wheels, against a local index that breaks, lies and bombs."""

import hashlib
import io
import json
import random
import struct
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib import environment
from lib.errors import CollectionError
from lib.subjects import index, ranges


def wheel(**members):
    """The bytes of a zip with some members."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in members.items():
            zipped.writestr(name, data)
    return held.getvalue()


class Index(ThreadingHTTPServer):
    """A package index: `files` (name to bytes) of one project, and what it does wrong."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Page)
        self.files, self.asked = {}, []
        self.html = self.whole = self.dead = False
        self.cut, self.size, self.stated = 0, {}, {}  # bytes after which it hangs up; sizes that it claims

    @property
    def address(self):
        return f"http://reader:secret@127.0.0.1:{self.server_port}/simple"


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        home, name = self.server, self.path.rpartition("/")[2]
        if self.headers.get("Authorization") != "Basic cmVhZGVyOnNlY3JldA==":
            return self.answer(401, b"")
        if name:
            return self.file(name, home.files[name])
        if self.path != "/simple/some-project/":
            return self.answer(404, b"")
        rows = [{"filename": each, "url": f"/files/{each}", "size": home.stated.get(each, len(data)), "requires-python": ">=3.8",
                 "hashes": {"sha256": hashlib.sha256(data).hexdigest()}, "upload-time": "2026-01-02T03:04:05.678Z"}
                for each, data in home.files.items()]
        if home.html:
            links = [f'<a href="{row["url"]}#sha256={row["hashes"]["sha256"]}" data-requires-python="&gt;=3.8">{row["filename"]}</a>' for row in rows]
            return self.answer(200, "<br>".join(links).encode(), {"Content-Type": "text/html"})
        page = {"meta": {"api-version": "1.1"}, "name": "some-project", "files": rows}
        self.answer(200, json.dumps(page).encode(), {"Content-Type": index.JSON})

    def file(self, name, data):
        home, asked = self.server, self.headers.get("Range", "")
        if home.dead:
            self.close_connection = True
            return
        if home.whole or not asked:
            return self.answer(200, data)
        start, end = map(int, asked.removeprefix("bytes=").split("-"))
        part = data[start:end + 1]
        home.asked.append((start, len(part)))
        total = home.size.get(name, len(data))
        cut = home.cut and len(part) > home.cut
        self.answer(206, part[:home.cut] if cut else part, {"Content-Range": f"bytes {start}-{end}/{total}"}, len(part))
        if cut:
            self.close_connection = True

    def answer(self, status, body, headers=None, length=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def home(monkeypatch):
    """An index, and pip set to it by its variable."""
    with Index() as server:
        Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", server.address)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///nowhere")
        monkeypatch.setattr(ranges, "sleep", lambda seconds: None)
        fresh = [index.settings, index.session, index.files]
        for each in fresh:
            each.cache_clear()
        yield server
        for each in fresh:
            each.cache_clear()
        server.shutdown()


NAMES = [f"some_project-{version}-{tags}.whl" for version, tags in (
    ("1.0", "py3-none-any"), ("1.1", "cp312-cp312-manylinux_2_17_aarch64.manylinux2014_aarch64"), ("1.1", "py3-none-any"),
    ("1.1", "cp311-cp311-manylinux_2_28_aarch64"), ("1.2", "cp38-abi3-manylinux_2_28_x86_64"), ("1.2", "cp312-cp312-manylinux_2_40_aarch64"),
    ("1.3rc1", "py3-none-any"), ("1.2", "cp312-cp312-manylinux_2_39_x86_64"), ("1.2", "cp313-cp313-linux_aarch64"))]


@pytest.mark.parametrize("html", [False, True])
def test_the_wheel_is_the_one_that_pip_takes(home, tmp_path, html):
    """pip's own dry run, told the same platforms, names the same file with the same hash."""
    home.html = html
    for name in NAMES:
        project, version = name.split("-")[:2]
        home.files[name] = wheel(**{f"{project}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: some-project\nVersion: {version}\n",
                                    f"{project}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\n", "x": name})
    for machine in ("aarch64", "x86_64"):
        platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(39, 16, -1)] + [f"--platform=linux_{machine}"]
        asked = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report=-", "--no-deps", "--ignore-installed", "--no-cache-dir",
                 "--only-binary=:all:", "--python-version=3.12", f"--target={tmp_path}", *platforms, "some-project"]
        said = subprocess.run(asked, capture_output=True, text=True, env=environment.without_pip_settings(), check=True).stdout
        theirs = json.loads(said)["install"][0]["download_info"]
        ours = index.chosen("some-project", machine)
        assert (theirs["url"].rpartition("/")[2], theirs["archive_info"]["hashes"]["sha256"]) == (ours.file, ours.sha256)


def test_versions_dates_and_sizes_are_the_index_s(home):
    home.files = {name: wheel(x=name) for name in NAMES}
    assert index.versions("some-project") == dict.fromkeys(("1.0", "1.1", "1.2"), "2026-01-02")
    assert [*index.versions("some-project", pre=True)][-1] == "1.3rc1"
    assert index.chosen("some-project", "aarch64", "1.0").bytes == len(home.files[NAMES[0]])
    assert index.chosen("some-project", "aarch64", "3.0") is None
    assert "secret" not in repr(index.files("some-project")) and "127.0.0.1" not in repr(index.files("some-project"))
    with pytest.raises(CollectionError, match="no file of another-project"):
        index.files("another-project")


@pytest.fixture
def served(home):
    """A function that has an index serve a wheel, and gives it as the index lists it."""
    def serve(data, **wrong):
        home.files, name = {NAMES[0]: data}, NAMES[0]
        home.stated, home.size = ({name: wrong[key]} if key in wrong else {} for key in ("stated", "size"))
        index.files.cache_clear()
        return index.chosen("some-project", "aarch64")
    return serve


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 4000), min_size=1, max_size=3), block=st.integers(400, 5000),
       cut=st.sampled_from([0, 300, 999]), ahead=st.booleans())
def test_members_read_by_ranges_are_the_members(home, served, sizes, block, cut, ahead):
    """Whatever the block, and wherever connections break; none is asked for more than a block."""
    members = {f"m{number}": random.Random(size).randbytes(size) for number, size in enumerate(sizes)}
    remote, home.cut, home.asked = served(wheel(**members)), cut, []
    with ranges.parts(remote, block, ahead) as zipped:
        for name, data in members.items():
            with ranges.member(zipped, name) as stream:
                assert stream.read() == data
    assert all(length <= block for _, length in home.asked)


def refused(remote, name="x"):
    """The words of the error that reading a member ends with."""
    with pytest.raises(CollectionError) as caught, ranges.parts(remote, 4096) as zipped, ranges.member(zipped, name) as stream:
        while stream.read(1000):
            pass
    assert remote.file in caught.value.what and "127.0.0.1" not in str(caught.value)
    return caught.value.what


def test_what_is_wrong_with_a_wheel_is_said_with_its_name(home, served):
    good = wheel(x=b"some bytes" * 500, y=b"others")
    with ranges.parts(served(good)) as zipped, pytest.raises(CollectionError, match="has no z"), ranges.member(zipped, "z"):
        pass
    assert "where the index lists" in refused(served(good, size=len(good) + 7))
    assert "where the index lists" in refused(served(good, stated=len(good) - 5))
    assert "is no wheel" in refused(served(good[:-30] + b"\0" * 30))
    assert "is no wheel" in refused(served(b"a text, and no zip" * 100))
    place = good.index(b"PK\1\2")
    wrong = bytearray(good)
    wrong[place + 16] ^= 1
    assert "x in " in refused(served(bytes(wrong))) and "is damaged" in refused(served(bytes(wrong)))
    with ranges.parts(served(bytes(wrong))) as zipped, ranges.member(zipped, "y") as stream:
        assert stream.read() == b"others"  # the rest goes on
    home.whole = True
    assert "sends no ranges" in refused(served(good))
    home.whole, home.dead = False, True
    assert "could not be read on" in refused(served(good))


def test_bombs_are_not_unpacked(served):
    """A member that states less than it holds, one that states more than DEFLATE can pack, members over one another, a directory beyond all."""
    bomb = wheel(x=b"\0" * 20_000_000)
    place = bomb.index(b"PK\1\2")

    def stated(size):
        return bomb[:place + 24] + struct.pack("<I", size) + bomb[place + 28:]

    assert "is damaged" in refused(served(stated(1000)))
    remote = served(stated(1000))
    with pytest.raises(CollectionError), ranges.parts(remote) as zipped, ranges.member(zipped, "x") as stream:
        assert len(stream.read()) <= 1000
    assert "states 4,000,000,000 B" in refused(served(stated(4_000_000_000)))
    one = wheel(x=b"".join(hashlib.sha256(bytes([each])).digest() for each in range(200)))
    place = one.index(b"PK\1\2")
    end = one.index(b"PK\5\6")
    record = one[place:end]
    many = one[:end] + 9 * record + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, 10, 10, 10 * len(record), place, 0)
    assert "overlap" in refused(served(many))
    huge = b"\0" * 100 + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, 1, 1, 90, 10, 0)
    assert "is no wheel" in refused(served(huge))


def test_one_read_is_bounded(served, monkeypatch):
    monkeypatch.setattr(ranges, "MOST", 40)
    assert "at once" in refused(served(wheel(x=b"some bytes")))
