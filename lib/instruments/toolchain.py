"""The CUDA toolchain of the package index: nvcc, ptxas, nvdisasm as one tree in the cache."""

import os
import subprocess
from dataclasses import dataclass, replace
from functools import cache as once
from pathlib import Path

from lib import cache
from lib.errors import CollectionError
from lib.subjects import wheels


@dataclass(frozen=True)
class Toolchain:
    """A CUDA toolchain: its folder with ``bin`` and ``include``, and its compiler's version.

    It is `pinned`, or the system CUDA that ``SM12X_CUDA_HOME`` names.
    """

    home: Path
    version: str
    sources: tuple  # requirements of wheels, or the path of a system CUDA
    pinned: bool = True

    @property
    def mend(self):
        """What to do about it if it lacks something (str)."""
        if self.pinned:
            return f"delete {self.home} and run again: the toolchain is then unpacked anew"
        return "correct SM12X_CUDA_HOME, or unset it to use the pinned toolchain"

    def tool(self, name):
        """The path of a program: ``nvcc``, ``ptxas``, ``cuobjdump``, ``nvdisasm`` ..."""
        path = self.home / "bin" / name
        if not path.is_file():
            raise CollectionError(f"there is no bin/{name} in {self.home}", self.mend)
        return path

    @property
    def include(self):
        """The include folders (list of Path), CCCL's among them."""
        folders = (self.home / "include", self.home / "include" / "cccl")
        return [folder for folder in folders if folder.is_dir()]

    def run(self, name, *arguments, **keywords):
        """Run a program, text in and out (``subprocess.CompletedProcess``); no status raises."""
        command = [self.tool(name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, **keywords)


def first_line(said):
    """The first line of what a program said."""
    return (said.strip().splitlines() or ["no message"])[0]


def version_of(nvcc):
    """The release that a compiler states, as in ``13.2.86``."""
    stated = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    return stated.rpartition(", V")[2].split()[0] if ", V" in stated else "unknown"


@once
def find():
    """The toolchain to use: the pinned one, or a system CUDA if ``SM12X_CUDA_HOME`` asks for it.

    An error if a wheel cannot be fetched, or ``SM12X_CUDA_HOME`` holds no compiler.
    """
    if asked := os.environ.get("SM12X_CUDA_HOME"):
        system = Toolchain(Path(asked), "", (asked,), pinned=False)
        return replace(system, version=version_of(system.tool("nvcc")))
    pinned = [wheel for wheel in wheels.pins() if wheel.role == "toolchain"]
    if not pinned:
        raise CollectionError("no CUDA toolchain is pinned for this kind of machine",
                              "set SM12X_CUDA_HOME to a CUDA of 13.0 or later")

    def unpack(folder):
        for wheel in pinned:
            wheels.extract(wheels.wheel(wheel.name, wheel.version), folder)

    tree = cache.entry("toolchains", sorted(wheel.sha256 for wheel in pinned), unpack).folder
    nvcc = next(wheel for wheel in pinned if wheel.name == "nvidia-cuda-nvcc")
    requirements = tuple(wheel.requirement for wheel in pinned)
    return Toolchain(tree / "nvidia" / "cu13", nvcc.version, requirements)
