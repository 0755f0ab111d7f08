"""A content-addressed cache in the user's cache folder, and one way to use it: `remember`.

An entry is a folder whose name is the hash of what it was made from. It is built under a lock and
another name, synced and renamed when whole, so that an interrupted build leaves nothing that could
be taken for a result. It holds the SHA-256 of each of its files and of what was answered: an entry
that differs from them is made again, with a warning to this module's logger.
"""

import ast
import errno
import fcntl
import functools
import hashlib
import json
import logging
import os
import shutil
import threading
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lib.errors import CollectionError

NO_WRITE = {errno.EROFS, errno.EACCES, errno.EPERM}
LOG = logging.getLogger(__name__)
RECORD = "answer.json"
PACKAGE = Path(__file__).parent
PARSING = threading.Lock()
# What makes no answer, although it is imported.
GROUND = {"lib", "lib.cache", "lib.errors", "lib.environment", "lib.workers"}


def root():
    """The cache folder: ``SM12X_CACHE``, else ``sm12x`` in the user's cache folder (Path)."""
    if chosen := os.environ.get("SM12X_CACHE"):
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).expanduser() / "sm12x"


def digest(key):
    """Hash a key: bytes, a str, or anything that JSON holds (40 hexadecimal digits of SHA-256)."""
    if not isinstance(key, bytes | str):
        key = json.dumps(key, sort_keys=True)
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()[:40]


@contextmanager
def disk_errors(path):
    """Turn a full, read-only or unreadable disk into an error with `path` and the next step."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CollectionError(
                f"the disk is full: {where} could not be written",
                "free some space, or set SM12X_CACHE to a folder on another disk "
                f"(now {root()})") from error
        if error.errno in NO_WRITE:
            raise CollectionError(
                f"no permission: {where} cannot be read or written",
                f"make {root()} readable and writable, or set SM12X_CACHE to a folder that is",
            ) from error
        raise


@dataclass(frozen=True)
class Answer:
    """An entry of the cache: what was answered, the files beside it, and how it came about."""

    value: object  # as JSON holds it
    folder: Path  # of the files
    made: str  # when, in UTC (ISO 8601)
    seconds: float  # that it took then


def entry(kind, key, build):
    """An entry of the cache, whole (`Answer`); built if it is not there yet, or is damaged.

    `kind` is the folder of the cache that holds such entries, `key` everything that the entry
    depends on: bytes, a str or what JSON holds. `build` is called with an empty folder (Path) to
    fill; what it returns is the value. An error if the disk is full or the cache cannot be read or
    written, and whatever `build` raises.
    """
    name = digest(key)
    return place(kind, name, lambda folder: fill(folder, name, build))


def place(kind, name, fill):
    """An entry by its name, whole (`Answer`); if it is not, `fill` gets an empty folder for it."""
    path = root() / kind / name
    unfinished = path.parent / f".{name}.building"
    if found := whole(path):
        return found
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.parent / f".{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if found := whole(path):
                return found
            if path.exists():
                LOG.warning("%s in the cache is damaged or has no digest; it is made again", path)
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            try:
                made = fill(unfinished)
                sync(*unfinished.rglob("*"), unfinished)
                shutil.rmtree(path, ignore_errors=True)
                unfinished.rename(path)
                sync(path.parent)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return Answer(folder=path, **made)


HAD = ContextVar("how `remember` has an answer", default=entry)


def packed(folder):
    """An entry (Path) as another machine can `take` it: kind, name, and files (mode and bytes)."""
    files = {name: (folder / name).stat().st_mode & 0o777 for name in [RECORD, *names(folder)]}
    return *folder.parts[-2:], {name: (mode, (folder / name).read_bytes())
                                for name, mode in files.items()}


def take(kind, name, files):
    """Keep an entry that another machine made and `packed`, as it is."""
    def unpack(folder):
        for each, (mode, data) in files.items():
            (folder / each).parent.mkdir(parents=True, exist_ok=True)
            (folder / each).write_bytes(data)
            (folder / each).chmod(mode)
        record = json.loads(files[RECORD][1])
        return {each: record[each] for each in ("value", "made", "seconds")}

    place(kind, name, unpack)


def fill(folder, name, build):
    """Build an entry in a folder, and write its record: value, time, and the digest of all."""
    start = time.monotonic()
    made = json.loads(json.dumps({  # as it will be read: JSON's keys are text
        "value": build(folder), "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - start, 3)}))
    record = made | {"files": hashes(folder), "key": name}
    (folder / RECORD).write_text(json.dumps(record | {"digest": digest(record)}))
    return made


def held(kind, key):
    """An entry that is there, with every byte as it was made (`Answer`), or None."""
    return whole(root() / kind / digest(key))


def whole(folder):
    """The entry in a folder (Path), with every byte as it was made (`Answer`), or None."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        record = json.loads((folder / RECORD).read_text())
        stated = record.pop("digest"), record["files"], record.get("key", folder.name)
        if (digest(record), hashes(folder), folder.name) == stated:
            return Answer(record["value"], folder, record["made"], record["seconds"])
    return None


def sync(*paths):
    """Have the disk hold files and folders (Path), of a folder its list of names."""
    for path in paths:
        if not path.is_symlink():
            opened = os.open(path, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)


def remember(kind, inputs, ask):
    """Ask once for each set of inputs and each version of the code that asks (`Answer`).

    An `entry` whose key covers `inputs` (a dict of JSON values, and of paths, which stand for the
    bytes of their files) and the source of every module of this package that `ask` can reach
    through imports. `ask` is a function of a module of this package; it builds the entry.

    Examples
    --------
    >>> from lib import cache
    >>> def ask(folder):
    ...     return [2 * 21]
    >>> ask.__module__ = "lib.subjects.models"  # as if it stood there
    >>> cache.remember("doubled", {"number": 21}, ask).value
    [42]
    """
    return HAD.get()(kind, key(inputs, ask.__module__), ask)


def kept(kind, inputs, module):
    """What `remember` holds for inputs and the module that asks (`Answer`), or None."""
    return held(kind, key(inputs, module))


def key(inputs, module):
    """What `remember` keeps an answer by (dict)."""
    return {"inputs": content(inputs), "sources": sources(module)}


def names(folder):
    """The files below a folder, the record of an entry excepted (list of str, sorted)."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(name) for name in files if str(name) != RECORD)


def hashes(folder):
    """The SHA-256 of each file of `names` (dict of str to str)."""
    return {name: hashed(folder / name) for name in names(folder)}


def hashed(path):
    """The SHA-256 of a file (hexadecimal)."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(inputs):
    """Inputs with each path replaced by the hash of its file, or of each file of its folder."""
    if isinstance(inputs, dict):
        return {str(name): content(value) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [content(value) for value in inputs]
    if isinstance(inputs, Path):
        return hashes(inputs) if inputs.is_dir() else hashed(inputs)
    return inputs


def sources(module):
    """Hashes of a module of ours and of all that it imports of ours, itself too (dict by name)."""
    found, todo = {}, [module]
    while todo:
        name = todo.pop()
        if name in found or name in GROUND or (path := file_of(name)) is None:
            continue
        found[name] = hashed(path)
        todo += imported(path, found[name])
    if not found:
        raise CollectionError(f"{module} is no module of this package, so its answers have no key",
                              "define the function that asks in a module of lib")
    return found


def file_of(name):
    """The file of a module of this package (Path); None if it is none."""
    package, *parts = name.split(".")
    if package != PACKAGE.name:
        return None
    place = PACKAGE.joinpath(*parts)
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


@functools.cache
def imported(path, _hash):
    """The modules of this package that a file (Path) of this hash imports (list of str)."""
    found = []
    with PARSING:  # Python 3.11 fails where threads parse at once
        tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in found if name.partition(".")[0] == PACKAGE.name]
