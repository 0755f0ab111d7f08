"""The fallback: FMHA v2 kernels, made by the generator that FlashInfer vendors, and compiled."""

import importlib
import os
import re
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import nvcc, ptxas, sass
from lib.subjects import vendored

STUBS = Path(__file__).with_name("stubs")
SIZES = (("shared", "BYTES_PER_SMEM"), ("threads", "THREADS"))  # ours, and the kernel traits'
USED = re.compile(r"entry function.*?(\d+) bytes spill stores.*?Used (\d+) registers", re.S)


@contextmanager
def generator(tree):
    """The two modules of a FlashInfer tree's kernel generator, imported without FlashInfer.

    The current folder is a scratch one meanwhile. Raises CollectionError if there is no generator.
    """
    place = Path(tree, vendored.FMHA_V2_GENERATOR)
    if not (place / "generate_kernels.py").is_file():
        raise CollectionError(f"this FlashInfer has no FMHA v2 generator ({place.name})",
                              "choose 0.6.6 or later")
    package = ModuleType("fmha_v2")
    package.__path__ = [str(place)]
    before, writes, enabled = os.getcwd(), sys.dont_write_bytecode, os.environ.get("ENABLE_SM120")
    sys.modules["fmha_v2"], sys.dont_write_bytecode, os.environ["ENABLE_SM120"] = package, True, "1"
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                yield [importlib.import_module(f"fmha_v2.{name}")
                       for name in ("generate_kernels", "generator_utils")]
            finally:
                os.chdir(before)
    finally:
        sys.dont_write_bytecode = writes
        os.environ.pop("ENABLE_SM120")
        os.environ.update({} if enabled is None else {"ENABLE_SM120": enabled})
        for name in [name for name in sys.modules if name.partition(".")[0] == "fmha_v2"]:
            del sys.modules[name]


def enumerated(tree, modules, wired):
    """The generator's own tuples (specification, kernel, launcher) for SM120, by unit (dict)."""
    generate, utils = modules
    found = []
    generate.generate_files = utils.generate_files = found.extend
    if wired:
        generate.enumerate_kernels(tree / vendored.FMHA_V2_SOURCES, Path.cwd())
    else:
        utils.enumerate_kernels()
    return {file.removesuffix(".cu"): (spec, kernel, launcher)
            for spec, file, launcher, kernel, *_ in found if spec.sm == 120}


def specifications(tree, wired=True):
    """The kernels for SM120 that the generator of an unpacked FlashInfer wheel makes (DataFrame).

    Those that FlashInfer wires to a function; else TensorRT-LLM's whole list, which is vendored
    too. A row for each: name, dtype, layout, head size (of Q and K), and of V.
    """
    with generator(tree) as modules:
        rows = [(name, spec.dtype, spec.input_layout.name, spec.head_size,
                 spec.head_size_v or spec.head_size)
                for name, (spec, *_) in enumerated(tree, modules, wired).items()]
    return pd.DataFrame(rows, columns=["name", "dtype", "layout", "head size", "head size of V"])


def source(tree, name):
    """The source (str) that the generator writes for a kernel of `specifications`, wired or not."""
    with generator(tree) as modules:
        known = enumerated(tree, modules, False) | enumerated(tree, modules, True)
        if name not in known:
            raise CollectionError(f"there is no FMHA v2 kernel {name}",
                                  "choose a name of fmha.specifications")
        spec, kernel, launcher = known[name]
        traits = "Kernel_traits_nl_tiled" if spec.tiled else "Kernel_traits_nl"
        return modules[1].get_kernel_code(spec, kernel, launcher) + "".join(
            f'\nextern "C" __device__ int {ours} = {traits}::{theirs};' for ours, theirs in SIZES)


def build(tc, tree, name, target="sm_121a"):
    """Generate a unit of `specifications`, a kernel for each mask, and compile it for a target.

    Returns
    -------
    cache.Answer
        ``kernel.cubin`` in its folder; its value has ``shared`` (bytes of dynamic shared memory
        that the launcher asks for), ``threads`` (of a block), and for each kernel ``registers``
        (of a thread) and ``spilled`` (bytes).

    Raises
    ------
    CollectionError
        If there is no such kernel, no C++ compiler, or it refuses, with its first error.
    """
    def done(process):
        if process.returncode:
            raise CollectionError(f"the compiler refuses it: {nvcc.first_error(process.stderr)}",
                                  "use a pinned FlashInfer, target and toolchain")
        return process.stdout + process.stderr

    def compile(folder):
        nvcc.check(tc, target)
        host, code = nvcc.host_compiler(), source(tree, name)
        include = (STUBS, vendored.STUBS, tree / vendored.FMHA_V2_SOURCES, *tc.include)
        with tempfile.TemporaryDirectory() as scratch:
            unit, ptx = Path(scratch, "k.cu"), Path(scratch, "k.ptx")
            unit.write_text(code)
            done(tc.run("nvcc", "-ccbin", host, f"-arch={target}", "-ptx", "-std=c++17", "-w",
                        *(f"-I{path}" for path in include), unit, "-o", ptx))
            said = done(tc.run("ptxas", f"-arch={target}", "-v", ptx,
                               "-o", folder / "kernel.cubin"))
            sizes = {ours: int(re.search(rf"\.u32 {ours} = (\d+)", ptx.read_text())[1])
                     for ours, _ in SIZES}
        spilled, registers = zip(*USED.findall(said))
        return sizes | {"registers": list(map(int, registers)), "spilled": list(map(int, spilled))}

    inputs = {"toolchain": tc.version, "flashinfer": tree.name, "kernel": name, "target": target,
              "stubs": [STUBS, vendored.STUBS]}
    return cache.remember("fmha", inputs, compile)


def compiled(tc, tree, names, target):
    """What comes of compiling some kernels for a target.

    Returns
    -------
    DataFrame
        A row for each: kernel, refused (the compiler's first error, or empty), instructions (on the
        tensor cores), shared memory and of (the target's limit, both in bytes), registers (of a
        thread, at most), spilled (bytes, at most).
    """
    limit, rows = ptxas.limits(tc, target)["shared memory per block"], []
    for name in names:
        try:
            unit = build(tc, tree, name, target)
        except CollectionError as error:
            rows.append({"kernel": name, "refused": str(error).partition("\n")[0]})
            continue
        used = sass.total(sass.opcodes(tc, (unit.folder / "kernel.cubin").read_bytes()).values())
        rows.append({"kernel": name, "refused": "", "instructions": ", ".join(used.index),
                     "shared memory (B)": unit.value["shared"], "of (B)": limit,
                     "registers": max(unit.value["registers"]),
                     "spilled (B)": max(unit.value["spilled"])})
    return pd.DataFrame(rows)
