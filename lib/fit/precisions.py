"""Operand types of the tensor cores: what ptxas takes, and which instruction it makes of it."""

import re
import tempfile
from collections import Counter
from pathlib import Path
from string import Template

import pandas as pd

from lib import cache
from lib.instruments import sass

MATRIX = re.compile(r"[BHIQO]MMA\.")
INTEGER, FLOAT = "s32.{0}.{0}.s32", "f32.{0}.{0}.f32"
# Type to bits, shape, kind, types of the four operands, and what follows (PTX ISA 8.8, mma).
TYPES = {
    "s8": (8, "m16n8k32", "", INTEGER, ""),
    "e4m3": (8, "m16n8k32", "", FLOAT, ""),
    "e3m2": (6, "m16n8k32", ".kind::f8f6f4", FLOAT, ""),
    "e2m1": (4, "m16n8k32", ".kind::f8f6f4", FLOAT, ""),
    "e2m1, scaled": (4, "m16n8k64", ".kind::mxf4nvf4.block_scale.scale_vec::4X",
                     "f32.e2m1.e2m1.f32.ue4m3", ", %r8, {0, 0}, %r9, {0, 0}"),
    "s4": (4, "m16n8k64", "", INTEGER, ""),
    "b1": (1, "m16n8k256", "", INTEGER + ".and.popc", ""),
}
UNIT = Path(__file__).with_name("mma.ptx")


def assembled(tc, targets):
    """One mma of each operand type, assembled for some targets (as ``sm_121a``).

    Returns
    -------
    DataFrame
        type, bits, target, accepted, instruction (the tensor-core one that it becomes), count of
        it, and native: whether the one PTX instruction became one tensor-core instruction.
    """
    def row(name, target):
        bits, shape, kind, types, scales = TYPES[name]
        unit = Template(UNIT.read_text()).substitute(
            target=target, shape=shape, kind=kind, types=types.format(name), scales=scales)
        with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
            Path(folder, "k.ptx").write_text(unit)
            done = tc.run("ptxas", f"-arch={target}", "k.ptx", "-o", "k.cubin", cwd=folder)
            said = "" if done.returncode else tc.run("nvdisasm", "k.cubin", cwd=folder).stdout
        found = Counter(op for _, op in sass.OPCODE.findall(said) if MATRIX.match(op))
        return {"type": name, "bits": bits, "target": target, "accepted": not done.returncode,
                "instruction": next(iter(found), ""), "count": found.total(),
                "native": found.total() == 1}

    def ask(_):
        return [row(name, target) for name in TYPES for target in targets]

    inputs = {"toolchain": tc.version, "targets": targets, "unit": UNIT}
    return pd.DataFrame(cache.remember("precisions", inputs, ask).value)
