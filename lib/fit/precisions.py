"""Operand types of the tensor cores: what ptxas takes, and which instruction it makes of it."""

import re
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from string import Template

import pandas as pd

from lib import cache
from lib.instruments import sass

MATRIX = re.compile(r"[BHIQO]MMA\.")
TYPES, UNIT = (Path(__file__).with_name(name) for name in ("mma.toml", "mma.ptx"))


def assembled(tc, targets):
    """One mma of each operand type of mma.toml, assembled for some targets (as ``sm_121a``).

    A row each (DataFrame): type, bits, target, accepted, instruction (the tensor-core one that it
    becomes), count of it, and native: whether one PTX instruction became one tensor-core one.
    """
    def row(form, target):
        with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
            source = Template(UNIT.read_text()).substitute(form, target=target)
            Path(folder, "k.ptx").write_text(source)
            done = tc.run("ptxas", f"-arch={target}", "k.ptx", "-o", "k.cubin", cwd=folder)
            said = "" if done.returncode else tc.run("nvdisasm", "k.cubin", cwd=folder).stdout
        found = Counter(op for _, op in sass.OPCODE.findall(said) if MATRIX.match(op))
        return {"type": form["type"], "bits": form["bits"], "target": target,
                "accepted": not done.returncode, "instruction": next(iter(found), ""),
                "count": found.total(), "native": found.total() == 1}

    def ask(_):
        forms = tomllib.loads(TYPES.read_text())["type"]
        return [row(form, target) for form in forms for target in targets]

    inputs = {"toolchain": tc.version, "targets": targets, "types": TYPES, "unit": UNIT}
    return pd.DataFrame(cache.remember("precisions", inputs, ask).value)
