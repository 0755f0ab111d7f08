"""Parts of a wheel of the package index, by HTTP ranges: members as streams, nothing kept whole."""

import os
import zipfile
import zlib
from contextlib import contextmanager
from time import sleep

from fsspec.spec import AbstractBufferedFile
from urllib3.exceptions import HTTPError

from lib.errors import CollectionError
from lib.subjects import index

TRIES = 4  # of one range, without a byte of progress
LARGEST = 16 << 30  # bytes of a member
DENSEST = 1032  # bytes out of one byte of DEFLATE, at most: https://zlib.net/zlib_tech.html
MOST = 64 << 20  # bytes in one read; the directory of 30,000 files has 5 MB
REFUSE = "do not use this file"
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


class Ranges(AbstractBufferedFile):
    """A file of the index as a stream over ranges, which goes on where a connection broke."""

    def __init__(self, remote, block, ahead):
        self.remote, self.name, self.broke = remote, remote.file, ""
        self.size = remote.bytes or self.ask(0, 1)[1] or 0
        super().__init__(None, remote.file, block_size=block, size=self.size,
                         cache_type="background" if ahead else "blockcache",
                         cache_options={"maxblocks": 4})

    def read(self, length=-1):
        if length > MOST:
            raise CollectionError(f"{self.remote.file} asks for {length:,} B at once", REFUSE)
        return super().read(length)

    def _fetch_range(self, start, end):
        end = min(end, self.size)
        have, failed = bytearray(), 0
        while len(have) < end - start:
            got, total = self.ask(start + len(have), end)
            if total not in (None, self.size):
                raise CollectionError(f"{self.remote.file} has {total:,} B, where the index lists "
                                      f"{self.size:,}", REFUSE)
            have += got
            failed = 0 if got else failed + 1
            if failed == TRIES:
                raise CollectionError(
                    f"{self.remote.file} could not be read on from byte {start + len(have):,}: "
                    f"{self.broke}", index.NETWORK)
            sleep(failed ** 2 / 4)
        return bytes(have)

    def ask(self, start, end):
        """What one connection brings of a range (bytes), and the stated size of the whole file."""
        have, total = bytearray(), None
        wanted = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        ask = index.session().get
        try:
            with ask(self.remote.url, stream=True, timeout=30, headers=wanted) as reply:
                status = reply.status_code
                self.broke = f"the index answers {status}"
                if status == 200:
                    raise CollectionError(
                        f"{self.remote.file} cannot be read in parts: the index sends no ranges",
                        "set pip to an index that does (index-url), or download the wheel")
                stated = reply.headers.get("Content-Range", "").rpartition("/")[2]
                if stated.isdecimal():
                    total = int(stated)
                    while status == 206 and (chunk := reply.raw.read1(end - start - len(have))):
                        have += chunk
        except (OSError, HTTPError) as error:  # what has arrived is kept
            self.broke = type(error).__name__
        return have, total


@contextmanager
def member(zipped, name):
    """A member of a wheel that `parts` opened, as a stream to be read forwards, by its name.

    An error with its name if it is not there, is damaged, or states a size that its packed bytes
    cannot have. Its CRC-32 is seen to at its end; what it holds beyond its stated size is left.
    """
    wheel = os.path.basename(zipped.filename)
    if name not in zipped.NameToInfo:
        raise CollectionError(f"{wheel} has no {name}", "name a member that it has")
    try:
        info = zipped.getinfo(name)
        if info.file_size > min(LARGEST, DENSEST * (info.compress_size + 1)):
            raise zipfile.BadZipFile(f"it states {info.file_size:,} B, packed into "
                                     f"{info.compress_size:,}")
        if info.flag_bits & 1:
            raise zipfile.BadZipFile("it is encrypted")
        with zipped.open(info) as stream:
            yield stream
    except BROKEN as error:
        raise CollectionError(f"{name} in {wheel} is damaged: {error}", REFUSE) from error


@contextmanager
def parts(remote, block=1 << 20, ahead=False):
    """A wheel (`File`) over ranges (`zipfile.ZipFile`), in blocks of so many bytes; four are kept.
    `ahead` has the next block fetched meanwhile, for long members. See `member`.

    The index's SHA-256 is of the whole wheel, so it cannot be held against parts of it. An error if
    the index sends no ranges, or the wheel is not of the size that it lists, or is no zip.

    >>> with parts(index.chosen("numpy", "aarch64")) as wheel:  # doctest: +SKIP
    ...     with member(wheel, "numpy/version.py") as stream: stream.read(100)
    """
    try:
        opened = Ranges(remote, block, ahead)
        zipped = zipfile.ZipFile(opened)
    except (*BROKEN, ValueError) as error:
        raise CollectionError(f"{remote.file} is no wheel: {error}", REFUSE) from error
    with opened, zipped:
        if sum(each.compress_size for each in zipped.infolist()) > opened.size:
            raise CollectionError(f"{remote.file} has members that overlap", REFUSE)
        yield zipped
