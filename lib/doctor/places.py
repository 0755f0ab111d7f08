"""Where products are: found without importing them, by Python's finders and in named folders."""

import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .text import Source

ANSWER_SECONDS = 2  # for nvidia-smi
WHERE = tomllib.loads(Path(__file__).with_name("places.toml").read_text())
PACKAGES = WHERE["packages"]
# An installation: its root (Path) has the package's folder, or CUTLASS's cutlass/version.h.
Place = namedtuple("Place", "product version root found")


def gpu():
    """The first GPU: its name, its number (121 for 12.1), its driver; or why there is none, and two
    times None."""
    try:
        said = subprocess.run(WHERE["gpu"], capture_output=True, stdin=subprocess.DEVNULL,
                              text=True, timeout=ANSWER_SECONDS).stdout
    except OSError:
        return "nvidia-smi is not here", None, None
    except subprocess.TimeoutExpired:
        return f"nvidia-smi did not answer within {ANSWER_SECONDS} s", None, None
    for line in said.splitlines():
        name, capability, driver = [*line.rsplit(", ", 2), "", ""][:3]
        if sm := architecture(capability):
            return name, sm, driver if re.fullmatch(r"\d{3}(\.\d+)*", driver) else None
    return "nvidia-smi names no GPU with a compute capability", None, None


def architecture(text):
    """121 for ``121``, ``12.1``, ``sm_121`` or ``sm_121a``; None for what is no architecture."""
    found = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)[af]?", text.strip().lower())
    return int(found[1] + found[2]) if found and 50 <= int(found[1] + found[2]) < 200 else None


def distribution(folder, name):
    """The *.dist-info of a package in a folder of packages (Path or None)."""
    pattern = re.compile(rf"{name.replace('_', '[-_.]')}-[^-]+\.(dist|egg)-info", re.IGNORECASE)
    return next((path for path in folder.glob("*-info") if pattern.fullmatch(path.name)), None)


def version(product, root):
    """The version of a product by its *.dist-info, else by a file of its own (str)."""
    package, name = PACKAGES[product]
    if product == "CUTLASS":
        text = Source(root / "cutlass/version.h").raw
        return ".".join(re.findall(r"#define CUTLASS_(?:MAJOR|MINOR|PATCH) +(\d+)", text)[:3])
    if info := distribution(root, name):
        header = Source(info / "METADATA").raw.partition("\n\n")[0]
        found = re.search(r"^Version: *(\S+)", header, re.MULTILINE)
        return found[1] if found else info.stem.partition("-")[2]
    texts = (Source(root / package / file).raw for file in WHERE["versions"])
    found = filter(None, (re.search(WHERE["version"], text) for text in texts))
    return next((each[1] for each in found), "version unknown")


def installed(package):
    """The folders of packages that Python would import a package from, without importing it."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError, OSError):
        found = importlib.machinery.PathFinder.find_spec(package)
    locations = list(found.submodule_search_locations or ()) if found else []
    return [Path(location).parent for location in locations if os.path.isdir(location)]


def linked(folder, name):
    """The folder that an editable installation in a folder points to (Path or None)."""
    info = distribution(folder, name)
    try:
        address = urlsplit(json.loads(Source(info / "direct_url.json").raw)["url"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Path(unquote(address.path)) if address.scheme == "file" else None


def roots(path, package, name):
    """The folders that have a package, in a folder that the user names and where it leads."""
    folders = [path, *(each for inner in WHERE["inside"] for each in sorted(path.glob(inner)))]
    if path.name == package and not os.path.isdir(path / package):
        folders.append(path.parent)
    for checkout in filter(None, [linked(folder, name) for folder in folders]):
        folders += [checkout, checkout / "src", checkout / "python"]
    return [folder for folder in folders if os.path.isdir(folder / package)]


def search(folders=()):
    """The products (list of Place), also in more folders, and where was looked (list of str)."""
    packages = ", ".join(package for package, _ in PACKAGES.values())
    found, looked = {}, [f"packages of {sys.executable}: {packages}"]

    def add(product, root, how):
        if product != "CUTLASS":
            found.setdefault((product, os.path.realpath(root)), (root, how))
        headers = (root / inner for inner in WHERE["headers"])
        if here := next((each for each in headers if (each / "cutlass/version.h").is_file()), None):
            how = how if product == "CUTLASS" else f"with {product}"
            found.setdefault(("CUTLASS", os.path.realpath(here)), (here, how))
        return product != "CUTLASS" or here is not None

    for product, (package, _) in PACKAGES.items():
        for root in installed(package):
            add(product, root, "installed")
    named = [(name, Path(os.environ[name])) for name in WHERE["variables"] if os.environ.get(name)]
    named += [(path, Path(path)) for path in WHERE["usual"] if os.path.isdir(path)]
    for how, path in [*named, *((f"D={folder}", folder) for folder in folders)]:
        hits = [add(product, root, how) for product, names in PACKAGES.items()
                if product != "CUTLASS" for root in roots(path, *names)]
        hits.append(add("CUTLASS", path, how))
        place = how if str(path) in how else f"{how}: {path}"
        looked.append(place if any(hits) else f"{place}: nothing is there")
    missing = ", ".join(name for name in WHERE["variables"] if not os.environ.get(name))
    looked.append(f"{missing} where they are set, {', '.join(WHERE['usual'])}, the folders of D")
    return [Place(product, version(product, root), root, how)
            for (product, _), (root, how) in found.items()], looked
