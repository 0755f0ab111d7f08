"""GPU binaries in a wheel: what each is for, which GPU may load it, what the driver says to it."""

import ctypes
import re
import struct
import zipfile
import zlib
from pathlib import Path

import pandas as pd

from lib.errors import CollectionError
from lib.instruments import devices, driver, images, loading

NAMED = re.compile(r"[sS]m_?(\d{2,3})([af]?)(?=[._K])")
FAMILIES = {"fmha/": "attention", "batched_gemm": "batched GEMM (MoE)", "gemm-": "GEMM",
            "deep-gemm": "DeepGEMM"}
HEADER = 64  # bytes of an ELF-64 header
COLUMNS = ["member", "family", "sm", "accelerated", "named", "bytes", "flags"]


def header(head, name="cubin"):
    """What the first 64 bytes of a cubin say (`images.Image`); `name` is for the error.

    Bit 3 of e_flags marks an "a" target in cubins of CUDA 12; ptxas 13.2 leaves it clear. No bit
    marks an "f" target: only the file's name tells. An error if it is too short, no ELF file, or
    not for CUDA.
    """
    found, bare = [], head[:40] + bytes(8) + head[48:HEADER]  # without the place of its sections
    if len(bare) == HEADER and head[:4] == images.ELF:
        found = images.within(lambda at, count: bare[at:at + count], HEADER, name)
    if not found:
        raise CollectionError(f"{name} is no cubin, or damaged: its {len(head)} bytes begin with "
                              f"{head[:20].hex(' ')}",
                              "compare its wheel with the pin in lib/subjects/wheels.toml")
    return found[0]


def loads_on(sm, kind, device):
    """Whether the CUDA documentation lets a GPU (as 121) load a cubin built for `sm` (as 100).

    `kind` is ``"a"``, ``"f"`` or ``""``, as in the names of targets; see loading.toml.
    """
    return loading.runs(images.Image("cubin", sm, kind, "", "", 0, 0, 0), device)


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
            head, claims = content(archive, member, HEADER), NAMED.findall(name)
            said, flags = header(head, name), struct.unpack_from("<I", head, 48)[0]
            family = next((label for part, label in FAMILIES.items() if part in member), "other")
            claimed = "".join(claims[-1]) if claims else ""
            rows.append((member, family, said.sm, said.suffix == "a", claimed, info.file_size,
                         flags))
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
