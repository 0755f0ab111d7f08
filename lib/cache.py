"""A content-addressed cache in the user's cache folder, and one way to use it: `remember`.

An entry is a folder whose name is the hash of what it was made from. It is built under another
name and renamed when whole, so that an interrupted build leaves nothing behind that could be taken
for a result, and it is built under a lock, so that two runs at once build it once.
"""

import ast
import errno
import fcntl
import functools
import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lib.errors import CollectionError

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
NO_WRITE = {errno.EROFS, errno.EACCES, errno.EPERM}
ANSWER = "answer.json"
PACKAGE = Path(__file__).parent
GROUND = {"lib", "lib.cache", "lib.errors", "lib.environment"}  # what makes no answer


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
        if error.errno in NO_SPACE:
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


def entry(kind, key, build, whole=lambda folder: True):
    """The folder of an entry of the cache (Path), whole; built if it is not there yet.

    Parameters
    ----------
    kind : str
        The folder of the cache that holds such entries.
    key : bytes, str or JSON-serialisable object
        Everything that the entry depends on.
    build : callable
        Called with an empty folder (``Path``) to fill.
    whole : callable
        Whether an entry that is there (``Path``) is undamaged; one that is not is built again.
    """
    name = digest(key)
    path = root() / kind / name
    with disk_errors(path):
        if path.is_dir() and whole(path):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.parent / f".{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.is_dir() and whole(path):
                return path
            unfinished = path.parent / f".{name}.building"
            for leftover in (unfinished, path):
                shutil.rmtree(leftover, ignore_errors=True)
            unfinished.mkdir()
            try:
                build(unfinished)
                unfinished.rename(path)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return path


@dataclass(frozen=True)
class Answer:
    """What was asked once: its value as JSON holds it, the files beside it, and how it came about.

    Attributes
    ----------
    value : object
        What `ask` returned.
    folder : Path
        Where the files lie that `ask` left.
    made : str
        When, in UTC (ISO 8601).
    seconds : float
        How long it took then.
    """

    value: object
    folder: Path
    made: str
    seconds: float


def remember(kind, inputs, ask):
    """Ask once for each set of inputs and each version of the code that asks (`Answer`).

    The key covers the inputs and the source of every module of this package that `ask` can reach
    through imports. An answer that is damaged on the disk is asked for again.

    Parameters
    ----------
    kind : str
        The folder of the cache.
    inputs : dict
        All that the answer depends on besides our code: JSON values, and paths (Path), which
        stand for the bytes of their files.
    ask : callable
        A function of a module of this package. It is called with an empty folder (Path), may
        leave files there, and returns what JSON holds.

    Raises
    ------
    CollectionError
        If the disk is full or the cache cannot be read or written, and whatever `ask` raises.

    Examples
    --------
    >>> def ask(folder):
    ...     return [2 * 21]
    >>> cache.remember("doubled", {"number": 21}, ask).value  # doctest: +SKIP
    [42]
    """
    def build(folder):
        start = time.monotonic()
        value = ask(folder)
        record = json.loads(json.dumps({  # as it will be read: JSON's keys are text
            "value": value,
            "files": {name: hashed(folder / name) for name in names(folder)},
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - start, 3),
        }))
        (folder / ANSWER).write_text(json.dumps(record | {"digest": digest(record)}))

    key = {"inputs": content(inputs), "sources": sources(ask.__module__)}
    folder = entry(kind, key, build, whole=lambda found: read(found) is not None)
    record = read(folder)
    if record is None:
        raise CollectionError(f"the answer in {folder} was damaged while it was read", "run again")
    return Answer(record["value"], folder, record["made"], record["seconds"])


def read(folder):
    """What `remember` wrote in a folder (dict); None if any byte of it or of its files differs."""
    try:
        record = json.loads((folder / ANSWER).read_text())
        stated = record.pop("digest")
        files = {name: hashed(folder / name) for name in record["files"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if digest(record) == stated and files == record["files"] else None


def names(folder):
    """The files below a folder, answer excepted (list of str, sorted)."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(name) for name in files if str(name) != ANSWER)


def hashed(path):
    """The SHA-256 of a file (hexadecimal)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(inputs):
    """Inputs with each path replaced by the hash of its file, or of each file of its folder."""
    if isinstance(inputs, dict):
        return {str(name): content(value) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [content(value) for value in inputs]
    if isinstance(inputs, Path):
        if inputs.is_dir():
            return {name: hashed(inputs / name) for name in names(inputs)}
        return hashed(inputs)
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
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in found if name.partition(".")[0] == PACKAGE.name]
