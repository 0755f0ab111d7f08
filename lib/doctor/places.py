"""Where products are: found without importing them, by their specs, by folders of the user's, and by where they usually are."""

import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .text import Source

MOST_ENTRIES = 20_000  # of a folder that is searched for the name of a *.dist-info
PACKAGES = {"TensorRT-LLM": ("tensorrt_llm", "tensorrt_llm"), "FlashInfer": ("flashinfer", "flashinfer_python"),
            "FlashInfer cubins": ("flashinfer_cubin", "flashinfer_cubin"), "CUTLASS": ("cutlass_library", "nvidia_cutlass"),
            "CUTLASS DSL": ("nvidia_cutlass_dsl", "nvidia_cutlass_dsl")}
CUTLASS_VARIABLES = ("CUTLASS_PATH", "CUTLASS_HOME", "CUTLASS_DIR")
USUAL = ("/usr/local/cutlass", "/opt/cutlass")
HEADERS = ("", "include", "cutlass/include", "cutlass_library/source/include", "flashinfer/data/cutlass/include",
           "3rdparty/cutlass/include", "third_party/cutlass/include")
ANSWER_SECONDS = 2  # for nvidia-smi


@dataclass(frozen=True)
class Place:
    """An installation: `root` is the folder that its package folder is in (for CUTLASS: the folder with ``cutlass/version.h``)."""

    product: str
    version: str
    root: Path
    found: str


def gpu_query():
    """nvidia-smi, started and not waited for (Popen), or None where there is none."""
    command = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)
    except OSError:
        return None


def gpu(query):
    """The first GPU: its name and its architecture as a number (121 for 12.1); or why there is none and None."""
    if query is None:
        return "nvidia-smi is not here", None
    try:
        said, _ = query.communicate(timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        query.kill()
        return f"nvidia-smi did not answer within {ANSWER_SECONDS} s", None
    for line in said.splitlines():
        name, _, capability = line.rpartition(", ")
        if sm := architecture(capability):
            return name, sm
    return "nvidia-smi names no GPU with a compute capability", None


def architecture(text):
    """The number of an architecture: 121 for ``121``, ``12.1``, ``sm_121`` or ``sm_121a``; None for anything else."""
    found = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)[af]?", text.strip().lower())
    return int(found[1] + found[2]) if found and 50 <= int(found[1] + found[2]) < 200 else None


def distribution(folder, name):
    """The *.dist-info of a package in a folder of packages (Path or None); of a very large folder only the first entries are looked at."""
    pattern = re.compile(rf"{name.replace('_', '[-_.]')}-[^-]+\.(dist|egg)-info", re.IGNORECASE)
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(MOST_ENTRIES), entries):
                if pattern.fullmatch(entry.name):
                    return Path(entry.path)
    except OSError:
        pass
    return None


def version(folder, package, name):
    """The version of a package by its *.dist-info, else by its own version file; ``version unknown`` where neither says it."""
    info = distribution(folder, name)
    texts = [Source(info / "METADATA").raw.partition("\n\n")[0]] if info else []
    if found := next((found for text in texts if (found := re.search(r"^Version: *(\S+)", text, re.MULTILINE))), None):
        return found[1]
    if info and (found := re.match(r"[^-]+-([^-]+)\.(?:dist|egg)-info", info.name)):
        return found[1]
    for file in ("version.py", "_build_meta.py", "_version.py"):
        path = os.path.join(folder, package, file)
        if os.path.isfile(path) and (found := re.search(r'__version__\s*=\s*"([^"]+)"', Source(path).raw)):
            return found[1]
    return "version unknown"


def spec_folders(package):
    """The folders that Python would import a top-level package from (list of Path): the finders are asked, the package is not imported."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError, OSError):
        found = importlib.machinery.PathFinder.find_spec(package)
    locations = list(found.submodule_search_locations or ()) if found else []
    return [Path(location) for location in locations if os.path.isdir(location)]


def linked(folder, name):
    """The folders that an editable installation in a folder of packages points to (list of Path)."""
    info = distribution(folder, name)
    try:
        address = urlsplit(json.loads(Source(info / "direct_url.json").raw)["url"]) if info else None
    except (ValueError, KeyError, TypeError):
        address = None
    root = Path(unquote(address.path)) if address and address.scheme == "file" else None
    return [root, root / "src", root / "python"] if root else []


def packages(path):
    """A folder that the user names, and the folders of packages that may be in it (list of Path)."""
    inner = []
    for library in ("lib", "lib64"):
        if os.path.isdir(path / library):
            inner += sorted((path / library).glob("python3*/*-packages"))
    return [path, path.parent, path / "site-packages", path / "python", path / "src", *inner]


def cutlass(path):
    """The folder of CUTLASS headers in a folder (Path or None)."""
    return next((path / inner for inner in HEADERS if os.path.isfile(path / inner / "cutlass/version.h")), None)


def cutlass_version(headers):
    """The version that cutlass/version.h states."""
    numbers = dict(re.findall(r"#define CUTLASS_(MAJOR|MINOR|PATCH) +(\d+)", Source(headers / "cutlass/version.h").raw))
    return ".".join(numbers[part] for part in ("MAJOR", "MINOR", "PATCH") if part in numbers) or "version unknown"


def search(folders=()):
    """Find the products.

    Parameters
    ----------
    folders : sequence of Path
        More folders to look in: checkouts, unpacked wheels, site-packages, CUTLASS headers.

    Returns
    -------
    list of Place
        Each folder once.
    list of str
        What was looked for and where.
    """
    found, looked = {}, [f"packages of {sys.executable}: {', '.join(package for package, _ in PACKAGES.values())}"]

    def add(product, root, how):
        package, name = PACKAGES[product]
        key = (product, os.path.realpath(root))
        if key not in found:
            found[key] = Place(product, cutlass_version(root) if product == "CUTLASS" else version(root, package, name), root, how)

    for product, (package, _) in PACKAGES.items():
        for folder in spec_folders(package):
            if product != "CUTLASS":
                add(product, folder.parent, "installed")
            if headers := cutlass(folder.parent):
                add("CUTLASS", headers, f"with {product}")
    named = [("TRTLLM_SRC", os.environ.get("TRTLLM_SRC"))] + [(name, os.environ.get(name)) for name in CUTLASS_VARIABLES]
    named = [(how, Path(path)) for how, path in named if path] + [(path, Path(path)) for path in USUAL if os.path.isdir(path)]
    for how, path in [*named, *((f"D={folder}", Path(folder)) for folder in folders)]:
        looked.append(f"{how}: {path}" if how != str(path) else how)
        for product, (package, name) in PACKAGES.items():
            itself = path.name == package and not os.path.isdir(path / package)
            for folder in packages(path):
                for root in (folder, *linked(folder, name)):
                    if product != "CUTLASS" and os.path.isdir(root / package) and (folder != path.parent or itself):
                        add(product, root, how)
                        if headers := cutlass(root):
                            add("CUTLASS", headers, f"with {product}")
        if headers := cutlass(path):
            add("CUTLASS", headers, how)
    missing = [name for name in CUTLASS_VARIABLES if not os.environ.get(name)]
    looked.append(f"{', '.join(missing)} and TRTLLM_SRC where they are set, {', '.join(USUAL)}, and the folders of D")
    return list(found.values()), looked
