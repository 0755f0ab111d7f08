"""A content-addressed cache in the user's cache folder.

An entry is a folder whose name is the hash of what it was made from. It is built under another name and renamed when whole,
so that an interrupted build leaves nothing behind that could be taken for a result, and it is built under a lock, so that two
runs at once build it once.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from .errors import CollectionError

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
NO_WRITE = {errno.EROFS, errno.EACCES, errno.EPERM}


def root():
    """The cache folder: ``SM12X_CACHE``, else ``sm12x`` in the user's cache folder (``XDG_CACHE_HOME`` or ``~/.cache``)."""
    if chosen := os.environ.get("SM12X_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "sm12x"


def digest(key):
    """Hash a key.

    Parameters
    ----------
    key : bytes, str or JSON-serialisable object
        Everything that the result depends on.

    Returns
    -------
    str
        40 hexadecimal digits of its SHA-256.
    """
    if not isinstance(key, bytes | str):
        key = json.dumps(key, sort_keys=True)
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()[:40]


@contextmanager
def disk_errors(path):
    """Turn a full, read-only or unreadable disk into an error that names `path` and the next step."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in NO_SPACE:
            raise CollectionError(f"the disk is full: {where} could not be written",
                                  f"free some space, or set SM12X_CACHE to a folder on another disk (now {root()})") from error
        if error.errno in NO_WRITE:
            raise CollectionError(f"no permission: {where} cannot be read or written",
                                  f"make {root()} readable and writable, or set SM12X_CACHE to a folder that is") from error
        raise


def entry(kind, key, build):
    """Find an entry of the cache, or build it.

    Parameters
    ----------
    kind : str
        The folder of the cache that holds such entries.
    key : bytes, str or JSON-serialisable object
        Everything that the entry depends on.
    build : callable
        Called with an empty folder (``Path``) to fill if the entry is not there yet.

    Returns
    -------
    Path
        The folder of the entry, whole.

    Raises
    ------
    CollectionError
        If the disk is full or the cache cannot be read or written.
    """
    name = digest(key)
    path = root() / kind / name
    with disk_errors(path):
        if path.is_dir():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.parent / f".{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.is_dir():
                return path
            unfinished = path.parent / f".{name}.building"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            try:
                build(unfinished)
                unfinished.rename(path)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return path
