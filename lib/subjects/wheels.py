"""The upstream packages that are examined: pinned, fetched, verified, unpacked, copied."""

import gzip
import os
import platform
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
from pathlib import Path

from lib import cache, environment
from lib.errors import CollectionError

PINS = Path(__file__).with_name("wheels.toml")
PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
       "--disable-pip-version-check"]
sha256 = cache.hashed
UNTRUSTED = "do not use this file; compare its source with the pin in lib/subjects/wheels.toml"


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel: a row of wheels.toml.

    `platform` is a machine name or ``any``, `role` ``subject`` or ``toolchain``, `file` its name.
    """

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


def versions(name):
    """The versions of a package that are pinned for this machine (list of str)."""
    return [wheel.version for wheel in pins() if wheel.name == name]


def pin(name, version):
    """The pin of a wheel (`Wheel`); an error with the pinned versions if this one is not."""
    for wheel in pins():
        if (wheel.name, wheel.version) == (name, version):
            return wheel
    known = ", ".join(f"{name}=={each}" for each in sorted(versions(name))) or "no version of it"
    raise CollectionError(
        f"{name}=={version} is not pinned for {platform.machine()} (pinned: {known})",
        "choose a pinned version, or add its file, size and sha256 to lib/subjects/wheels.toml")


def check(wheel, path, next_step):
    """Hold a file against its pin, byte count first; if it differs, an error with `next_step`."""
    if (size := path.stat().st_size) != wheel.bytes:
        raise CollectionError(f"{wheel.file} has {size:,} bytes, its pin says {wheel.bytes:,}: "
                              "truncated, or another file", next_step)
    if (found := cache.hashed(path)) != wheel.sha256:
        raise CollectionError(f"{wheel.file} has the wrong hash: sha256 {found}, "
                              f"its pin says {wheel.sha256}", next_step)


def fetch(wheel):
    """Have pip download a wheel into the cache; a file that fails verification never enters it.

    Raises
    ------
    CollectionError
        With no network, a wrong hash, a truncated file, or a disk that is full or read-only.
    """
    folder = wheel.path.parent
    with cache.disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as unfinished:
            arrived = download(wheel, Path(unfinished))
            check(wheel, arrived, "nothing was kept; run again, and if it comes back the index "
                                  "serves another file: do not use it")
            folder.mkdir(exist_ok=True)
            os.replace(arrived, wheel.path)
    return wheel.path


def download(wheel, folder):
    """Have pip bring the file of a pin into a folder (Path); pip's first error if it cannot."""
    wanted = ["--only-binary=:all:", wheel.requirement]
    if wheel.file.endswith(".tar.gz"):
        # To read its metadata pip runs a source package's build backend: its hash comes first.
        hashed = folder / "hashed.txt"
        hashed.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
        wanted = [f"--no-binary={wheel.name}", "--requirement", hashed]
    done = subprocess.run([*PIP, "--dest", folder, *wanted], capture_output=True, text=True,
                          env=environment.without_pip_settings() | {"NO_COLOR": "1"})
    if done.returncode:
        lines = done.stderr.splitlines() or [f"pip ended with status {done.returncode}"]
        reason = next((line for line in lines if line.startswith("ERROR")), lines[0])
        raise CollectionError(
            f"pip could not fetch {wheel.file}: {reason.removeprefix('ERROR: ')}",
            "check the network (or pip's index settings) and run again; what has arrived is kept")
    arrived = folder / wheel.file
    if not arrived.is_file():
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise CollectionError(f"pip brought {names} instead of {wheel.file}",
                              "compare lib/subjects/wheels.toml with what the index offers")
    return arrived


def wheel(name, version, verify=False):
    """The path of a pinned wheel (Path), fetched if it is not in the cache yet.

    With `verify` the file is hashed again even if it is there; its size is always compared.

    Raises
    ------
    CollectionError
        If the pin is unknown, the file cannot be had, or it is damaged.
    """
    pinned = pin(name, version)
    with cache.disk_errors(pinned.path):
        if not pinned.path.is_file():
            return fetch(pinned)
        if verify or pinned.path.stat().st_size != pinned.bytes:
            check(pinned, pinned.path,
                  f"delete {pinned.path.parent} and run again to fetch it anew")
    return pinned.path


def extract(archive, folder):
    """Unpack a wheel or a source package so that no path leaves the folder.

    Files become read-only; which of them are executable is kept.

    Raises
    ------
    CollectionError
        If a member is absolute, climbs out of the folder or is a link, or the archive is damaged.
    """
    unpack = untar if archive.name.endswith(".tar.gz") else unzip
    try:
        unpack(archive, folder.resolve())
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CollectionError(f"{archive} is damaged: {error}",
                              f"delete {archive.parent} and run again") from error


def unsafe(archive, name):
    """The error about a member whose path must not be followed."""
    what = f"{archive.name} holds the unsafe path {name!r}: nothing of it was kept"
    return CollectionError(what, UNTRUSTED)


def unzip(archive, folder):
    """`extract` for a wheel."""
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            mode = member.external_attr >> 16
            target = (folder / member.filename).resolve()
            inside = target.is_relative_to(folder) and not member.filename.startswith(("/", "\\"))
            if stat.S_ISLNK(mode) or not inside:
                raise unsafe(archive, member.filename)
            if member.is_dir():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(member) as packed, open(target, "wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
            target.chmod(0o555 if mode & 0o100 else 0o444)


def untar(archive, folder):
    """`extract` for a source package; Python's own filter is not in Debian 12's 3.11.2."""
    with tarfile.open(archive) as opened:
        for member in opened:
            target = (folder / member.name).resolve()
            if not (member.isfile() or member.isdir()) or not target.is_relative_to(folder):
                raise unsafe(archive, member.name)
            if member.isfile():
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.extractfile(member) as packed, open(target, "wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
                target.chmod(0o555 if member.mode & 0o100 else 0o444)


def source(name, version):
    """The unpacked tree of a pinned wheel (``Path``): shared and read-only (see `scratch`)."""
    pinned = pin(name, version)
    return cache.entry("trees", pinned.sha256, lambda folder: extract(wheel(name, version), folder))


@contextmanager
def scratch(tree, *files):
    """A private, writable copy (Path) of some files of a tree, gone at the end of the block.

    `files` are paths in the tree; none means all of it.
    """
    every = (path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory(prefix="sm12x-") as copy:
        for name in files or every:
            target = Path(copy, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tree / name, target)
        yield Path(copy)
