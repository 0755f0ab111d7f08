"""Programs around one GEMM kernel, built over the CUTLASS of a pinned FlashInfer wheel, once."""

import os
import re
import resource

import psutil

from lib import cache, workers
from lib.bug1_shared_memory.gemm import UNITS
from lib.errors import CollectionError
from lib.instruments import nvcc

MAIN = """#include "{unit}.cuh"
using namespace unit;
int main(int count, char** arguments) {{ return harness::{call}<{type}>(count, arguments); }}
"""
UNIT = {"run": "harness", "reference": "reference"}
USAGE = r"(\d+) (?:bytes )?(registers|stack frame|spill stores|spill loads)"
COMPILER_BYTES = 6e9  # what one compilation of a whole kernel may take; 5 GB were seen


def compiled(program, flashinfer, kind="exe", call="run"):
    """What nvcc makes of a `harness.Program` (Path): 50 s and 5 GB the first time, or an error.

    `kind` is ``exe`` or ``cubin``; `call` is ``run``, or ``reference``: CUTLASS's own, on the CPU.
    Beside it its `cache.Answer`: usage (registers a thread, bytes of stack and spills), peak bytes.
    """
    front = nvcc.of_flashinfer(flashinfer, program.target)
    source = MAIN.format(unit=UNIT[call], call=call, type=program.kernel)

    def ask(folder):
        utilities = front.headers.parent / "tools/util/include"
        status, binary, said = front.compile(source, kind, "--resource-usage",
                                             more=[UNITS, utilities])
        if status:
            raise CollectionError(
                f"{program.name} for {program.target} does not compile: {nvcc.first_error(said)}",
                "compare the CUTLASS of this wheel with units/harness.cuh")
        (folder / "binary").write_bytes(binary)
        (folder / "binary").chmod(0o755)
        usage = {name: int(number) for number, name in re.findall(USAGE, said)}
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return {"usage": usage, "peak bytes": most}

    inputs = front.key | {"kind": kind, "units": sorted(UNITS.glob("*.cuh")), "source": source}
    answer = cache.remember("harness", inputs, ask)
    return answer.folder / "binary", answer


def build(wanted, flashinfer):
    """Build programs (list of Path, or of errors), as many at once as cores and memory allow."""
    memory = int(psutil.virtual_memory().available / COMPILER_BYTES)
    questions = [{"program": program, "flashinfer": flashinfer} for program in wanted]
    built = workers.ask(compiled, questions, title="GPU programs",
                        at_once=max(1, min(os.cpu_count() or 1, memory)))
    return [each.error or each.answer[0] for each in built]
