"""Installed packages that hold CUDA code, and how each of their libraries gets onto a GPU.

By the RECORD of each distribution, else by the files of its folder, and by the headers of the
device code in them (`lib.instruments.images`, `loading`: two modules of the standard library).
"""

import json
import os
import re
import sys
from collections import Counter, namedtuple
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lib.errors import CollectionError
from lib.instruments import images, loading

from .places import WHERE
from .text import MOST_ENTRIES, Source

NAMED = re.compile(r"\.so[.\d]*$|\.cubin$|\.fatbin$")
LARGEST_RECORD, MOST_SEARCHED = 1 << 26, 1 << 29  # bytes
# A file with device code, or a folder of cubins that are for the same: its path, how many files,
# how it gets onto the GPU (`loading.Answer`; of one that is damaged, the error), and how many of
# its fatbins get there in which way. The way of most that load is its own: libtorch_cuda.so of
# torch 2.14.1 has 475, of which 474 hold sm_120, and one sm_121a.
Library = namedtuple("Library", "path files answer error fatbins", defaults=("", {}))
Package = namedtuple("Package", "name version root libraries")


def packages(folders, sm, driver):
    """What is in this Python's folders, and in those named, with device code (list of Package)."""
    found, seen, judge = [], set(), Judge(sm, driver)
    for name, version, root, names in distributions(folders):
        paths = [path for path in names if NAMED.search(path) and path not in seen
                 and "\0" not in path and os.path.isfile(path)]
        seen.update(paths)
        if held := judge.libraries(paths):
            found.append(Package(name, version, str(root), held))
    return sorted(found, key=lambda package: package.name.lower())


def distributions(folders):
    """Name, version, folder and files of what is installed (iterable of tuple); of a named folder
    that has no distribution in it, its own files."""
    places = [[Path(folder)] for folder in sys.path if os.path.isdir(folder)]
    places += [[folder, *(each for pattern in WHERE["inside"] for each in folder.glob(pattern))]
               for folder in folders]
    for inside in places:
        once = {os.path.realpath(folder): folder for folder in reversed(inside)}  # lib64 is lib
        infos = [info for folder in once.values() for info in sorted(folder.glob("*.dist-info"))]
        for info in infos:
            name, _, version = info.name[:-10].partition("-")
            yield name.replace("_", "-"), version, info.parent, files(info)
        if not infos and inside[0] in folders:
            yield inside[0].name, "", inside[0], walked(inside[0])


def files(info):
    """The files of a distribution by its RECORD, or by the checkout that it links (iterable)."""
    try:
        with open(info / "RECORD", encoding="utf-8", errors="replace") as record:
            lines = record.read(LARGEST_RECORD).splitlines()
        linked = json.loads(Source(info / "direct_url.json").raw or "{}")
        if linked.get("dir_info", {}).get("editable"):
            return walked(unquote(urlsplit(linked["url"]).path))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return []
    names = (line.rsplit(",", 2)[0].strip('"') for line in lines)
    return (os.path.normpath(info.parent / name) for name in names if NAMED.search(name))


def told(found):
    """Packages as programs read them (list of dict)."""
    return [package._asdict() | {"libraries": [
        each._asdict() | {"answer": each.answer and each.answer._asdict() | {
            "image": each.answer.image and each.answer.image.target}}
        for each in package.libraries]} for package in found]


def walked(folder):
    """The files below a folder, as many as are looked at (iterable)."""
    every = (os.path.join(inner, name) for inner, _, names in os.walk(folder) for name in names)
    return islice(every, MOST_ENTRIES)


class Judge:
    """How libraries get onto a GPU with a driver, of which each target is judged once."""

    def __init__(self, sm, driver):
        self.sm, self.driver, self.searched, self.known = sm, driver, 0, {}

    def libraries(self, paths):
        """Those of files that hold device code (list of Library), the cubins by their folder."""
        found, cubins = [], {}
        for path in paths:
            try:
                held = self.held(path)
            except (OSError, CollectionError) as error:
                what = getattr(error, "what", None) or f"{path} cannot be read: {error.strerror}"
                found.append(Library(path, 1, None, what))
                continue
            if held and path.endswith(".cubin"):
                key = os.path.dirname(path), held[0].target
                cubins.setdefault(key, []).append(held[0])
            elif held:
                parts = [self.how(part) for part in loading.fatbins(held)]
                ways = Counter(each.how for each in parts)
                usual = max(filter(ways.get, loading.HOW[:3]), key=ways.get, default="")
                answer = next((each for each in parts if each.how == usual), self.how(held))
                found.append(Library(path, 1, answer, "", ways))
        return found + [Library(folder, len(held), self.how(held[:1]), "")
                        for (folder, _), held in cubins.items()]

    def held(self, path):
        """The images of a file: where none loads, also those outside of the usual sections."""
        with open(path, "rb") as file:
            if file.read(4) not in (images.ELF, images.MAGIC[:4]):
                return []
            held = images.read(file)
            if held and held[0].section and not self.how(held).image:
                size = os.path.getsize(path)
                if self.searched + size <= MOST_SEARCHED:
                    self.searched += size
                    file.seek(0)
                    held = images.scan(file, path)
        return held

    def how(self, held):
        """`loading.how`, asked once for each set of targets."""
        key = frozenset((each.kind, each.target, each.ptx, each.relocatable) for each in held)
        if key not in self.known:
            self.known[key] = loading.how(held, self.sm, self.driver)
        return self.known[key]
