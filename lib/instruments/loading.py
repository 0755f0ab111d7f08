"""Whether a driver loads one of some images on a GPU, by NVIDIA's rules (loading.toml).

The standard library alone: the doctor uses it. `refusals` holds the rules against a driver.
"""

import re
import tomllib
from collections import namedtuple
from pathlib import Path

from lib.errors import CollectionError

RULES = tomllib.loads(Path(__file__).with_name("loading.toml").read_text())
FAMILIES = {int(sm): members for sm, members in RULES["families"].items()}
TEGRA = frozenset(RULES["tegra"]["sm"])
HOW = ("native", "same family", "compiled by the driver", "nothing loads")  # the best first
NATIVE, FAMILY, COMPILED, NOTHING = HOW

# How images get onto a GPU (one of `HOW`), by which `Image` (None: by none), why, and what to do
# where none does, else empty (two str).
Answer = namedtuple("Answer", "how image why todo", defaults=("",))


def number(version):
    """A version as numbers, which compare as versions do: (12, 9) for ``12.9``."""
    return tuple(map(int, re.findall(r"\d+", version)))


def known(driver):
    """The newest CUDA of a driver (str, as ``13.0``), which is a text as ``580`` or ``580.95.05``.

    For a branch that the table does not have, that of the next lower one; "0" for older ones.
    CollectionError for what is no driver version.
    """
    found = re.match(r"\d{3}(?=\.|$)", str(driver))
    if not found:
        raise CollectionError(f"{driver} is no version of NVIDIA's driver",
                              "name it as nvidia-smi does, as 580 or 580.95.05")
    branches = [branch for branch in RULES["driver"] if int(branch) <= int(found[0])]
    return RULES["driver"][max(branches, key=int)] if branches else "0"


def runs(image, sm):
    """Whether an image is for a GPU such as 121 by its target alone (bool): machine code as it is,
    PTX once it is compiled."""
    if image.suffix == "a":
        return image.sm == sm
    if image.suffix == "f":
        return sm in FAMILIES.get(image.sm, (image.sm,))
    if image.kind == "ptx":
        return image.sm <= sm
    alone = image.sm in TEGRA or sm in TEGRA
    return image.sm == sm or not alone and image.sm // 10 == sm // 10 and image.sm < sm


def compiles(image, driver):
    """Whether a driver knows the PTX ISA of an image (bool)."""
    brought = RULES["cuda"].get(image.ptx)
    oldest = number(image.ptx) < (6, 0)  # older than the table
    return oldest or bool(brought) and number(brought) <= number(known(driver))


def how(images, sm, driver):
    """How a driver (as ``580``) gets one of some images onto a GPU, as 121 (`Answer`).

    Of several that load it is the one that the driver takes first: machine code before PTX, the
    nearest architecture before others. Whether a driver knows the GPU itself is not asked here.

    >>> loading.how(images.read("libcublas.so.13"), 121, "580").how  # doctest: +SKIP
    'same family'
    """
    code = [image for image in images if image.kind == "cubin" and runs(image, sm)]
    if code:
        best = max(code, key=lambda image: (image.sm, image.suffix, not image.relocatable))
        kind = NATIVE if best.sm == sm else FAMILY
        return Answer(kind, best, f"machine code for {best.target}")
    fitting = [image for image in images if image.kind == "ptx" and runs(image, sm)]
    if taken := [image for image in fitting if compiles(image, driver)]:
        best = max(taken, key=lambda image: (image.sm, image.suffix))
        return Answer(COMPILED, best, f"PTX for {best.target}, of ISA {best.ptx}")
    if fitting:
        return Answer(NOTHING, None, "its PTX is newer than the driver", newer(fitting, driver))
    held = sorted({image.target for image in images if image.kind in ("cubin", "ptx")}, key=number)
    return Answer(NOTHING, None, f"it holds {', '.join(held) or 'nothing that a driver loads'}",
                  RULES["todo"]["build"].format(sm=sm, **better(sm)))


def fatbins(images):
    """The images of a file by the fatbin that they are in (list of lists of `Image`): a driver has
    to find one in each. Relocatable ones are left out where there are linked ones."""
    linked = [image for image in images if not image.relocatable]
    found = {}
    for image in linked or images:
        found.setdefault(image.fatbin, []).append(image)
    return [*found.values()]


def newer(fitting, driver):
    """What to do where a driver knows none of the PTX: the driver that knows one (str)."""
    oldest = min(fitting, key=lambda image: number(image.ptx))
    cuda = RULES["cuda"].get(oldest.ptx, "a later one than is known here")
    enough = [branch for branch, has in RULES["driver"].items() if number(has) >= number(cuda)]
    return RULES["todo"]["driver"].format(
        branch=min(enough, key=int, default="a newer branch"), ptx=oldest.ptx, cuda=cuda,
        driver=driver, known=known(driver))


def better(sm):
    """The target to build for a GPU, and nvcc's flag (dict): its family's first one, if any."""
    first = next((first for first, members in FAMILIES.items() if sm in members), None)
    best = f"{first}f" if first else str(sm)
    return {"best": best, "flag": f"-gencode arch=compute_{best},code=[sm_{best},compute_{best}]"}
