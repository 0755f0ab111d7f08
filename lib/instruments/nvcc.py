"""nvcc over one CUTLASS, and the host's own compiler: what they make of a unit, or why not."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from lib import cache
from lib.errors import CollectionError
from lib.instruments import toolchain
from lib.subjects import vendored, wheels

# What a compilation needs of a toolchain, and the wheel that holds it.
NEEDED = {"bin/nvcc": "nvidia-cuda-nvcc", "bin/ptxas": "nvidia-cuda-nvcc",
          "nvvm/bin/cicc": "nvidia-nvvm", "include/cuda_runtime.h": "nvidia-cuda-runtime",
          "include/crt/host_config.h": "nvidia-cuda-crt",
          "include/cccl/cuda/std/utility": "nvidia-cuda-cccl"}
FLAGS = ("-std=c++20", "--expt-relaxed-constexpr", "-w", "-DNDEBUG")
# Brought sm_121: https://docs.nvidia.com/cuda/archive/12.9.1/cuda-features-archive/index.html
OLDEST = (12, 9)
SECONDS = 600


def host_compiler():
    """The C++ compiler for the host: ``NVCC_CCBIN``, else ``g++`` (str); an error if it is none."""
    name = os.environ.get("NVCC_CCBIN") or "g++"
    if found := shutil.which(name):
        return found
    raise CollectionError(
        f"the host compiler {name} is not installed, and nvcc needs its preprocessor and headers",
        "install it: apt-get install g++ (or build-essential); or set NVCC_CCBIN to another one")


def first_error(said):
    """The first error in what a compiler or a linker said, without the place (str)."""
    found = re.search(r"(?:error|fatal)[^:\n]*:\s*(.+)|(undefined reference.*)", said)
    return (found[1] or found[2]).strip() if found else toolchain.first_line(said)[:300]


def host(unit, include, *options, arguments=(), libraries=()):
    """Compile a C++17 unit (Path) for this machine's processor, and run it: what it prints (str).

    `include` are folders, in their order; `arguments` go to the program. An error if there is no
    host compiler, or it refuses, with the compiler's first error.
    """
    with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
        program, folders = Path(folder, "program"), [f"-I{each}" for each in include]
        command = [host_compiler(), "-std=c++17", "-O0", "-w", *options, *folders, unit,
                   *libraries, "-o", program]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise CollectionError(f"{unit.name} does not compile: {first_error(done.stderr)}",
                                  "use a pinned FlashInfer, and g++ 11 or later")
        return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True,
                              check=True).stdout


def check(tc, target):
    """Refuse a toolchain that lacks a part (and say which wheel holds it), or is too old."""
    pinned = {wheel.name: wheel.requirement for wheel in wheels.pins()}
    release = tuple(map(int, re.findall(r"\d+", tc.version)[:2]))
    if release < OLDEST:
        raise CollectionError(
            f"nvcc {tc.version} is too old: {target} needs {OLDEST[0]}.{OLDEST[1]} or later, as of "
            f"the wheel {pinned.get('nvidia-cuda-nvcc', 'nvidia-cuda-nvcc')}", tc.mend)
    for name, wheel in NEEDED.items():
        # A system CUDA may keep CCCL elsewhere; nvcc finds it itself.
        elsewhere = wheel == "nvidia-cuda-cccl" and not tc.pinned
        if not (tc.home / name).exists() and not elsewhere:
            raise CollectionError(
                f"{name} is missing from the toolchain {tc.home}; the wheel "
                f"{pinned.get(wheel, wheel)} holds it", tc.mend)


@contextmanager
def alone():
    """Wait until no other process compiles a whole kernel: each takes 5 GB."""
    cache.root().mkdir(parents=True, exist_ok=True)
    with open(cache.root() / ".whole-kernel.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class FrontEnd:
    """nvcc over one tree of CUTLASS headers."""

    headers: Path  # the include folder of CUTLASS
    extensions: tuple  # include folders of TensorRT-LLM's extensions, if the tree has them
    identity: str  # of the headers: the SHA-256 of the wheel
    target: str  # what nvcc compiles for, as in sm_121a

    @property
    def version(self):
        """CUTLASS's version as its header states it: ``4.2.1``."""
        text = (self.headers / "cutlass/version.h").read_text()
        parts = ("MAJOR", "MINOR", "PATCH")
        return ".".join(re.search(rf"CUTLASS_{part} (\d+)", text)[1] for part in parts)

    @property
    def key(self):
        """What a result depends on besides its unit (dict): compiler, flags, headers, target."""
        return {"nvcc": toolchain.find().version, "flags": FLAGS, "cutlass": self.identity,
                "target": self.target}

    def __reduce__(self):
        """Pickled by names: another machine keeps its wheels elsewhere."""
        if not (tree := unpacked(self.identity)):
            return FrontEnd, (self.headers, self.extensions, self.identity, self.target)
        below = [path.relative_to(tree) for path in (self.headers, *self.extensions)]
        return located, (self.identity, below, self.target)

    def compile(self, source, kind, *options, more=()):
        """Compile a translation unit (its text), with further options and folders that come first.

        `kind` is ``ptx``, ``exe``, which is linked, or ``cubin``, of which one is made at a time.
        Gives nvcc's status (int), the output (bytes, empty if there is none), and what it said. An
        error if the toolchain lacks a part or is too old, no host compiler is installed, or nvcc
        takes longer than 10 minutes.
        """
        tc = toolchain.find()
        check(tc, self.target)
        folders = (*more, self.headers, *self.extensions, *tc.include)
        form = [] if kind == "exe" else [f"-{kind}"]
        with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
            unit, output = Path(folder, "unit.cu"), Path(folder, f"unit.{kind}")
            unit.write_text(source)
            command = ["nvcc", *form, f"-arch={self.target}", "-ccbin", host_compiler(), *FLAGS,
                       *(f"-I{each}" for each in folders), *options, "-o", output, unit]
            try:
                with alone() if kind == "cubin" else nullcontext():
                    done = tc.run(*command, timeout=SECONDS, cwd=folder)
            except subprocess.TimeoutExpired as error:
                raise CollectionError(
                    f"nvcc took longer than {SECONDS} s",
                    "run again on a quieter machine, or with fewer kernels") from error
            binary = output.read_bytes() if output.is_file() else b""
            return done.returncode, binary, done.stdout + done.stderr


def unpacked(identity):
    """The tree (Path) of the pinned wheel with a SHA-256, or None."""
    pins = (wheel for wheel in wheels.pins() if wheel.sha256 == identity)
    return next((wheels.source(wheel.name, wheel.version) for wheel in pins), None)


def located(identity, below, target):
    """The `FrontEnd` of a pinned wheel on this machine, its folders by their paths in the wheel."""
    headers, *extensions = (unpacked(identity) / path for path in below)
    return FrontEnd(headers, tuple(extensions), identity, target)


def of_flashinfer(version, target="sm_121a"):
    """nvcc over the CUTLASS that a pinned FlashInfer wheel vendors (`FrontEnd`).

    An error if the version is not pinned, or the target is none.
    """
    if not re.fullmatch(r"sm_\d{2,3}[af]?", target):
        raise CollectionError(f"{target!r} is no target of nvcc", "write it as sm_121a or sm_100a")
    tree = wheels.source("flashinfer-python", version)
    extensions = tree.glob(f"{vendored.INTERNAL}/tensorrt_llm/cutlass_extensions/include")
    headers = tree / vendored.DATA / "cutlass/include"
    pinned = wheels.pin("flashinfer-python", version)
    return FrontEnd(headers, tuple(extensions), pinned.sha256, target)
