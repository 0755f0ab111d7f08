"""Whether a driver loads one of some images on a GPU, by NVIDIA's rules (loading.toml).

The standard library alone: the doctor uses it. `lib.survey.refusals` asks a driver the same.
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

    Of several that load it is the one that the driver takes: linked before relocatable, machine
    code before PTX, the nearest architecture first. What loads need not do anything: a kernel for
    one architecture often has an empty body in what is compiled for others. Whether the driver
    knows the GPU, and whether machine code is too new for it, the headers do not say.

    >>> loading.how(images.read("libcublas.so.13"), 121, "580").how  # doctest: +SKIP
    'same family'
    """
    def order(image):
        return not image.relocatable, image.kind == "cubin", image.sm, image.suffix

    fitting = [image for image in images if image.kind in ("cubin", "ptx") and runs(image, sm)]
    taken = [image for image in fitting if image.kind == "cubin" or compiles(image, driver)]
    if best := max(taken, key=order, default=None):
        told = (f"PTX for {best.target}, of ISA {best.ptx}" if best.kind == "ptx" else
                f"machine code for {best.target}")
        kind = COMPILED if best.kind == "ptx" else NATIVE if best.sm == sm else FAMILY
        return Answer(kind, best, told + ", which the driver links first" * best.relocatable)
    if fitting:
        return Answer(NOTHING, None, "its PTX is newer than the driver", newer(fitting, driver))
    held = sorted({image.target for image in images if image.kind in ("cubin", "ptx")}, key=number)
    first = next((f"{first}f" for first, members in FAMILIES.items() if sm in members), str(sm))
    return Answer(NOTHING, None, f"it holds {', '.join(held) or 'nothing that a driver loads'}",
                  RULES["todo"]["build"].format(sm=sm, first=first))


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
    isa = min((image.ptx for image in fitting), key=number)
    cuda = RULES["cuda"].get(isa, "later than is known here")
    enough = [int(branch) for branch, has in RULES["driver"].items()
              if isa in RULES["cuda"] and number(has) >= number(cuda)]
    return RULES["todo"]["driver"].format(branch=min(enough, default="a newer one"), ptx=isa,
                                          cuda=cuda, driver=driver, known=known(driver))
