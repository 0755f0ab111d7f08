"""nvcc over one CUTLASS: the PTX or the binary of a translation unit, or why it does not compile."""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from . import cache, subjects, toolchain
from .errors import CollectionError

UNITS = Path(__file__).with_name("units")
# What a compilation needs of a toolchain, and the wheel that holds it.
NEEDED = {"bin/nvcc": "nvidia-cuda-nvcc", "bin/ptxas": "nvidia-cuda-nvcc", "nvvm/bin/cicc": "nvidia-nvvm",
          "include/cuda_runtime.h": "nvidia-cuda-runtime", "include/crt/host_config.h": "nvidia-cuda-crt",
          "include/cccl/cuda/std/utility": "nvidia-cuda-cccl"}
FLAGS = ("-std=c++20", "--expt-relaxed-constexpr", "-w", "-DNDEBUG")
# The release that brought sm_121: https://docs.nvidia.com/cuda/archive/12.9.1/cuda-features-archive/index.html
OLDEST = (12, 9)
SECONDS = 600


def host_compiler():
    """The C++ compiler whose preprocessor and headers nvcc uses: ``NVCC_CCBIN``, else ``g++`` (str).

    Raises
    ------
    CollectionError
        If it is not installed.
    """
    name = os.environ.get("NVCC_CCBIN") or "g++"
    if found := shutil.which(name):
        return found
    raise CollectionError(f"the host compiler {name} is not installed, and nvcc needs its preprocessor and C++ headers",
                          "install it: apt-get install g++ (or build-essential); or set NVCC_CCBIN to another C++ compiler")


def check(tc, target):
    """Refuse a toolchain that lacks a part or is too old for `target`.

    Raises
    ------
    CollectionError
        Which file is missing and which wheel holds it, or which release is needed.
    """
    pinned = next((wheel.version for wheel in subjects.pins() if wheel.name == "nvidia-cuda-nvcc"), "13.0 or later")
    release = tuple(map(int, re.findall(r"\d+", tc.version)[:2]))
    if release < OLDEST:
        raise CollectionError(f"nvcc {tc.version} is too old: {target} needs {OLDEST[0]}.{OLDEST[1]} or later",
                              f"use the wheel nvidia-cuda-nvcc=={pinned} (unset SM12X_CUDA_HOME), or a newer CUDA")
    for name, wheel in NEEDED.items():
        # A system CUDA may keep CCCL elsewhere; nvcc finds it itself.
        if not (tc.home / name).exists() and (wheel != "nvidia-cuda-cccl" or len(tc.sources) > 1):
            raise CollectionError(f"{name} is missing from the toolchain {tc.home}",
                                  f"the wheel {wheel}=={pinned} holds it: delete the folder and run again")


@dataclass(frozen=True)
class FrontEnd:
    """nvcc over one tree of CUTLASS headers.

    Attributes
    ----------
    headers : Path
        The include folder of CUTLASS.
    extensions : tuple of Path
        Include folders of TensorRT-LLM's extensions, if the tree has them.
    identity : str
        What the headers are: the SHA-256 of the wheel, or of the checkout's own text.
    target : str
        What nvcc compiles for, as in ``sm_121a``.
    """

    headers: Path
    extensions: tuple
    identity: str
    target: str

    @property
    def version(self):
        """CUTLASS's version as its header states it: ``4.2.1``."""
        text = (self.headers / "cutlass/version.h").read_text()
        return ".".join(re.search(rf"CUTLASS_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR", "PATCH"))

    @property
    def key(self):
        """What a result depends on besides its unit (dict): compiler and its flags, headers, target."""
        return {"nvcc": toolchain.find().version, "flags": FLAGS, "cutlass": self.identity, "target": self.target}

    def include(self, *more):
        """Options of nvcc for the include folders, `more` of them first (list of str)."""
        return [f"-I{folder}" for folder in (*more, UNITS, self.headers, *self.extensions, *toolchain.find().include)]

    def compile(self, source, kind, *options, more=()):
        """Compile a translation unit.

        Parameters
        ----------
        source : str
            The unit.
        kind : str
            ``ptx``, ``cubin``, or ``exe``, which is linked.
        *options : str
            Further options of nvcc.
        more : sequence of Path
            Include folders that come first.

        Returns
        -------
        tuple of (int, bytes, str)
            nvcc's status, the output (empty if there is none), and what it said.

        Raises
        ------
        CollectionError
            If the toolchain lacks a part or is too old, no host compiler is installed, or nvcc takes longer than 10 minutes.
        """
        tc = toolchain.find()
        check(tc, self.target)
        with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
            unit, output = Path(folder, "unit.cu"), Path(folder, f"unit.{kind}")
            unit.write_text(source)
            form = [] if kind == "exe" else [f"-{kind}"]
            try:
                done = tc.run("nvcc", *form, f"-arch={self.target}", "-ccbin", host_compiler(), *FLAGS, *self.include(*more), *options,
                              "-o", output, unit, timeout=SECONDS, cwd=folder)
            except subprocess.TimeoutExpired as error:
                raise CollectionError(f"nvcc took longer than {SECONDS} s",
                                      "run again on a quieter machine, or with fewer kernels") from error
            return done.returncode, output.read_bytes() if output.is_file() else b"", done.stdout + done.stderr


@once
def text_of(folder):
    """The SHA-256 of all headers below a folder (40 hexadecimal digits), for a checkout that has no pin."""
    names = sorted(path for path in folder.rglob("*") if path.suffix in (".h", ".hpp", ".inl", ".cuh"))
    return cache.digest({str(path.relative_to(folder)): subjects.sha256(path) for path in names})


def over(tree, target="sm_121a", identity=""):
    """nvcc over the CUTLASS of a tree.

    Parameters
    ----------
    tree : Path
        A FlashInfer tree (its ``flashinfer/data`` holds CUTLASS and the extensions), or a CUTLASS checkout.
    target : str
        What to compile for.
    identity : str
        The SHA-256 of the wheel; by default the headers are hashed.

    Raises
    ------
    CollectionError
        If no ``cutlass/version.h`` is there, or the target is none.
    """
    tree = Path(tree)
    if not re.fullmatch(r"sm_\d{2,3}[af]?", target):
        raise CollectionError(f"{target!r} is no target of nvcc", "write it as sm_121a or sm_100a")
    places = [tree / place for place in ("flashinfer/data/cutlass/include", "cutlass/include", "include")]
    headers = next((place for place in places if (place / "cutlass/version.h").is_file()), None)
    if headers is None:
        raise CollectionError(f"no cutlass/version.h below {tree}", "name an unpacked FlashInfer wheel or a CUTLASS checkout")
    extensions = tree.glob("flashinfer/data/csrc/nv_internal/tensorrt_llm/cutlass_extensions/include")
    return FrontEnd(headers, tuple(extensions), identity or text_of(headers), target)


def of_flashinfer(version, target="sm_121a"):
    """nvcc over the CUTLASS that a pinned FlashInfer wheel vendors (`FrontEnd`)."""
    return over(subjects.source("flashinfer-python", version), target, subjects.pin("flashinfer-python", version).sha256)
