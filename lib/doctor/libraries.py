"""Installed packages that hold CUDA code, and how each of their libraries gets onto a GPU.

By the RECORD of each distribution, else by the files of its folder, and by the headers of the
device code in them (`lib.instruments.images`, `loading`: two modules of the standard library).
"""

import json
import os
import re
import stat
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
LARGEST_RECORD, MOST_SEARCHED = 1 << 26, 1 << 30  # bytes
# A file with device code, or a folder of cubins that are for the same: its path, how many files,
# how it gets onto the GPU (`loading.Answer`; of one that is damaged, the error), and of how many
# fatbins, which a driver takes one image of each, the same is true.
Library = namedtuple("Library", "path files answer error fatbins", defaults=("", {}))
Package = namedtuple("Package", "name version root libraries")


def packages(folders, sm, driver):
    """What is in this Python's folders, and in those named, with device code (list of Package)."""
    inside = [each for folder in folders for pattern in ("", *WHERE["inside"])
              for each in ([folder] if not pattern else sorted(folder.glob(pattern)))]
    found, seen, judge = [], set(), Judge(sm, driver)
    for folder in (*map(Path, filter(os.path.isdir, sys.path)), *inside):
        infos = sorted(folder.glob("*.dist-info"))
        groups = [(*info.name[:-10].partition("-")[::2], folder, files(info)) for info in infos]
        if not infos and folder in folders:
            groups = [(folder.name, "", folder, walked(folder))]
        for name, version, root, names in groups:
            paths = [path for path in names if NAMED.search(path) and path not in seen]
            seen.update(paths)
            if libraries := judge.libraries(paths):
                found.append(Package(name.replace("_", "-"), version, str(root), libraries))
    return sorted(found, key=lambda package: package.name.lower())


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
                size = os.stat(path)
                held = self.held(path, size.st_size) if stat.S_ISREG(size.st_mode) else []
            except (OSError, CollectionError) as error:
                what = getattr(error, "what", None) or f"{path} cannot be read: {error.strerror}"
                found.append(Library(path, 1, None, what))
                continue
            if held and path.endswith(".cubin"):
                key = os.path.dirname(path), held[0].target
                cubins.setdefault(key, []).append(held[0])
            elif held:
                parts = [self.how(part).how for part in loading.fatbins(held)]
                found.append(Library(path, 1, self.how(held), "", Counter(parts)))
        return found + [Library(folder, len(held), self.how(held[:1]), "")
                        for (folder, _), held in cubins.items()]

    def held(self, path, size):
        """The images of a file: where none loads, also those outside of the usual sections."""
        with open(path, "rb") as file:
            if file.read(4) not in (images.ELF, images.MAGIC[:4]):
                return []
            held = images.read(file)
            if held and size < MOST_SEARCHED - self.searched and not self.how(held).image:
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
