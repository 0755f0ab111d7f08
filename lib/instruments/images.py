"""Device code in a file: the images that a library, a cubin or a fatbin holds, by their headers.

Nothing is unpacked, and nothing but the standard library is used, as the doctor has no other (so no
pyelftools here). NVIDIA documents no fatbin: its layout, and the flags of a and f, are what ptxas
and fatbinary 13.2 write for each of their targets. The tests hold it against cuobjdump, which says
less in two ways: it prints sm_120 for machine code of sm_120f (of PTX it prints the f), and where
there are executable images it leaves relocatable ones out unless ``-all`` is given (`compare`).

Seen are the sections of `SECTIONS`, bare cubins and bare fatbins: not machine code that is kept as
plain data (as TensorRT-LLM's attention kernels are), and not the members of an .a archive.
"""

import math
import os
import re
import struct
from collections import Counter, namedtuple

from lib.errors import CollectionError

SECTIONS = {".nv_fatbin": False, "__nv_relfatbin": True}  # and whether its images are relocatable
CUDA, ABI, ELF, NOBITS = 190, 8, b"\x7fELF", 8  # e_machine; as in cubins.py
MAGIC = struct.pack("<IHH", 0xBA55ED50, 1, 16)  # version 1, header of 16 bytes; then its size
CONTAINER = struct.Struct("<8sQ")
# Kind, bytes of this header, bytes of the payload as stored; minor and major version, SM; flags.
ENTRY = struct.Struct("<H2xIQ8xHHI8xQ")
KINDS = {1: "ptx", 2: "cubin", 8: "lto", 16: "cubin"}  # 16: cuobjdump lists it as ELF too
LEAST, MOST = 64, 1 << 16  # bytes of an entry's header that are believed; 64 to 120 were seen
ACCELERATED, FAMILY = 1 << 20, 1 << 21
NOTE, COMMAND = ".note.nv.tkinfo", re.compile(rb"-arch[ =]sm_(\d+)([af]?)\b")
MOST_SECTIONS, MOST_NAMES, CHUNK, LARGEST_CUBIN = 1 << 17, 1 << 24, 1 << 20, 1 << 28
NEXT = "compare the file's size and hash with its source, and fetch or install it again"


class Image(namedtuple("Image", "kind sm suffix ptx section fatbin offset bytes")):
    """One image: `kind` is ``cubin`` (machine code), ``ptx``, ``lto`` (an intermediate that only a
    linker takes), or ``kind 64`` for one that is not known; `sm` as 121, `suffix` ``a``, ``f`` or
    empty; `ptx` the PTX ISA as ``8.8`` (empty for another kind); the section that it is in (empty
    where there is none, or it was not read); where its fatbin begins, of which a driver takes one
    image, and where itself (0 and 0 for a bare cubin); its bytes as stored."""

    __slots__ = ()

    @property
    def target(self):
        """The target that it was made for, as nvcc writes it: ``sm_120f``, ``compute_90a``."""
        return f"{'sm' if self.kind == 'cubin' else 'compute'}_{self.sm}{self.suffix}"

    @property
    def relocatable(self):
        """Whether a linker has to go over it first, the driver's if need be."""
        return SECTIONS.get(self.section, False)


class Forward:
    """A stream that is only read forward, addressed as a file is; it holds one chunk of it."""

    def __init__(self, stream):
        self.stream, self.begin, self.held = stream, 0, b""

    def more(self, offset):
        """Read a chunk on, and let go of what is before an offset: False at the end."""
        read = self.stream.read(CHUNK)
        kept = self.held[max(0, offset - self.begin):]
        if read:
            self.begin += len(self.held) - len(kept)
            self.held = kept + read
        return bool(read)

    def at(self, offset, count):
        while offset + count > self.begin + len(self.held) and self.more(offset):
            pass
        return self.held[max(0, offset - self.begin):][:count]

    def find(self, wanted, offset):
        """Where some bytes are found next (int), or None."""
        while (place := self.held.find(wanted, max(0, offset - self.begin))) < 0:
            offset = max(offset, self.begin + len(self.held) - len(wanted) + 1)
            if not self.more(offset):
                return None
        return self.begin + place


def read(file):
    """The images of a file (list of `Image`): a path, or a binary file that can be sought in.

    A library of any size is read by its section headers and those of its images, in milliseconds.
    An ELF file without device code has none. CollectionError, with the file's name, if it is
    neither ELF nor a fatbin, cannot be read, or is truncated or damaged.

    >>> images.read("libcublas.so.13")[0].target  # doctest: +SKIP
    'sm_75'
    """
    try:
        if isinstance(file, str | os.PathLike):
            with open(file, "rb") as opened:
                return read(opened)
        name, size = str(getattr(file, "name", "the file")), file.seek(0, os.SEEK_END)
        return regions(lambda offset, count: file.seek(offset) * 0 or file.read(count), size, name)
    except OSError as error:
        raise CollectionError(f"{file} cannot be read: {error.strerror or error}",
                              "see to its permissions and its disk") from error


def scan(stream, name):
    """The images of a stream that is read forward only, as a member of a wheel (list of `Image`).

    An ELF file names its sections at its end, so fatbins are found by their first bytes wherever
    they lie: also outside of `SECTIONS`, and with no section named. Takes 3 MB, and the whole of a
    bare cubin. Errors are those of `read`.
    """
    source = Forward(stream)
    head = source.at(0, 64)
    if head[:4] == ELF and head[18:20] == struct.pack("<H", CUDA):
        whole = source.at(0, LARGEST_CUBIN)
        return regions(lambda offset, count: whole[offset:offset + count], len(whole), name)
    found, place = [], 0
    while (place := source.find(MAGIC, place)) is not None:
        ahead = source.at(place, CONTAINER.size + ENTRY.size)
        if len(ahead) == CONTAINER.size + ENTRY.size and believed(ahead, CONTAINER.size):
            place = container(source.at, place, math.inf, name, "", found)
            if not source.at(place - 1, 1):
                raise damaged(name, "it ends within an image")
        else:
            place += len(MAGIC)
    while source.more(source.begin + len(source.held)):
        pass
    if head[:4] == ELF:
        table(source.begin + len(source.held), head, name)
    elif not found:
        raise damaged(name, "it is neither ELF nor a fatbin")
    return found


def regions(at, size, name):
    """The images of a file by its sections; `at` reads so many bytes at an offset."""
    head, found = at(0, 64), []
    if head[:8] == MAGIC:
        walk(at, 0, size, name, "", found)
        return found
    if head[:4] != ELF:
        raise damaged(name, "it is neither ELF nor a fatbin")
    here = sections(at, size, head, name)
    if head[18:20] == struct.pack("<H", CUDA):
        flags, = struct.unpack_from("<I", head, 48)
        sm = flags >> 8 & 0xFF if head[8] >= ABI else flags & 0xFF
        suffix = "a" if flags & (0x8 if head[8] >= ABI else 0x800) else ""
        notes = (at(begin, min(end - begin, CHUNK)) for each, begin, end in here if each == NOTE)
        if told := COMMAND.search(b"".join(notes)):  # since 13.0 no flag tells, its note does
            suffix = told[2].decode()
        return [Image("cubin", sm, suffix, "", "", 0, 0, size)]
    for each, begin, end in here:
        if each in SECTIONS:
            walk(at, begin, end, name, each, found)
    return found


def table(size, head, name):
    """Where an ELF file's section headers are, how many, which has the names (three int)."""
    if len(head) < 64:
        raise damaged(name, "it ends within the ELF header")
    begin, = struct.unpack_from("<Q", head, 40)
    length, count, names = struct.unpack_from("<HHH", head, 58)
    if head[4:6] != b"\2\1" or not begin:  # none of 64 bits, little-endian, or nothing is named
        return 0, 0, 0
    if length != 64 or begin + 64 * max(count, 1) > size:
        raise damaged(name, f"its section headers lie beyond its {size:,} bytes: it is truncated")
    return begin, count, names


def sections(at, size, head, name):
    """The sections of an ELF file that take bytes of it: name, begin, end (list of tuple)."""
    place, count, names = table(size, head, name)
    if place and not count:  # 65,280 and more
        count, names = struct.unpack_from("<QI", at(place, 64), 32)
    if count > MOST_SECTIONS or place + 64 * count > size or names >= max(count, 1):
        raise damaged(name, f"it claims {count:,} sections")
    rows = [*struct.iter_unpack("<II16xQQ24x", at(place, 64 * count))]
    if len(rows) != count:
        raise damaged(name, "its section headers cannot be read")
    texts = at(rows[names][2], min(rows[names][3], MOST_NAMES)) if rows else b""
    found = []
    for start, kind, begin, length in rows:
        title = texts[start:start + 32].split(b"\0")[0].decode("ascii", "replace")
        if kind != NOBITS and (title in SECTIONS or title == NOTE):
            if begin + length > size:
                raise damaged(name, f"{title} goes beyond its {size:,} bytes: it is truncated")
            found.append((title, begin, begin + length))
    return found


def walk(at, place, end, name, section, found):
    """Add to `found` the images of a region of fatbins, with zeros between them."""
    while place < end:
        ahead = at(place, min(end - place, 4096))
        if not ahead:
            raise damaged(name, f"it ends before byte {place:,}")
        if inner := ahead.lstrip(b"\0"):
            place = container(at, place + len(ahead) - len(inner), end, name, section, found)
        else:
            place += len(ahead)


def container(at, place, end, name, section, found):
    """Add to `found` the images of a fatbin (from its offset), and return where it ends (int)."""
    head = at(place, CONTAINER.size)
    if len(head) < CONTAINER.size or head[:8] != MAGIC:
        raise damaged(name, f"at byte {place:,} there should be a fatbin, and is none")
    last = place + CONTAINER.size + CONTAINER.unpack(head)[1]
    if last > end:
        raise damaged(name, f"the fatbin at byte {place:,} is longer than what holds it")
    fatbin, place = place, place + CONTAINER.size
    while place < last:
        head = at(place, ENTRY.size)
        if len(head) < ENTRY.size or not believed(head):
            raise damaged(name, f"at byte {place:,} there should be an image's header")
        kind, length, payload, minor, major, sm, flags = ENTRY.unpack(head)
        if place + length + payload > last:
            raise damaged(name, f"the image at byte {place:,} is longer than its fatbin")
        suffix = "a" if flags & ACCELERATED else "f" if flags & FAMILY else ""
        version = f"{major}.{minor}" if kind == 1 else ""
        found.append(Image(KINDS.get(kind, f"kind {kind}"), sm, suffix, version, section, fatbin,
                           place + length, payload))
        place += length + payload
    return last


def believed(head, start=0):
    """Whether the header of an image can be one."""
    kind, length, _, _, _, sm, _ = ENTRY.unpack_from(head, start)
    return LEAST <= length <= MOST and 0 < kind < 256 and sm < 1000


def damaged(name, why):
    return CollectionError(f"{name} is damaged: {why}", NEXT)


# What `read` and cuobjdump find in one file: counters of (kind, target), theirs without and with
# -all; whether both see the same, but for the f of machine code.
Comparison = namedtuple("Comparison", "ours executable everything same")


def compare(file, toolchain):
    """Hold the images of a file (Path) against cuobjdump's lists (`Comparison`)."""
    def listed(*options):
        said = toolchain.run("cuobjdump", *options, "-lelf", "-lptx", file).stdout
        lines = re.findall(r"^(ELF|PTX) file +\d+: .*\.sm_(\w+)\.", said, re.MULTILINE)
        return Counter(("cubin" if kind == "ELF" else "ptx", target) for kind, target in lines)

    ours = Counter((each.kind, f"{each.sm}{each.suffix}") for each in read(file)
                   if each.kind in ("cubin", "ptx"))
    plain = Counter()
    for (kind, target), count in ours.items():
        plain[kind, target.rstrip("f") if kind == "cubin" else target] += count
    everything = listed("-all")
    return Comparison(ours, listed(), everything, plain == everything)
