"""How SM90, SM100, SM103, SM120 and SM121 differ; each figure says where it comes from."""

import json
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from . import cache
from .errors import CollectionError

PTX_VERSION = "8.8"  # the oldest that knows all five targets


@dataclass(frozen=True)
class Architecture:
    sm: int
    part: str
    family: str

    @property
    def target(self) -> str:
        """Architecture-specific target of ptxas, the only kind with every instruction."""
        return f"sm_{self.sm}a"


ARCHITECTURES = (
    Architecture(90, "H100", "Hopper"),
    Architecture(100, "B200", "datacenter Blackwell"),
    Architecture(103, "B300", "datacenter Blackwell"),
    Architecture(120, "RTX 5090", "desktop Blackwell"),
    Architecture(121, "GB10", "desktop Blackwell"),
)

# One instruction a family, in our own words of PTX; `slot` and `bar` are shared, %rd0 stands for
# any 64-bit operand. The second entry holds the entry directives that the instruction needs.
_ABCD = "{%f0,%f1,%f2,%f3}, {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%f0,%f1,%f2,%f3}"
_SCALES = "%r6, {0, 0}, %r7, {0, 0}"
_TMA = "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
FAMILIES = {
    "mma.sync f16": (f"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {_ABCD};", ""),
    "mma.sync fp8": (f"mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {_ABCD};", ""),
    "wgmma": ("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0,%f1,%f2,%f3}, %rd0, %rd1, %p0, 1, 1, 0, 0;", ""),
    "tcgen05.mma (tensor memory)": ("tcgen05.mma.cta_group::1.kind::f16 [%r0], %rd0, %rd1, %r1, %p0;", ""),
    "tcgen05.mma NVFP4": ("tcgen05.mma.cta_group::1.kind::mxf4nvf4.block_scale.scale_vec::4X"
                          " [%r0], %rd0, %rd1, %r1, [%r2], [%r3], %p0;", ""),
    "tcgen05.mma int8": ("tcgen05.mma.cta_group::1.kind::i8 [%r0], %rd0, %rd1, %r1, %p0;", ""),
    "mma.sync NVFP4 (block_scale)": ("mma.sync.aligned.m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X"
                                     f".f32.e2m1.e2m1.f32.ue4m3 {_ABCD}, {_SCALES};", ""),
    "cvt to FP4 (e2m1x2)": ("cvt.rn.satfinite.e2m1x2.f32 %b0, %f0, %f1;", ""),
    "cvt to FP4, stochastic": ("cvt.rs.satfinite.e2m1x4.f32 %h0, {%f0,%f1,%f2,%f3}, %r0;", ""),
    "TMA load": (f"{_TMA} [slot], [%rd0, {{%r0, %r1}}], [bar];", ""),
    "TMA multicast": (f"{_TMA}.multicast::cluster [slot], [%rd0, {{%r0, %r1}}], [bar], %h0;", ""),
    "TMA to a CTA pair": (f"{_TMA}.cta_group::2 [slot], [%rd0, {{%r0, %r1}}], [bar];", ""),
    "clusters": ("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;", ".reqnctapercluster 2"),
    "setmaxnreg": ("setmaxnreg.inc.sync.aligned.u32 232;", ".maxntid 384"),
}


def assemble(tc, target: str, body: str = "", directives: str = "") -> tuple[bool, str]:
    """Whether ptxas takes a one-entry kernel, and its first error, warning or advisory, if any.

    Parameters
    ----------
    tc : toolchain with ``run(tool, *args) -> CompletedProcess``
    target : ptxas target, for example ``sm_121a``
    body, directives : PTX statements, and entry directives such as ``.maxntid 384``
    """
    registers = ".reg .pred %p<2>; .reg .b8 %b<2>; .reg .b16 %h<2>; .reg .b32 %r<8>; .reg .f32 %f<4>; .reg .b64 %rd<2>;"
    source = (f".version {PTX_VERSION}\n.target {target}\n.address_size 64\n.visible .entry k() {directives} {{\n{registers}\n"
              f".shared .align 128 .b8 slot[256]; .shared .align 8 .b64 bar;\n{body}\nret;\n}}\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "k.ptx")
        path.write_text(source)
        done = tc.run("ptxas", f"-arch={target}", str(path), "-o", str(path.with_suffix(".cubin")))
    said = re.search(r"^ptxas\s.*?(?:error|warning|fatal)\s*:\s*(.*)$", done.stdout + done.stderr, re.MULTILINE)
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
        raise CollectionError(f"ptxas named no shared-memory limit for {target}: {said or 'no message'}", "use the pinned toolchain")
    return int(match[1], 16)


def remembered(tc, name: str, ask: Callable):
    """Ask ptxas once for each version of it and of this module: the JSON-serialisable answer of `ask`, from the cache if it is there."""
    def build(folder):
        (folder / "answer.json").write_text(json.dumps(ask()))
    return json.loads((cache.entry("ptxas", [tc.version, name, Path(__file__).read_text()], build) / "answer.json").read_text())


def limits(tc, target: str) -> dict[str, int]:
    """What ptxas allows a kernel of `target`: bytes of shared memory, registers, residency."""
    return remembered(tc, f"limits of {target}", lambda: ask_limits(tc, target))


def ask_limits(tc, target: str) -> dict[str, int]:
    """`limits`, asked anew: about 25 runs of ptxas."""
    def heeded(directives: str) -> Callable[[int], bool]:  # out of range, ptxas warns that it ignores the directive
        return lambda n: "ignored" not in assemble(tc, target, "", directives.format(n))[1]

    return {
        "shared memory per block": shared_limit(tc, target),
        "registers per thread": _largest(heeded(".maxnreg {}"), 1024),
        "blocks per multiprocessor": _largest(heeded(".maxntid 32 .minnctapersm {}"), 128),
        "threads per multiprocessor": 128 * _largest(heeded(".maxntid 128 .minnctapersm {}"), 128),
    }


def families(tc, targets: Iterable[str]) -> pd.DataFrame:
    """Rows of family, target, accepted and what ptxas said (an error, or an advisory); one row a pair."""
    def ask():
        return [(name, target, *assemble(tc, target, *snippet)) for name, snippet in FAMILIES.items() for target in targets]
    targets = list(targets)
    rows = remembered(tc, f"families of {targets}", ask)
    return pd.DataFrame(rows, columns=["family", "target", "accepted", "said"])


def matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """`families` as a table of ``yes``, ``advised against`` and ``no``."""
    word = rows["accepted"].map({True: "yes", False: "no"}).where(~rows["accepted"] | (rows["said"] == ""), "advised against")
    wide = rows.assign(word=word).pivot(index="family", columns="target", values="word")
    return wide.loc[rows["family"].unique(), rows["target"].unique()]


def read_capacities(cutlass_include: Path) -> dict[int, tuple[int, str, int]]:
    """Shared-memory capacities that CUTLASS states: ``sm -> (bytes, file, line)``.

    Reads ``constexpr int smNNN_smem_capacity_bytes = N;`` wherever it stands; a constant that only
    names another is passed over. Raises CollectionError if none is found or two disagree.
    """
    found: dict[int, tuple[int, str, int]] = {}
    for sm, size, file, line in _scan(cutlass_include, "cutlass", r"\bsm(\d+)_smem_capacity_bytes\s*=\s*(\d+)\s*;"):
        if found.setdefault(int(sm), (int(size), file, line))[0] != int(size):
            raise CollectionError(f"{file}:{line} says {size} B for SM{sm}, {found[int(sm)][1]} says {found[int(sm)][0]} B",
                                  "read both: CUTLASS changed")
    if not found:
        raise CollectionError(f"no smem_capacity_bytes constant under {cutlass_include}", "name the include folder of CUTLASS 3.0 or later")
    return found


def arch_tags(cutlass_include: Path) -> dict[int, tuple[str, int]]:
    """Architecture tags (``struct SmNNN``) of cutlass/arch/arch.h: ``sm -> (file, line)``."""
    return {int(sm): (file, line) for sm, file, line in _scan(cutlass_include, "cutlass/arch", r"^struct Sm(\d+)\b(?!.*;)")}


def tensor_memory(cutlass_include: Path) -> tuple[int, str, int]:
    """Bytes of tensor memory a multiprocessor of SM100 has in CUTLASS, with file and line."""
    for lanes, columns, bits, file, line in _scan(cutlass_include, "cute/arch", r"MAX_CAPACITY_BITS\s*=\s*Int<(\d+)\*(\d+)\*(\d+)>"):
        return int(lanes) * int(columns) * int(bits) // 8, file, line
    raise CollectionError(f"no MAX_CAPACITY_BITS under {cutlass_include}", "name the include folder of CUTLASS 4.0 or later")


def per_multiprocessor(cccl_include: Path) -> dict[int, tuple[int, str, int]]:
    """Shared memory of a multiprocessor in CCCL's arch_traits.h: ``sm -> (bytes, file, line)``; empty for a CUDA without that header."""
    header = cccl_include / "cuda/__device/arch_traits.h"
    if not header.is_file():
        return {}
    found, sm = {}, 0
    for number, line in enumerate(header.read_text().splitlines(), 1):
        if match := re.search(r"arch_traits_t arch_traits<arch_id::sm_(\d+)>\(\)", line):
            sm = int(match[1])
        elif match := re.search(r"= ::cuda::arch_traits<arch_id::sm_(\d+)>\(\)", line):
            found.setdefault(sm, (*found[int(match[1])][:2], number))
        elif match := re.search(r"max_shared_memory_per_multiprocessor = (\d+) \* 1024;", line):
            found[sm] = int(match[1]) * 1024, header.name, number
    return found


def _scan(include: Path, folder: str, pattern: str):
    for path in sorted(p for p in (include / folder).rglob("*") if p.suffix in {".h", ".hpp", ".inl"}):
        text = path.read_text(errors="replace")
        for match in re.finditer(pattern, text, re.MULTILINE):
            yield *match.groups(), str(path.relative_to(include)), text.count("\n", 0, match.start()) + 1


def _largest(accepts: Callable[[int], bool], high: int) -> int:
    """Largest n in [1, high) that `accepts`, which must hold up to some n and not beyond."""
    low = 1
    if not accepts(low) or accepts(high):
        raise CollectionError("ptxas accepts all values or none, so it sets no limit here", "use the pinned toolchain")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if accepts(middle) else (low, middle)
    return low
