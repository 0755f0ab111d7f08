"""The upstream packages that are examined: pinned, fetched, verified, unpacked, copied."""

import gzip
import logging
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as once
from functools import partial
from pathlib import Path

from lib import cache, environment
from lib.errors import CollectionError

PINS = Path(__file__).with_name("wheels.toml")
LOG = logging.getLogger(__name__)
# An index that accepts and never answers is given up after two times 12 seconds.
PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
       "--disable-pip-version-check", "--no-input", "--timeout=12", "--retries=1"]
NETWORK = "check the network (or pip's index settings) and run again; what has arrived is kept"
SILENT = "check the network, and the index that pip is set to; run again: what has arrived is kept"
UNTRUSTED = "do not use this file; compare its source with the pin in lib/subjects/wheels.toml"
sha256 = cache.hashed


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel: a row of wheels.toml. `platform` is a machine name, or ``any``."""

    name: str
    version: str
    platform: str
    role: str
    file: str
    bytes: int
    sha256: str

    @property
    def path(self):
        """Where the verified wheel lies in the cache (``Path``; it may not be there yet)."""
        return cache.root() / "wheels" / self.sha256 / self.file

    @property
    def requirement(self):
        """The wheel as pip's requirement: ``name==version``."""
        return f"{self.name}=={self.version}"


@once
def pins():
    """The pinned wheels that this machine can use (list of `Wheel`), in the order of the file."""
    wheels = (Wheel(**row) for row in tomllib.loads(PINS.read_text())["wheel"])
    return [wheel for wheel in wheels if wheel.platform in ("any", platform.machine())]


def pin(name, version):
    """The pin of a wheel (`Wheel`); an error with the pinned versions if this one is not."""
    known = {wheel.version: wheel for wheel in pins() if wheel.name == name}
    if version in known:
        return known[version]
    listed = ", ".join(f"{name}=={each}" for each in sorted(known)) or "no version of it"
    raise CollectionError(
        f"{name}=={version} is not pinned for {platform.machine()} (pinned: {listed})",
        "choose a pinned version, or add its file, size and sha256 to lib/subjects/wheels.toml")


def difference(wheel, path):
    """How a file differs from its pin, byte count first (str); empty if it does not."""
    if (size := path.stat().st_size) != wheel.bytes:
        return (f"{wheel.file} has {size:,} bytes, its pin says {wheel.bytes:,}: "
                "truncated, or another file")
    if (found := cache.hashed(path)) != wheel.sha256:
        return f"{wheel.file} has the wrong hash: sha256 {found}, its pin says {wheel.sha256}"
    return ""


def download(wheel, folder):
    """Have pip bring the file of a pin into a folder (Path); `refusal` if it cannot."""
    wanted = ["--only-binary=:all:", wheel.requirement]
    if wheel.file.endswith(".tar.gz"):
        # To read its metadata pip runs a source package's build backend: its hash comes first.
        hashed = folder / "hashed.txt"
        hashed.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
        wanted = [f"--no-binary={wheel.name}", "--requirement", hashed]
    settings = environment.without_pip_settings() | {"TMPDIR": str(folder)}  # on the same disk
    done = subprocess.run([*PIP, "--dest", folder, *wanted], capture_output=True, text=True,
                          env=settings)
    if done.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)  # its colours
        raise refusal(wheel, said)
    arrived = folder / wheel.file
    if not arrived.is_file():
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise CollectionError(f"pip brought {names} instead of {wheel.file}",
                              "compare lib/subjects/wheels.toml with what the index offers")
    return arrived


def refusal(wheel, said):
    """What pip's words on its way out come to: an error about the disk, the index or the file."""
    if full := re.search(r"\[Errno (\d+)\] (?:No space left|Disk quota)", said):
        return OSError(int(full[1]), "no space left", str(wheel.path))
    if broken := re.search(r"connection broken by '(.*)': ", said):
        reason = re.split(r": |\] |\('", broken[1])[-1].partition(" (")[0].strip("'\"). ")
        return CollectionError(f"{wheel.file} could not be fetched: the package index does not "
                               f"answer ({reason})", SILENT)
    lines = said.strip().splitlines() or ["it said nothing"]
    stated = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
    reason = lines[-1] if stated == "ERROR: Exception:" else stated.removeprefix("ERROR: ")
    return CollectionError(f"pip could not fetch {wheel.file}: {reason}", NETWORK)


@once
def wheel(name, version):
    """The path of a pinned wheel (Path), fetched if it is not in the cache, or is damaged there.

    Its bytes are held against the pin once in each process, and what differs from it never enters
    the cache. An error if the pin is unknown, with no network, a wrong hash, a truncated file, or a
    disk that is full or read-only.
    """
    pinned = pin(name, version)
    path, folder = pinned.path, pinned.path.parent
    with cache.disk_errors(path):
        if path.is_file():
            if not (damage := difference(pinned, path)):
                return path
            LOG.warning("%s; it is fetched again", damage)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as unfinished:
            arrived = download(pinned, Path(unfinished))
            if wrong := difference(pinned, arrived):
                raise CollectionError(wrong, "nothing was kept; run again, and if it comes back "
                                             "the index serves another file: do not use it")
            folder.mkdir(exist_ok=True)
            cache.sync(arrived)
            os.replace(arrived, path)
            cache.sync(folder, folder.parent)
    return path


def extract(archive, folder):
    """Unpack a wheel or a source package so that no path leaves the folder, its files read-only.

    An error if a file has an absolute path, one out of the folder, or is a link, or the archive is
    damaged.
    """
    folder = folder.resolve()
    try:
        for name, mode, opened in members(archive):
            target = (folder / name).resolve()
            if not opened or name.startswith(("/", "\\")) or not target.is_relative_to(folder):
                raise CollectionError(
                    f"{archive.name} holds the unsafe path {name!r}: nothing of it was kept",
                    UNTRUSTED)
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened() as packed, open(target, "wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
            target.chmod(0o555 if mode & 0o100 else 0o444)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CollectionError(f"{archive} is damaged: {error}",
                              f"delete {archive.parent} and run again") from error


def members(archive):
    """What is no folder in a wheel or a source package: its path, its mode, and a function that
    opens it, None for a link. (Python's own filter of tar is not in Debian 12's 3.11.2.)"""
    if archive.name.endswith(".tar.gz"):
        with tarfile.open(archive) as tar:
            for each in tar:
                if not each.isdir():
                    opened = partial(tar.extractfile, each) if each.isfile() else None
                    yield each.name, each.mode, opened
        return
    with zipfile.ZipFile(archive) as zipped:
        for each in zipped.infolist():
            if not each.is_dir():
                mode = each.external_attr >> 16
                opened = None if stat.S_ISLNK(mode) else partial(zipped.open, each)
                yield each.filename, mode, opened


@once
def source(name, version):
    """The unpacked tree of a pinned wheel (``Path``): shared and read-only (see `scratch`).

    Every byte of it is checked once in each process.
    """
    build = lambda folder: extract(wheel(name, version), folder)
    return cache.entry("trees", pin(name, version).sha256, build).folder


@contextmanager
def scratch(tree, *files):
    """A private, writable copy (Path) of files of a tree, by their paths, gone after the block.

    An error if the tree lacks one, or a path leads out of it.
    """
    with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
        copy = Path(folder).resolve()
        for name in files:
            target = (copy / name).resolve()
            if not (Path(tree, name).is_file() and target.is_relative_to(copy)):
                raise CollectionError(f"{tree} does not have {name}, or it is outside",
                                      "name a file of a tree of the version that is meant")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(tree, name), target)
        yield copy
