"""A whole kernel, compiled to a binary once and read: registers, spills, and the matrix instructions in its SASS."""

import json
import re
import resource
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lib import cache
from lib.bug1_shared_memory import harness
from lib.errors import CollectionError
from lib.instruments import toolchain

USAGE = ("registers", "stack frame", "spill stores", "spill loads")


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel.

    Attributes
    ----------
    cubin : Path
        The binary.
    usage : dict
        ``registers`` a thread; ``stack frame``, ``spill stores`` and ``spill loads`` in bytes.
    sass : dict of str to int
        How often each instruction stands in the SASS, with its modifiers.
    seconds, peak : float, int
        What the compilation took: seconds, and bytes of its largest process (0 if an earlier one was larger).
    """

    cubin: Path
    usage: dict
    sass: dict
    seconds: float
    peak: int

    def instructions(self, *words):
        """The instructions that begin with one of `words` (dict of str to int)."""
        return {name: count for name, count in self.sass.items() if name.startswith(words)}


def disassemble(cubin):
    """How often each instruction stands in a binary (dict of str to int), most frequent first.

    Raises
    ------
    CollectionError
        If nvdisasm cannot read it.
    """
    done = toolchain.find().run("nvdisasm", "-c", cubin)
    if done.returncode:
        raise CollectionError(f"nvdisasm cannot read {cubin}: {done.stderr.strip()[:200]}", "delete it and run again")
    found = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_.]*)", done.stdout, re.MULTILINE)
    return dict(Counter(found).most_common())


def compiled(program, flashinfer):
    """Compile the kernel of a `harness.Program` to a binary; a minute and 5 GiB the first time, from the cache after that (`Kernel`).

    Raises
    ------
    CollectionError
        If it does not compile.
    """
    unit = harness.Unit(program, flashinfer)

    def build(folder):
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        binary, messages = unit.compiled("cubin")
        seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        (folder / "kernel.cubin").write_bytes(binary)
        (folder / "said.json").write_text(json.dumps([messages, seconds, after * 1024 if after > before else 0]))

    entry = cache.entry("kernels", unit.key, build)
    messages, seconds, peak = json.loads((entry / "said.json").read_text())
    usage = {name: int(number) for number, name in re.findall(rf"(\d+) (?:bytes )?({'|'.join(USAGE)})", messages)}
    return Kernel(entry / "kernel.cubin", usage, disassemble(entry / "kernel.cubin"), seconds, peak)
