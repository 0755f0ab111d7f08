"""Fatbins, ELF files around them and cubins, written by ourselves: what `images` is to read."""

import struct

MAGIC = 0xBA55ED50
KINDS = {"ptx": 1, "cubin": 2, "lto": 8}
FLAGS = {"": 0, "a": 1 << 20, "f": 1 << 21}


def entry(kind="cubin", sm=120, suffix="", isa="", size=64, header=64):
    """An image as a fatbin holds it, of `size` bytes (a multiple of 8)."""
    minor, major = reversed([int(part) for part in (isa or "1.8").split(".")])
    flags = 0x11 | FLAGS[suffix]
    head = struct.pack("<HHIQIIHHIIIQ", KINDS[kind], 0x101, header, size, 0, 0x40, minor, major, sm, 0, 0, flags)
    return head.ljust(header, b"\0") + b"\x7f" * size


def fatbin(*entries):
    """A fatbin of entries (bytes)."""
    body = b"".join(entries)
    return struct.pack("<IHHQ", MAGIC, 1, 16, len(body)) + body


def elf(sections=(), machine=62, flags=0, abi=0):
    """An ELF file with sections (pairs of name and bytes), their headers at its end."""
    names, body, rows = b"\0", b"", [bytes(64)]
    for name, content in (*sections, (".shstrtab", b"")):
        start, names = len(names), names + name.encode() + b"\0"
        body += bytes(-len(body) % 8)
        content = content or (names if name == ".shstrtab" else b"")
        rows.append(struct.pack("<IIQQQQIIQQ", start, 1, 0, 0, 64 + len(body), len(content), 0, 0, 8, 0))
        body += content
    body += bytes(-len(body) % 8)
    head = b"\x7fELF\x02\x01\x01" + bytes([0x41 if machine == 190 else 0, abi]) + bytes(7)
    head += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, 64 + len(body), flags, 64, 56, 0, 64, len(rows), len(rows) - 1)
    return head + body + b"".join(rows)


def library(*entries, section=".nv_fatbin"):
    """A library with one fatbin of entries (bytes)."""
    return elf([(".text", b"\x90" * 64), (section, fatbin(*entries))])


def cubin(sm=120, suffix="", accelerated=False):
    """A bare cubin that tells its suffix in its note, as ptxas 13 does, or by a flag (12)."""
    note = f"ptxas\0-arch sm_{sm}{suffix} \0".encode() if suffix else b"ptxas\0\0"
    return elf([(".text.k", b"\0" * 32), (".note.nv.tkinfo", note)], machine=190, abi=8, flags=sm << 8 | 0x8 * accelerated | 0x06000000)
