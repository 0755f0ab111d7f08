"""Programs around one GEMM kernel, built over the CUTLASS of a pinned FlashInfer wheel, once."""

import os
import re
import resource
from concurrent.futures import ThreadPoolExecutor

import psutil

from lib import cache
from lib.bug1_shared_memory.gemm import UNITS
from lib.errors import CollectionError
from lib.instruments import nvcc, sass, toolchain

MAIN = """#include "{unit}.cuh"
using namespace unit;
int main(int count, char** arguments) {{ return harness::{call}<{type}>(count, arguments); }}
"""
USAGE = r"(\d+) (?:bytes )?(registers|stack frame|spill stores|spill loads)"
COMPILER_BYTES = 6e9  # what one compilation of a whole kernel may take; 5 GB were seen


class Unit:
    """A program's translation unit; `call` is ``run``, or ``reference``: CUTLASS's own, on the CPU.

    `inputs` is what its compilation depends on.
    """

    def __init__(self, program, flashinfer, call="run"):
        self.program, self.front_end = program, nvcc.of_flashinfer(flashinfer, program.target)
        name = {"run": "harness"}.get(call, call)
        self.source = MAIN.format(unit=name, call=call, type=program.kernel)
        units = sorted(UNITS.glob("*.cuh"))
        self.inputs = {**self.front_end.key, "units": units, "source": self.source}

    def compiled(self, kind):
        """What nvcc makes of it (bytes; `kind` as `FrontEnd.compile`'s), and what it said (str)."""
        utilities = self.front_end.headers.parent / "tools/util/include"
        status, binary, messages = self.front_end.compile(
            self.source, kind, "--resource-usage", more=[UNITS, utilities])
        if status:
            what = f"{self.program.name} for {self.program.target} does not compile"
            raise CollectionError(f"{what}: {nvcc.first_error(messages)}",
                                  "compare the CUTLASS of this wheel with units/harness.cuh")
        return binary, messages


def executable(program, flashinfer, call="run"):
    """Build a program, once (Path); an error if it does not compile."""
    unit = Unit(program, flashinfer, call)

    def ask(folder):
        (folder / "program").write_bytes(unit.compiled("exe")[0])
        (folder / "program").chmod(0o755)

    return cache.remember("harness", unit.inputs, ask).folder / "program"


def compiled(program, flashinfer):
    """A program's kernel as machine code; 50 s and 5 GB the first time, or an error (dict).

    It has usage (registers a thread, bytes of stack and spills), matrix (instruction to count), and
    the seconds and peak bytes of the compilation.
    """
    unit = Unit(program, flashinfer)

    def ask(folder):
        binary, messages = unit.compiled("cubin")
        (folder / "kernel.cubin").write_bytes(binary)
        usage = {name: int(number) for number, name in re.findall(USAGE, messages)}
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return {"usage": usage, "peak bytes": most}

    answer = cache.remember("kernels", unit.inputs, ask)
    kernels = sass.opcodes(toolchain.find(), (answer.folder / "kernel.cubin").read_bytes())
    matrix = sass.total(kernels.values()).to_dict()
    return answer.value | {"matrix": matrix, "seconds": answer.seconds}


def build(wanted, flashinfer, make=executable):
    """Build programs (list of Path, or of errors), as many at once as cores and memory allow."""
    def one(program):
        try:
            return make(program, flashinfer)
        except CollectionError as error:
            return error

    memory = int(psutil.virtual_memory().available / COMPILER_BYTES)
    with ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, memory))) as pool:
        return list(pool.map(one, wanted))
