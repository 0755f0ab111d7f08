"""Device code in a file: the images that a library, a cubin or a fatbin holds, by their headers.

Nothing is unpacked, and nothing but the standard library is used, as the doctor has no other (so no
pyelftools here). NVIDIA documents no fatbin: the layout, and the flags of a and f, are what ptxas
and fatbinary 13.2 write for each of their targets; `lib.survey.cuobjdump` asks NVIDIA's reader.
Not seen is machine code that lies in a file as plain data, as TensorRT-LLM's attention kernels do.
"""

import math
import os
import re
import struct
from collections import namedtuple

from lib.errors import CollectionError

SECTIONS = {".nv_fatbin": False, "__nv_relfatbin": True}  # and whether its images are relocatable
ELF, CUDA = b"\x7fELF", struct.pack("<H", 190)  # e_machine; its layouts are those of cubins.py
MAGIC = struct.pack("<IHH", 0xBA55ED50, 1, 16)  # version 1, and 16 bytes with the length
LENGTH, TABLE, SECTION = struct.Struct("<8xQ"), struct.Struct("<HHH"), struct.Struct("<II16xQQ24x")
# Kind, bytes of this header, bytes of the payload as stored; minor and major version, SM; flags.
ENTRY = struct.Struct("<H2xIQ8xHHI8xQ")
KINDS = {1: "ptx", 2: "cubin", 8: "lto", 16: "cubin"}  # 16: cuobjdump lists it as ELF too
ACCELERATED, FAMILY = 1 << 20, 1 << 21
NOTE, COMMAND = ".note.nv.tkinfo", re.compile(rb"-arch[ =]sm_\d+([af]?)\b")
CHUNK, MOST_SECTIONS, LARGEST_CUBIN = 1 << 20, 1 << 17, 1 << 28
NEXT = "compare its size and hash with its source, and fetch or install it again"


class Image(namedtuple("Image", "kind sm suffix ptx section fatbin offset bytes")):
    """One image: `kind` is ``cubin`` (machine code), ``ptx``, ``lto`` (what only a linker takes),
    or ``kind 64`` for one that is not known; `sm` as 121, `suffix` ``a``, ``f`` or empty; `ptx` the
    PTX ISA as ``8.8`` (empty for another kind); the section (empty where there is none, or it was
    not read); where its fatbin begins, of which a driver takes one image, and where itself (0 and 0
    for a bare cubin); its bytes as stored."""

    __slots__ = ()

    @property
    def target(self):
        """The target that it was made for, as nvcc writes it: ``sm_120f``, ``compute_90a``."""
        return f"{'sm' if self.kind == 'cubin' else 'compute'}_{self.sm}{self.suffix}"

    @property
    def relocatable(self):
        """Whether a linker has to go over it first, the driver's if need be."""
        return SECTIONS.get(self.section, False)


class Stream:
    """What is only read forward, addressed as a file is: it holds one chunk, and what was asked."""

    def __init__(self, stream):
        self.stream, self.begin, self.held = stream, 0, b""

    def more(self, offset):
        """Read a chunk on, and let go of what is before an offset: False at the end."""
        if read := self.stream.read(CHUNK):
            kept = self.held[max(0, offset - self.begin):]
            self.begin, self.held = self.begin + len(self.held) - len(kept), kept + read
        return bool(read)

    def at(self, offset, count):
        while offset + count > self.begin + len(self.held) and self.more(offset):
            pass
        return self.held[max(0, offset - self.begin):][:count]

    def find(self, wanted, offset):
        """Where some bytes are found next (int); where it ends, if they are not."""
        while (place := self.held.find(wanted, max(0, offset - self.begin))) < 0:
            offset = max(offset, self.begin + len(self.held) - len(wanted) + 1)
            if not self.more(offset):
                return self.begin + len(self.held)
        return self.begin + place


def read(file):
    """The images of a file (list of `Image`): a path, or a binary file that can be sought in.

    By the section headers of an ELF file, which has none without `SECTIONS`, and those of images: a
    library of any size in milliseconds. CollectionError, with the file's name, if it is neither ELF
    nor a fatbin, cannot be read, or is truncated or damaged.

    >>> images.read("libcublas.so.13")[0].target  # doctest: +SKIP
    'sm_75'
    """
    try:
        if isinstance(file, str | os.PathLike):
            with open(file, "rb") as opened:
                return read(opened)
        size = file.seek(0, os.SEEK_END)
        return within(lambda offset, count: file.seek(offset) * 0 or file.read(count), size,
                      str(getattr(file, "name", "the file")))
    except OSError as error:
        raise CollectionError(f"{file} cannot be read: {error.strerror or error}",
                              "see to its permissions and its disk") from error


def scan(stream, name):
    """The images of what can only be read forward, as a member of a wheel (list of `Image`).

    Fatbins are found by their first bytes wherever they lie, as an ELF file names its sections at
    its end: no section is told, and those of cuRAND's .data and cuSPARSELt's .cask_resource, which
    `read` and cuobjdump pass over, are there too. Takes 3 MB, and the whole of a bare cubin. Errors
    are those of `read`; `name` is for them.
    """
    source, found, place = Stream(stream), [], 0
    head = source.at(0, 64)
    if head[:4] == ELF and head[18:20] == CUDA:
        whole = source.at(0, LARGEST_CUBIN)
        return within(lambda offset, count: whole[offset:offset + count], len(whole), name)
    while (ahead := source.at(place := source.find(MAGIC, place), 16 + ENTRY.size)):
        if len(ahead) == 16 + ENTRY.size and believed(ahead[16:]):
            place = fatbin(source.at, place, math.inf, name, "", found)
            if not source.at(place - 1, 1):
                raise damaged(name, "it ends within an image")
        else:
            place += len(MAGIC)
    if head[:4] == ELF:
        headers(source.at, place, head, name)
    elif not found:
        raise damaged(name, "it is neither ELF nor a fatbin")
    return found


def within(at, size, name):
    """The images of a file by its sections (list); `at` gives so many bytes from an offset on."""
    head, found = at(0, 64), []
    if head[:8] == MAGIC:
        walk(at, 0, size, name, "", found)
    elif head[:4] != ELF:
        raise damaged(name, "it is neither ELF nor a fatbin")
    elif head[18:20] == CUDA:
        flags, new = struct.unpack_from("<I", head, 48)[0], head[8] >= 8
        suffix = "a" if flags & (0x8 if new else 0x800) else ""
        notes = (at(begin, min(length, CHUNK)) for title, begin, length
                 in sections(at, size, head, name) if title == NOTE)
        if told := COMMAND.search(b"".join(notes)):  # ptxas 13.2 tells a and f here alone
            suffix = told[1].decode()
        found.append(Image("cubin", flags >> 8 * new & 0xFF, suffix, "", "", 0, 0, size))
    else:
        for title, begin, length in sections(at, size, head, name):
            if title in SECTIONS:
                walk(at, begin, begin + length, name, title, found)
    return found


def headers(at, size, head, name):
    """Where an ELF file's section headers are, how many, and which has the names (three int)."""
    place, = struct.unpack_from("<Q", head.ljust(64, b"\0"), 40)
    length, count, names = TABLE.unpack_from(head.ljust(64, b"\0"), 58)
    if len(head) < 64 or place and (length != 64 or place + 64 * max(count, 1) > size):
        raise damaged(name, f"its section headers lie beyond its {size:,} bytes: it is truncated")
    return (place, count, names) if place and head[4:6] == b"\2\1" else (0, 0, 0)


def sections(at, size, head, name):
    """The sections of a 64-bit ELF file that matter here: name, offset, bytes (list of tuple)."""
    place, count, names = headers(at, size, head, name)
    if place and not count:  # 65,280 and more
        count, names = struct.unpack_from("<QI", at(place, 64), 32)
    if count > MOST_SECTIONS or place + 64 * count > size or names >= max(count, 1):
        raise damaged(name, f"it claims {count:,} sections")
    rows, found = [*SECTION.iter_unpack(at(place, 64 * count))], []
    texts = at(rows[names][2], min(rows[names][3], CHUNK)) if rows else b""
    for start, kind, begin, length in rows:
        title = texts[start:start + 32].partition(b"\0")[0].decode("ascii", "replace")
        if kind != 8 and (title in SECTIONS or title == NOTE):  # 8: of no bytes in this file
            if begin + length > size:
                raise damaged(name, f"{title} goes beyond its {size:,} bytes: it is truncated")
            found.append((title, begin, length))
    return found


def walk(at, place, end, name, section, found):
    """Add to `found` the images of a region of fatbins, with zeros between them."""
    while place < end:
        ahead = at(place, min(end - place, 4096))
        if not ahead:
            raise damaged(name, f"it ends before byte {place:,}")
        inner = ahead.lstrip(b"\0")
        place += len(ahead) - len(inner)
        if inner:
            place = fatbin(at, place, end, name, section, found)


def fatbin(at, begin, end, name, section, found):
    """Add to `found` the images of a fatbin at an offset, and return where it ends (int)."""
    head, place = at(begin, 16), begin + 16
    if len(head) < 16 or head[:8] != MAGIC:
        raise damaged(name, f"at byte {begin:,} there should be a fatbin, and is none")
    last = place + LENGTH.unpack(head)[0]
    while place < last <= end:
        head = at(place, ENTRY.size)
        if len(head) < ENTRY.size or not believed(head):
            raise damaged(name, f"at byte {place:,} there should be an image, and is none")
        kind, length, size, minor, major, sm, flags = ENTRY.unpack(head)
        suffix = "a" if flags & ACCELERATED else "f" if flags & FAMILY else ""
        found.append(Image(KINDS.get(kind, f"kind {kind}"), sm, suffix,
                           f"{major}.{minor}" if kind == 1 else "", section, begin,
                           place + length, size))
        place += length + size
    if last > end or place > last:
        raise damaged(name, f"the fatbin at byte {begin:,} is longer than what holds it")
    return last


def believed(head):
    """Whether some bytes can be the header of an image: one of 64 to 120 bytes was seen."""
    kind, length, _, _, _, sm, _ = ENTRY.unpack(head)
    return 64 <= length <= 1 << 16 and 0 < kind < 256 and sm < 1000


def damaged(name, why):
    return CollectionError(f"{name} is damaged: {why}", NEXT)
