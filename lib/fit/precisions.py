"""Operand types of the tensor cores: what ptxas takes, and which instruction it makes of it."""

import re
import tomllib
from pathlib import Path
from string import Template

import pandas as pd

from lib import cache
from lib.instruments import ptxas, sass

MATRIX = re.compile(r"[BHIQO]MMA\.")
TYPES, UNIT = (Path(__file__).with_name(name) for name in ("mma.toml", "mma.ptx"))


def assembled(tc, targets):
    """One mma of each operand type of mma.toml, assembled for some targets (as ``sm_121a``).

    A row each (DataFrame): type, bits, target, accepted, instruction (the tensor-core one that it
    becomes), count of it, and native: whether one PTX instruction became one tensor-core one.
    """
    def row(form, target):
        source = Template(UNIT.read_text()).substitute(form, target=target)
        _, cubin = ptxas.run(tc, target, source)
        kernel, = sass.mnemonics(tc, cubin).values() if cubin else [{}]
        found = {op: count for op, count in kernel.items() if MATRIX.match(op)}
        count = sum(found.values())
        return {"type": form["type"], "bits": form["bits"], "target": target,
                "accepted": bool(cubin), "instruction": next(iter(found), ""),
                "count": count, "native": count == 1}

    def ask(_):
        forms = tomllib.loads(TYPES.read_text())["type"]
        return [row(form, target) for form in forms for target in targets]

    inputs = {"toolchain": tc.version, "targets": targets, "types": TYPES, "unit": UNIT}
    return pd.DataFrame(cache.remember("precisions", inputs, ask).value)
