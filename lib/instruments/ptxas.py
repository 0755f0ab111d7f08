"""What ptxas says for a target: which instructions it takes, and the limits that it names."""

import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError

PTX_VERSION = "8.8"  # the oldest that knows all five targets
SAID = re.compile(r"^ptxas\s.*?(?:error|warning|fatal)\s*:\s*(.*)$", re.MULTILINE)

# One instruction a family, in our own words of PTX; `slot` and `bar` are shared, %rd0 stands for
# any 64-bit operand. The second entry holds the entry directives that the instruction needs.
_ABCD = "{%f0,%f1,%f2,%f3}, {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%f0,%f1,%f2,%f3}"
_SCALES = "%r6, {0, 0}, %r7, {0, 0}"
_TCGEN05 = "tcgen05.mma.cta_group::1.kind"
_TMA = "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
KERNEL = """.version {version}
.target {target}
.address_size 64
.visible .entry k() {directives} {{
.reg .pred %p<2>; .reg .b8 %b<2>; .reg .b16 %h<2>;
.reg .b32 %r<8>; .reg .f32 %f<4>; .reg .b64 %rd<2>;
.shared .align 128 .b8 slot[256]; .shared .align 8 .b64 bar;
{body}
ret;
}}
"""
FAMILIES = {
    "mma.sync f16": (f"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {_ABCD};", ""),
    "mma.sync fp8": (f"mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {_ABCD};", ""),
    "wgmma": ("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16"
              " {%f0,%f1,%f2,%f3}, %rd0, %rd1, %p0, 1, 1, 0, 0;", ""),
    "tcgen05.mma (tensor memory)": (f"{_TCGEN05}::f16 [%r0], %rd0, %rd1, %r1, %p0;", ""),
    "tcgen05.mma NVFP4": (f"{_TCGEN05}::mxf4nvf4.block_scale.scale_vec::4X"
                          " [%r0], %rd0, %rd1, %r1, [%r2], [%r3], %p0;", ""),
    "tcgen05.mma int8": (f"{_TCGEN05}::i8 [%r0], %rd0, %rd1, %r1, %p0;", ""),
    "mma.sync NVFP4 (block_scale)": (
        "mma.sync.aligned.m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X"
        f".f32.e2m1.e2m1.f32.ue4m3 {_ABCD}, {_SCALES};", ""),
    "cvt to FP4 (e2m1x2)": ("cvt.rn.satfinite.e2m1x2.f32 %b0, %f0, %f1;", ""),
    "cvt to FP4, stochastic": ("cvt.rs.satfinite.e2m1x4.f32 %h0, {%f0,%f1,%f2,%f3}, %r0;", ""),
    "TMA load": (f"{_TMA} [slot], [%rd0, {{%r0, %r1}}], [bar];", ""),
    "TMA multicast": (f"{_TMA}.multicast::cluster [slot], [%rd0, {{%r0, %r1}}], [bar], %h0;", ""),
    "TMA to a CTA pair": (f"{_TMA}.cta_group::2 [slot], [%rd0, {{%r0, %r1}}], [bar];", ""),
    "clusters": ("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;",
                 ".reqnctapercluster 2"),
    "setmaxnreg": ("setmaxnreg.inc.sync.aligned.u32 232;", ".maxntid 384"),
}


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
    source = KERNEL.format(version=PTX_VERSION, target=target, directives=directives, body=body)
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
    match = re.search(r"0x([0-9a-f]+) max", said)
    if not match:
        reason = said or "no message"
        raise CollectionError(f"ptxas named no shared-memory limit for {target}: {reason}",
                              "use the pinned toolchain")
    return int(match[1], 16)


def limits(tc, target: str) -> dict[str, int]:
    """What ptxas allows a kernel of `target`: bytes of shared memory, registers, residency."""
    inputs = {"ptxas": tc.version, "limits of": target}
    return cache.remember("ptxas", inputs, lambda _: ask_limits(tc, target)).value


def ask_limits(tc, target: str) -> dict[str, int]:
    """`limits`, asked anew: about 25 runs of ptxas."""
    def heeded(directives: str) -> Callable[[int], bool]:
        # Out of range, ptxas warns that it ignores the directive.
        return lambda n: "ignored" not in assemble(tc, target, "", directives.format(n))[1]

    return {
        "shared memory per block": shared_limit(tc, target),
        "registers per thread": largest(heeded(".maxnreg {}"), 1024),
        "blocks per multiprocessor": largest(heeded(".maxntid 32 .minnctapersm {}"), 128),
        "threads per multiprocessor": 128 * largest(heeded(".maxntid 128 .minnctapersm {}"), 128),
    }


def families(tc, targets: Iterable[str]) -> pd.DataFrame:
    """Rows of family, target, accepted and what ptxas said (an error, or an advisory)."""
    targets = list(targets)

    def ask(_):
        return [(name, target, *assemble(tc, target, *snippet))
                for name, snippet in FAMILIES.items() for target in targets]

    rows = cache.remember("ptxas", {"ptxas": tc.version, "families for": targets}, ask).value
    return pd.DataFrame(rows, columns=["family", "target", "accepted", "said"])


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
