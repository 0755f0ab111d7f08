"""Instructions by target: what ptxas says to each, and the machine code that it becomes."""

import re
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import nvcc, ptxas, sass

TARGETS = ("sm_90a", "sm_100", "sm_100f", "sm_100a", "sm_103f", "sm_103a", "sm_110f", "sm_110a",
           "sm_120", "sm_120f", "sm_120a", "sm_121", "sm_121f", "sm_121a")
READ = tomllib.loads(Path(__file__).with_name("instructions.toml").read_text())
LACKS = re.compile(r"error\s*:\s*(.*(?:not supported on|requires) \.target.*)")


@dataclass(frozen=True)
class Instruction:
    """A family, a short name, PTX of ours, and the register that it writes (if any)."""

    family: str
    name: str
    text: str
    result: str = ""


INSTRUCTIONS = tuple(Instruction(family, name, *texts) for family, rows in READ["family"].items()
                     for name, texts in rows.items())
FP4_CVT = [row for row in INSTRUCTIONS if row.name == "cvt to FP4 (e2m1x2)"]


def assemble(tc, target, row):
    """What ptxas makes of an instruction: a cubin (bytes), and why the target lacks it, if so."""
    keep = f"st.shared.b32 [r1], {row.result};" if row.result else ""
    newest = f"9.{tc.version.split('.')[1]}"  # PTX ISA, by CUDA's release notes: 9.2 for 13.2
    source = READ["kernel"].format(version=newest, target=target, text=row.text, keep=keep)
    done, code = ptxas.run(tc, target, source)
    if code:
        return code, ""
    if not (lacks := LACKS.search(done.stderr)):
        raise CollectionError(
            f"ptxas {tc.version} does not assemble for {target}: {nvcc.first_error(done.stderr)}",
            "choose a target that ptxas --help lists")
    return b"", lacks[1].strip()


def by_target(tc, asked, targets, instructions, ask):
    """Remembered answers (DataFrame): family, instruction, block-scaled, and a column a target."""
    def columns(_):
        with ThreadPoolExecutor(2) as pool:
            answers = pool.map(lambda name: [ask(name, row) for row in instructions], targets)
            return dict(zip(targets, answers))

    inputs = {"toolchain": tc.version, "asked": asked, "targets": targets,
              "kernel": READ["kernel"], "instructions": [repr(row) for row in instructions]}
    named = {"family": [row.family for row in instructions],
             "instruction": [row.name for row in instructions],
             "block-scaled": [".block_scale" in row.text for row in instructions]}
    return pd.DataFrame(named | cache.remember("isa", inputs, columns).value)


def matrix(tc, targets=TARGETS, instructions=INSTRUCTIONS):
    """ptxas's answer by instruction (row) and target (column): empty if taken, else why not."""
    return by_target(tc, "matrix", targets, instructions,
                     lambda target, row: assemble(tc, target, row)[1])


def mnemonics(tc, targets, instructions=INSTRUCTIONS, wanted=sass.MATRIX):
    """The mnemonics in the machine code of each instruction that fit a pattern (DataFrame)."""
    def ask(target, row):
        code, lacks = assemble(tc, target, row)
        written, = [{}] if lacks else sass.mnemonics(tc, code).values()
        return " ".join(op for op in written if wanted.match(op))
    return by_target(tc, f"mnemonics {wanted.pattern}", targets, instructions, ask)


def cubin(tc, target, name="mma bf16"):
    """A cubin of ours (bytes) with one instruction, by its name, or CollectionError."""
    row, = (each for each in INSTRUCTIONS if each.name == name)
    code, lacks = assemble(tc, target, row)
    if lacks:
        raise CollectionError(f"ptxas {tc.version}: {lacks}", "choose a target that has it")
    return code
