"""GPU binaries in a wheel: what each is for, which GPU may load it, what the driver says to it."""

import ctypes
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.errors import CollectionError
from lib.instruments import devices, driver

HEADER = 64  # bytes of an ELF-64 header
MACHINE = 190  # EM_CUDA
ABI = 8  # the ABI version since which e_flags holds the SM in its second byte
NAMED = re.compile(r"[sS]m_?(\d{2,3})([af]?)(?=[._K])")
FAMILIES = {"fmha/": "attention", "batched_gemm": "batched GEMM (MoE)", "gemm-": "GEMM",
            "deep-gemm": "DeepGEMM"}
# Compute capabilities that a family-specific ("f") target runs on:
# CUDA Programming Guide 13, appendix Compute Capabilities.
LINEAGE = {100: (100, 103), 103: (103,), 110: (110,), 120: (120, 121), 121: (121,)}
COLUMNS = ["member", "family", "sm", "accelerated", "named", "bytes", "flags"]


@dataclass(frozen=True)
class Header:
    """What an ELF header says: `sm` (100 for every kind of sm_100), an "a" target, e_flags."""

    sm: int
    accelerated: bool
    flags: int


def header(head, name="cubin"):
    """Read the first 64 bytes of a cubin (`Header`); `name` is for the error.

    The layout is LLVM's (BinaryFormat/ELF.h, EF_CUDA_*). Bit 3 of e_flags marks an "a" target in
    cubins of CUDA 12; ptxas 13.2 leaves it clear. No bit marks an "f" target: only the file's name
    tells. An error if it is too short, no ELF file, or not for CUDA.
    """
    wrong = ""
    if len(head) < HEADER:
        wrong = f"it has {len(head)} bytes, and an ELF header has {HEADER}"
    elif head[:4] != b"\x7fELF":
        wrong = f"it is no ELF file (it begins with {head[:4].hex(' ')})"
    elif (found := struct.unpack_from("<H", head, 18)[0]) != MACHINE:
        wrong = f"its ELF machine is {found}, and CUDA's is {MACHINE}"
    if wrong:
        raise CollectionError(f"{name} is no cubin, or damaged: {wrong}",
                              "compare its wheel with the pin in lib/subjects/wheels.toml")
    flags = struct.unpack_from("<I", head, 48)[0]
    if head[8] >= ABI:
        return Header(flags >> 8 & 0xFF, bool(flags & 0x8), flags)
    return Header(flags & 0xFF, bool(flags & 0x800), flags)


def loads_on(sm, kind, device):
    """Whether the CUDA documentation lets a GPU (as 121) load a cubin built for `sm` (as 100).

    `kind` is ``"a"``: that compute capability only; ``"f"``: its family; ``""``: the same major
    number, and a minor as high or higher.
    """
    if kind == "a":
        return device == sm
    if kind == "f":
        return device in LINEAGE.get(sm, (sm,))
    return device // 10 == sm // 10 and device >= sm


def opened(wheel):
    """The wheel as a ZipFile; CollectionError if it is missing or no archive."""
    try:
        return zipfile.ZipFile(wheel)
    except (OSError, zipfile.BadZipFile) as error:
        raise CollectionError(f"{wheel} is not a readable wheel: {error}",
                              "fetch it again, or name another one") from error


def content(archive, member, most=-1):
    """The bytes of a member of an open wheel, or its first ones; an error if it is damaged."""
    try:
        with archive.open(member) as file:
            return file.read(most)
    except (zlib.error, zipfile.BadZipFile) as error:
        raise CollectionError(f"{member} is damaged in {Path(archive.filename).name}: {error}",
                              "fetch the wheel again") from error


def inventory(wheel):
    """Read the header of every cubin in a wheel, and of each no more than that (DataFrame).

    A row for each cubin: member, family (what it is for, from its folder), sm, accelerated, named
    (the target that its file name claims, as ``100f``; empty if none), bytes (unpacked), flags. An
    error if a member is damaged, or the wheel is, or holds no cubins.
    """
    rows = []
    with opened(wheel) as archive:
        for info in archive.infolist():
            if not (member := info.filename).endswith(".cubin"):
                continue
            name = member.rpartition("/")[2]
            said, claims = header(content(archive, member, HEADER), name), NAMED.findall(name)
            family = next((label for part, label in FAMILIES.items() if part in member), "other")
            claimed = "".join(claims[-1]) if claims else ""
            rows.append((member, family, said.sm, said.accelerated, claimed, info.file_size,
                         said.flags))
    if not rows:
        raise CollectionError(f"{wheel.name} holds no cubins", "name a flashinfer-cubin wheel")
    return pd.DataFrame(rows, columns=COLUMNS)


def disagreements(found):
    """The rows of an `inventory` whose name claims another SM, or another "a", than the header."""
    named = found[found["named"] != ""]
    sm = named["named"].str.extract(r"(\d+)")[0].astype(int)
    return named[(sm != named["sm"]) | (named["named"].str.endswith("a") != named["accelerated"])]


def loadable(found, device):
    """Which cubins of an `inventory` a GPU (as 121) may load (Series of bool), by `loads_on`.

    Where a name does not tell the kind of its target, the header does, as leniently as "f".
    """
    kinds = [name[-1:] if name[-1:] in ("a", "f") else "a" if accelerated else "f"
             for name, accelerated in zip(found["named"], found["accelerated"])]
    return pd.Series([loads_on(sm, kind, device) for sm, kind in zip(found["sm"], kinds)],
                     found.index)


def sample(found, count=2):
    """`count` cubins of each value of e_flags (or all, if fewer), evenly spaced, in order."""
    groups = (group for _, group in found.groupby("flags"))
    return pd.concat([group.iloc[::max(1, len(group) // count)].head(count)
                      for group in groups]).sort_index()


def read(wheel, *endings):
    """Whole members of a wheel (list of bytes), each by the end of its path, which must be one."""
    contents = []
    with opened(wheel) as archive:
        for ending in endings:
            found = [name for name in archive.namelist() if name.endswith(ending)]
            if len(found) != 1:
                raise CollectionError(f"{wheel.name} has {len(found)} files that end in {ending}",
                                      "name one by more of its path")
            contents.append(content(archive, found[0]))
    return contents


def load(cubin):
    """Give a cubin (bytes) to the driver and take it back: ``loaded``, or the driver's error (str).

    CollectionError if there is no CUDA GPU, or the first one gives no context.
    """
    if not devices.gpus():
        raise CollectionError(f"there is no CUDA GPU here: {devices.why_none()}",
                              "run this on a machine that has one")
    with driver.context() as cuda:
        image = ctypes.create_string_buffer(cubin, len(cubin))
        status, module = cuda.cuModuleLoadData(ctypes.addressof(image))
        if int(status) != 0:
            return f"{status.name}: {cuda.cuGetErrorString(status)[1].decode()}"
        cuda.cuModuleUnload(module)
        return "loaded"
