"""What a wheel holds: the device code of its libraries, fatbin by fatbin, and what its ptxas knows.

Members are read one after another, as streams, and nothing of them is kept but these counts.
"""

import re
import tempfile
import zipfile
from collections import Counter
from datetime import UTC, datetime

from lib import cache
from lib.errors import CollectionError
from lib.instruments import images, loading
from lib.subjects import index, ranges, wheels
from lib.survey import cuobjdump

BLOCK = 8 << 20  # bytes of a range
CODE = re.compile(r"\.(so|cubin|fatbin)(\.[\w.]+)?$|/bin/[^./]+$|^[^.]*ptxas[^.]*$")
KNOWN = re.compile(rb"\0compute_(\d+[af]?)(?=\0)")  # as ptxas lists what --gpu-name may be


def held(remote):
    """What a wheel of the index (`index.File`) holds, read over ranges, or remembered by its hash
    (dict; see `contents`)."""
    def ask(folder):
        with ranges.parts(remote, BLOCK, ahead=True) as zipped:
            return contents(zipped)

    return cache.remember("survey", {"sha256": remote.sha256}, ask).value


def anew(name, version):
    """What a pinned wheel (see `wheels`) holds, read here (dict; see `contents`)."""
    path = wheels.wheel(name, version)

    def ask(folder):
        with zipfile.ZipFile(path) as zipped:
            return contents(zipped)

    return cache.remember("survey", {"local": wheels.pin(name, version).sha256}, ask).value


def compared(name, version, toolchain):
    """The images in each library of a pinned wheel beside cuobjdump's (list of dict: library,
    images here, cuobjdump, same, its error; see `cuobjdump.compare`)."""
    def ask(folder):
        found = []
        with zipfile.ZipFile(wheels.wheel(name, version)) as zipped:
            for each in anew(name, version)["libraries"]:
                with tempfile.TemporaryDirectory(prefix="sm12x-") as place:
                    seen = cuobjdump.compare(zipped.extract(each, place), toolchain)
                found.append({
                    "library": each, "images here": seen.ours.total(),
                    "cuobjdump": seen.everything.total(), "same": seen.same,
                    "its error": seen.error.partition(" in '")[0]})
        return found

    inputs = {"compared": wheels.pin(name, version).sha256, "cuobjdump": toolchain.version}
    return cache.remember("survey", inputs, ask).value


def contents(zipped):
    """What an opened wheel holds (dict): of each library with device code the fatbins, counted by
    their images, as ``{"sm_80 sm_120f compute_120@9.0": 3}``; the targets that each ptxas in it
    knows; how many others were read; what was not read, and why; and the day.

    The bare cubins of a folder are counted together.
    """
    found, known, unread, without = {}, {}, {}, 0
    for info in zipped.infolist():
        name = info.filename
        if info.is_dir() or not CODE.search(name):
            continue
        try:
            with ranges.member(zipped, name) as stream:
                if name.rpartition("/")[2].startswith("ptxas"):
                    known[name] = targets(stream)
                    continue
                seen = images.scan(stream, name)
        except CollectionError as error:
            if "neither ELF nor a fatbin" not in error.what:  # a script, a text
                unread[name] = error.what
            continue
        place = re.sub(r"[^/]+\.cubin$", "*.cubin", name)
        counts = Counter(signature(each) for each in loading.fatbins(seen))
        found[place] = dict(Counter(found.get(place, {})) + counts)
        without += not counts
    return {"libraries": {place: counts for place, counts in found.items() if counts},
            "without": without, "ptxas": known, "unread": unread,
            "read": f"{datetime.now(UTC):%Y-%m-%d}"}


def signature(fatbin):
    """The images of a fatbin in one text, each as ``sm_120f`` or ``compute_120@9.0``."""
    return " ".join(sorted({image.target + (f"@{image.ptx}" if image.kind == "ptx" else "") +
                            (f"@{image.kind}" if image.kind not in ("ptx", "cubin") else "")
                            for image in fatbin}))


def targets(stream):
    """The targets that a ptxas names (list of str, as ``121a``): what --gpu-name may be."""
    found, rest = set(), b""
    while chunk := stream.read(1 << 20):
        found |= set(KNOWN.findall(rest + chunk))
        rest = chunk[-32:]
    return sorted(map(bytes.decode, found), key=lambda each: (int(each.rstrip("af")), each))


def wheel(project, machine, version=""):
    """What pip would take of a project for a machine, and what that holds (dict).

    `newest` says that no version was asked for; `state` is ``wheel``, ``source`` where there is a
    source archive alone, or ``nothing``.
    """
    known = index.versions(project, pre=True)
    if version not in ("", *known, *(each.version for each in index.files(project))):
        raise CollectionError(f"{project} has no version {version}",
                              f"use one of {', '.join([*known][-5:]) or 'another project'}")
    file = index.chosen(project, machine, version)
    about = {"project": project, "machine": machine, "newest": not version}
    if file:
        kept = {name: getattr(file, name) for name in ("version", "file", "sha256", "bytes")}
        return about | kept | {"state": "wheel", "uploaded": file.uploaded[:10]} | held(file)
    newest = version or [*(index.versions(project) or known)][-1]
    source = [each.file for each in index.files(project)
              if each.version == newest and not each.file.endswith(".whl")]
    return about | {"version": newest, "state": "source" if source else "nothing"} | {
        "file": "".join(source[:1]), "uploaded": known.get(newest, "")}
