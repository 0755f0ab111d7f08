"""Where products are: found without importing them, by Python's finders and in named folders."""

import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .text import Source

MOST_ENTRIES = 20_000  # of a folder that is searched for the name of a *.dist-info
PACKAGES = {"TensorRT-LLM": ("tensorrt_llm", "tensorrt_llm"),
            "FlashInfer": ("flashinfer", "flashinfer_python"),
            "CUTLASS": ("cutlass_library", "nvidia_cutlass")}
VARIABLES = ("TRTLLM_SRC", "CUTLASS_PATH", "CUTLASS_HOME", "CUTLASS_DIR")
USUAL = ("/usr/local/cutlass", "/opt/cutlass")
HEADERS = ("", "include", "cutlass/include", "cutlass_library/source/include",
           "flashinfer/data/cutlass/include", "3rdparty/cutlass/include",
           "third_party/cutlass/include")
ANSWER_SECONDS = 2  # for nvidia-smi
# An installation: its root (Path) has the package's folder, or CUTLASS's cutlass/version.h.
Place = namedtuple("Place", "product version root found")


def gpu():
    """The first GPU: its name and its number (121 for 12.1); or why there is none, and None."""
    command = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, text=True,
                              timeout=ANSWER_SECONDS).stdout
    except OSError:
        return "nvidia-smi is not here", None
    except subprocess.TimeoutExpired:
        return f"nvidia-smi did not answer within {ANSWER_SECONDS} s", None
    gpus = ((name, architecture(capability)) for name, _, capability in
            (line.rpartition(", ") for line in said.splitlines()))
    none = "nvidia-smi names no GPU with a compute capability", None
    return next((each for each in gpus if each[1]), none)


def architecture(text):
    """121 for ``121``, ``12.1``, ``sm_121`` or ``sm_121a``; None for what is no architecture."""
    found = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)[af]?", text.strip().lower())
    return int(found[1] + found[2]) if found and 50 <= int(found[1] + found[2]) < 200 else None


def distribution(folder, name):
    """The *.dist-info of a package in a folder of packages (Path or None)."""
    pattern = re.compile(rf"{name.replace('_', '[-_.]')}-[^-]+\.(dist|egg)-info", re.IGNORECASE)
    try:
        with os.scandir(folder) as entries:
            found = (entry.path for _, entry in zip(range(MOST_ENTRIES), entries, strict=False)
                     if pattern.fullmatch(entry.name))
            return next(map(Path, found), None)
    except OSError:
        return None


def version(product, root):
    """The version of a product by its *.dist-info, else by a file of its own (str)."""
    package, name = PACKAGES[product]
    if product == "CUTLASS":
        text = Source(root / "cutlass/version.h").raw
        return ".".join(re.findall(r"#define CUTLASS_(?:MAJOR|MINOR|PATCH) +(\d+)", text)[:3])
    info = distribution(root, name)
    header = Source(info / "METADATA").raw.partition("\n\n")[0] if info else ""
    if found := re.search(r"^Version: *(\S+)", header, re.MULTILINE):
        return found[1]
    if info:
        return info.stem.partition("-")[2]
    texts = (Source(root / package / file).raw
             for file in ("version.py", "_build_meta.py", "_version.py"))
    found = (re.search(r'__version__\s{0,9}=\s{0,9}"([^"\n]+)"', text) for text in texts)
    return next((each[1] for each in found if each), "version unknown")


def installed(package):
    """The folders of packages that Python would import a package from, without importing it."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError, OSError):
        found = importlib.machinery.PathFinder.find_spec(package)
    locations = list(found.submodule_search_locations or ()) if found else []
    return [Path(location).parent for location in locations if os.path.isdir(location)]


def linked(folder, name):
    """The folders that an editable installation in a folder points to (list of Path)."""
    info = distribution(folder, name)
    try:
        address = urlsplit(json.loads(Source(info / "direct_url.json").raw)["url"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    root = Path(unquote(address.path))
    return [root, root / "src", root / "python"] if address.scheme == "file" else []


def roots(path, package, name):
    """The folders that have a package, in a folder that the user names and where it leads."""
    itself = path.name == package and not os.path.isdir(path / package)
    inner = [folder for library in ("lib", "lib64") if os.path.isdir(path / library)
             for folder in sorted((path / library).glob("python3*/*-packages"))]
    folders = [path, path / "site-packages", path / "python", path / "src", *inner,
               *[path.parent] * itself]
    found = (root for folder in folders for root in (folder, *linked(folder, name)))
    return [root for root in found if os.path.isdir(root / package)]


def search(folders=()):
    """The products (list of Place), also in more folders, and where was looked (list of str)."""
    packages = ", ".join(package for package, _ in PACKAGES.values())
    found, looked = {}, [f"packages of {sys.executable}: {packages}"]

    def add(product, root, how):
        if product != "CUTLASS":
            found.setdefault((product, os.path.realpath(root)), (root, how))
        headers = (root / inner for inner in HEADERS)
        if here := next((each for each in headers if (each / "cutlass/version.h").is_file()), None):
            how = how if product == "CUTLASS" else f"with {product}"
            found.setdefault(("CUTLASS", os.path.realpath(here)), (here, how))
        return product != "CUTLASS" or here is not None

    for product, (package, _) in PACKAGES.items():
        for root in installed(package):
            add(product, root, "installed")
    named = [(name, Path(os.environ[name])) for name in VARIABLES if os.environ.get(name)]
    named += [(path, Path(path)) for path in USUAL if os.path.isdir(path)]
    for how, path in [*named, *((f"D={folder}", folder) for folder in folders)]:
        hits = [add(product, root, how) for product, names in PACKAGES.items()
                if product != "CUTLASS" for root in roots(path, *names)]
        hits.append(add("CUTLASS", path, how))
        place = how if str(path) in how else f"{how}: {path}"
        looked.append(place if any(hits) else f"{place}: nothing is there")
    missing = ", ".join(name for name in VARIABLES if not os.environ.get(name))
    looked.append(f"{missing} where they are set, {', '.join(USUAL)}, and the folders of D")
    return [Place(product, version(product, root), root, how)
            for (product, _), (root, how) in found.items()], looked
