"""Machine code of a cubin by nvdisasm: tensor-core instructions, and what others cannot decode."""

import hashlib
import io
import re
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from lib import cache
from lib.errors import CollectionError
from lib.instruments import cubins, toolchain

OPCODE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.M)
FUNCTION = re.compile(r"^\.text\.(\w+):", re.M)
UNKNOWN = re.compile(r"at address 0x([0-9a-f]+)")
MATRIX = re.compile(r"UTC\w*MMA|UTCCP|UTCBAR|UTCATOMSWS|LDTM|STTM|[HIQOD]G?MMA|WARPGROUP")


def disassemble(tc, code, *options):
    """nvdisasm's answer to a cubin or to raw code (bytes): ``subprocess.CompletedProcess``."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        return tc.run("nvdisasm", *options, file.name)


def asked(tc, cubin, inputs, ask):
    """An answer about a cubin, remembered for it and the version of nvdisasm."""
    known = {"nvdisasm": tc.version, "cubin": hashlib.sha256(cubin).hexdigest()}
    return cache.remember("sass", known | inputs, ask).value


def mnemonics(tc, cubin):
    """Count the mnemonics of a cubin (bytes), by kernel (dict of str to Counter, modifiers too).

    They stand in the order in which the code has them. An error if nvdisasm refuses the cubin.
    """
    done = disassemble(tc, cubin)
    if done.returncode:
        said = toolchain.first_line(done.stderr)
        raise CollectionError(f"nvdisasm refuses this cubin: {said}", "build it anew")
    parts = FUNCTION.split(done.stdout)[1:]
    return {name: Counter(op for _, op in OPCODE.findall(text))
            for name, text in zip(parts[::2], parts[1::2])}


def opcodes(tc, cubin):
    """Those of `mnemonics` that use the tensor cores or guard tensor memory, remembered (dict)."""
    def ask(_):
        return {name: {op: count for op, count in found.items() if MATRIX.match(op)}
                for name, found in mnemonics(tc, cubin).items()}

    return asked(tc, cubin, {"asked": "opcodes"}, ask)


def decode(tc, cubin, device, name="cubin"):
    """Read the code of a cubin as another architecture's: which instructions does that one lack?

    Its bytes go to ``nvdisasm --binary`` twice: as what the cubin was built for, for the mnemonics,
    and as `device` (``SM121``), for the addresses that cannot be decoded. The answer is a dict of
    ``instructions``: how many there are; ``unknown``: mnemonic (without modifiers) to how many
    `device` cannot decode; ``matrix``: the tensor-core mnemonics, counted. An error if it is no
    cubin, or damaged, or nvdisasm does not know an architecture.
    """
    home, code = f"SM{cubins.header(cubin, name).sm}", texts(cubin, name)

    def ask(_):
        own, other = (disassemble(tc, code, "--binary", each) for each in (home, device))
        missing = {int(at, 16) for at in UNKNOWN.findall(other.stderr)}
        for each, done, fine in ((home, own, not own.returncode),
                                 (device, other, not other.returncode or missing)):
            if not fine:
                raise CollectionError(
                    f"nvdisasm cannot read {name} as {each}: {toolchain.first_line(done.stderr)}",
                    "name an architecture as SM121")
        ops = {int(at, 16): op.partition(".")[0] for at, op in OPCODE.findall(own.stdout)}
        return {"instructions": len(ops), "unknown": Counter(ops[at] for at in missing),
                "matrix": Counter(op for op in ops.values() if MATRIX.match(op))}

    return asked(tc, cubin, {"asked": "decode", "device": device}, ask)


def compare(tc, named, device):
    """`decode` each of some cubins (dict of str to bytes), two at a time (DataFrame, rows)."""
    def one(item):
        return {"cubin": item[0]} | decode(tc, item[1], device, item[0])

    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(one, named.items()))
    return pd.DataFrame(rows, columns=["cubin", "instructions", "unknown", "matrix"])


def total(counts):
    """The sum of some dicts of mnemonic to count (Series, most frequent first)."""
    summed = pd.Series(sum(map(Counter, counts), Counter()), dtype=int)
    return summed.sort_values(ascending=False, kind="stable")


def texts(cubin, name="cubin"):
    """The code of all kernels of a cubin, one after the other (bytes)."""
    try:
        kernels = [section for section in ELFFile(io.BytesIO(cubin)).iter_sections()
                   if section.name.startswith(".text.")]
        if not kernels or max(each["sh_offset"] + each["sh_size"] for each in kernels) > len(cubin):
            raise ELFError(f"{len(cubin)} bytes do not hold its code")
        return b"".join(each.data() for each in kernels)
    except (ELFError, ConstructError, UnicodeDecodeError, AttributeError, ValueError) as error:
        what = f"{name} is no cubin, or damaged: {type(error).__name__}: {error}"
        raise CollectionError(
            what, "compare its wheel with the pin in lib/subjects/wheels.toml") from error
