"""The fallback: FMHA v2 kernels, made by the generator that FlashInfer vendors, and compiled."""

import importlib
import re
import sys
import tempfile
from contextlib import chdir, contextmanager
from pathlib import Path
from types import ModuleType
from unittest import mock

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import nvcc, ptxas, sass
from lib.subjects import vendored

STUBS = Path(__file__).with_name("stubs")
USED = re.compile(r"entry function.*?(\d+) bytes spill stores.*?Used (\d+) registers", re.S)


@contextmanager
def generator(tree):
    """The two modules of a FlashInfer tree's kernel generator alone, in a scratch folder."""
    package = ModuleType("fmha_v2")
    package.__path__ = [str(tree / vendored.FMHA_V2_GENERATOR)]
    with (tempfile.TemporaryDirectory() as folder, chdir(folder),
          mock.patch.object(sys, "dont_write_bytecode", True),
          mock.patch.dict("os.environ", ENABLE_SM120="1"),
          mock.patch.dict(sys.modules, fmha_v2=package)):
        yield [importlib.import_module(f"fmha_v2.{name}")
               for name in ("generate_kernels", "generator_utils")]


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
    """The kernels for SM120 that FlashInfer wires, else TensorRT-LLM's whole list (DataFrame)."""
    with generator(tree) as modules:
        rows = [(name, spec.dtype, spec.input_layout.name, spec.head_size,
                 spec.head_size_v or spec.head_size)
                for name, (spec, *_) in enumerated(tree, modules, wired).items()]
    return pd.DataFrame(rows, columns=["name", "dtype", "layout", "head size", "head size of V"])


def source(tree, name):
    """The source (str) that the generator writes for a kernel of `specifications`, wired or not."""
    with generator(tree) as modules:
        known = enumerated(tree, modules, False) | enumerated(tree, modules, True)
        spec, kernel, launcher = known[name]
        traits = "Kernel_traits_nl_tiled" if spec.tiled else "Kernel_traits_nl"
        code = modules[1].get_kernel_code(spec, kernel, launcher)
        return f'{code}\nextern "C" __device__ int shared = {traits}::BYTES_PER_SMEM;'


def build(tc, tree, name, target="sm_121a"):
    """Generate and compile a unit of `specifications`: kernel.cubin and its use (cache.Answer)."""
    def done(process):
        if process.returncode:
            raise CollectionError(f"the compiler refuses it: {nvcc.first_error(process.stderr)}",
                                  "use a pinned FlashInfer, target and toolchain")
        return process.stdout + process.stderr

    def compile(folder):
        nvcc.check(tc, target)
        include = (STUBS, vendored.STUBS, tree / vendored.FMHA_V2_SOURCES, *tc.include)
        with tempfile.TemporaryDirectory() as scratch:
            unit, ptx = Path(scratch, "k.cu"), Path(scratch, "k.ptx")
            unit.write_text(source(tree, name))
            done(tc.run("nvcc", "-ccbin", nvcc.host_compiler(), f"-arch={target}", "-ptx", "-w",
                        "-std=c++17", *(f"-I{path}" for path in include), unit, "-o", ptx))
            said = done(tc.run("ptxas", f"-arch={target}", "-v", ptx,
                               "-o", folder / "kernel.cubin"))
            shared = int(re.search(r"\.u32 shared = (\d+)", ptx.read_text())[1])
        spilled, registers = (max(map(int, each)) for each in zip(*USED.findall(said)))
        return {"shared": shared, "registers": registers, "spilled": spilled}

    inputs = {"toolchain": tc.version, "flashinfer": tree.name, "kernel": name, "target": target,
              "stubs": [STUBS, vendored.STUBS]}
    return cache.remember("fmha", inputs, compile)


def compiled(tc, tree, names, target):
    """What comes of `build` for some kernels (DataFrame): refused is its error, or empty."""
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
                     "registers": unit.value["registers"], "spilled (B)": unit.value["spilled"]})
    return pd.DataFrame(rows)
