"""Operand types of the tensor cores: what ptxas takes, and which instruction it makes of it."""

import re
import tempfile
from collections import Counter
from pathlib import Path

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
UNIT = """.version 8.8
.target {target}
.address_size 64
.visible .entry k(.param .u64 out) {{
.reg .b32 %r<10>; .reg .b64 %rd;
ld.param.u64 %rd, [out];
ld.global.v4.u32 {{%r0, %r1, %r2, %r3}}, [%rd]; ld.global.v4.u32 {{%r4, %r5, %r6, %r7}}, [%rd+16];
ld.global.v2.u32 {{%r8, %r9}}, [%rd+32];
mma.sync.aligned.{shape}.row.col{kind}.{types} {{%r0, %r1, %r2, %r3}}, {{%r4, %r5, %r6, %r7}},
  {{%r8, %r9}}, {{%r0, %r1, %r2, %r3}}{scales};
st.global.v4.u32 [%rd], {{%r0, %r1, %r2, %r3}};
ret;
}}
"""


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
        unit = UNIT.format(target=target, shape=shape, kind=kind, types=types.format(name),
                           scales=scales)
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

    inputs = {"toolchain": tc.version, "targets": targets}
    return pd.DataFrame(cache.remember("precisions", inputs, ask).value)
