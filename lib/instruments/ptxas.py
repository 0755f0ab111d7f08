"""What ptxas says for a target: which instructions it takes, and the limits that it names."""

import re
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError

SNIPPETS = Path(__file__).with_name("ptxas.toml")
READ = tomllib.loads(SNIPPETS.read_text())
FAMILIES = READ["families"]  # name to statements and, if need be, directives, as of `assemble`
SAID = re.compile(r"^ptxas\s.*?(?:error|warning|fatal)\s*:\s*(.*)$", re.MULTILINE)


def run(tc, target, source):
    """ptxas over a text of PTX: the process when it is done, and the cubin (bytes; empty: none)."""
    with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
        ptx, cubin = Path(folder, "k.ptx"), Path(folder, "k.cubin")
        ptx.write_text(source)
        done = tc.run("ptxas", f"-arch={target}", ptx, "-o", cubin)
        return done, b"" if done.returncode else cubin.read_bytes()


def assemble(tc, target: str, body: str = "", directives: str = "") -> tuple[bool, str]:
    """Whether ptxas takes a one-entry kernel, and its first error, warning or advisory, if any.

    `body` is PTX statements, `directives` those of the entry, such as ``.maxntid 384``.
    """
    source = READ["kernel"].format(version=READ["version"], target=target, directives=directives,
                                   body=body)
    done, _ = run(tc, target, source)
    said = SAID.search(done.stdout + done.stderr)
    if done.returncode and not said:
        raise CollectionError(f"ptxas ended with {done.returncode} and no message for {target}",
                              "check that ptxas knows this target: ptxas --list-arch")
    return done.returncode == 0, said[1] if said else ""


def shared_limit(tc, target: str) -> int:
    """Bytes of shared memory that ptxas grants one block of `target`, from its own refusal.

    For an architecture-specific target (``sm_121a``) that is the opt-in maximum; for a plain or
    family target (``sm_121``, ``sm_120f``) it is the 48 KiB that need no opt-in.
    """
    _, said = assemble(tc, target, ".shared .align 16 .b8 big[1048576]; st.shared.u32 [big], %r0;")
    if match := re.search(r"0x([0-9a-f]+) max", said):
        return int(match[1], 16)
    raise CollectionError(
        f"ptxas named no shared-memory limit for {target}: {said or 'no message'}",
        "use the pinned toolchain")


def limits(tc, target: str) -> dict[str, int]:
    """What ptxas allows a kernel of `target`: bytes of shared memory, registers, residency.

    It takes about 25 runs of ptxas, once.
    """
    def heeded(directives: str) -> Callable[[int], bool]:
        # Out of range, ptxas warns that it ignores the directive.
        return lambda n: "ignored" not in assemble(tc, target, "", directives.format(n))[1]

    def ask(_):
        warps = ".maxntid 128 .minnctapersm {}"
        return {"shared memory per block": shared_limit(tc, target),
                "registers per thread": largest(heeded(".maxnreg {}"), 1024),
                "blocks per multiprocessor": largest(heeded(".maxntid 32 .minnctapersm {}"), 128),
                "threads per multiprocessor": 128 * largest(heeded(warps), 128)}

    return asked(tc, {"limits of": target}, ask)


def families(tc, targets: Iterable[str]) -> pd.DataFrame:
    """Rows of family, target, accepted and what ptxas said (an error, or an advisory)."""
    targets = list(targets)

    def ask(_):
        return [(name, target, *assemble(tc, target, *snippet))
                for name, snippet in FAMILIES.items() for target in targets]

    rows = asked(tc, {"families for": targets}, ask)
    return pd.DataFrame(rows, columns=["family", "target", "accepted", "said"])


def asked(tc, inputs, ask):
    """What ptxas answered, remembered for its version and the snippets."""
    return cache.remember("ptxas", {"ptxas": tc.version, "snippets": SNIPPETS} | inputs, ask).value


def matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """`families` as a table of ``yes``, ``advised against`` and ``no``."""
    advised = rows["accepted"] & (rows["said"] != "")
    word = rows["accepted"].map({True: "yes", False: "no"}).mask(advised, "advised against")
    wide = rows.assign(word=word).pivot(index="family", columns="target", values="word")
    return wide.loc[rows["family"].unique(), rows["target"].unique()]


def largest(accepts: Callable[[int], bool], high: int) -> int:
    """Largest n in [1, high) that `accepts`, which must hold up to some n and not beyond."""
    low = 1
    if not accepts(low) or accepts(high):
        raise CollectionError("ptxas accepts all values or none, so it sets no limit here",
                              "use the pinned toolchain")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if accepts(middle) else (low, middle)
    return low
