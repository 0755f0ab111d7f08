"""Instructions by target: which PTX an architecture accepts, as ptxas decides, and the tensor-core SASS that it becomes."""

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.errors import CollectionError
from lib.instruments import sass

TARGETS = ("sm_90a", "sm_100", "sm_100f", "sm_100a", "sm_103f", "sm_103a", "sm_110f", "sm_110a",
           "sm_120", "sm_120f", "sm_120a", "sm_121", "sm_121f", "sm_121a")
UNIT = ".version {version}\n.target {target}\n.address_size 64\n"
KERNEL = (".visible .entry k{index}() {{\n"
          ".reg .pred p; .reg .b8 b; .reg .b16 h<4>; .reg .b32 r<16>; .reg .b64 d<8>; .reg .b128 q; .reg .f32 f<8>;\n"
          ".shared .align 128 .b8 s[1024];\n"
          "mov.u32 r0, %tid.x; mov.u32 r1, s; mov.u32 r2, %clock; cvta.shared.u64 d0, d7; mov.u64 d1, %clock64;\n"
          "mov.u64 d2, %globaltimer; setp.ne.b32 p, r0, 0; mov.b32 f0, r0; mov.b32 f1, r2; mov.b32 f2, r0; mov.b32 f3, r2;\n"
          "mov.u32 r3, %laneid; mov.u32 r4, %clock; mov.u32 r5, %clock; mov.u32 r6, r0; mov.u32 r7, r2; mov.b32 {{h0, h1}}, r2;\n"
          "{text}\n{keep}\nret;\n}}\n")
KEEP = "st.shared.b32 [r1], {0};"
ACC, A, B = "{f0,f1,f2,f3}", "{r2,r3,r4,r5}", "{r6,r7}"
SCALES = ", r6, {h0,h1}, r7, {h0,h1}"
TMA = "cp.async.bulk.tensor.2d"
FULL = "mbarrier::complete_tx::bytes"


@dataclass(frozen=True)
class Instruction:
    """One row of the matrix: a family, a short name, PTX text of ours, and the register (if any) that the text writes."""

    family: str
    name: str
    text: str
    result: str = ""

    def kernel(self, index):
        """The PTX entry ``k<index>`` that holds the instruction and keeps its result alive."""
        return KERNEL.format(index=index, text=self.text, keep=KEEP.format(self.result) if self.result else "")


def mma(name, shape, types, kind="", scale="", acc=ACC, out="f0"):
    """An ``mma.sync``; with a kind it is in a family of its own."""
    return Instruction("mma.sync with a kind" if kind else "mma.sync", name,
                       f"mma.sync.aligned.{shape}.row.col{kind}.{types} {acc},{A},{B},{acc}{scale};", out)


def tcgen05(kind, block_scale=""):
    """A ``tcgen05.mma`` of one kind."""
    scales = ", [r3], [r4]" if block_scale else ""
    return Instruction("tcgen05", f"tcgen05.mma {kind}{block_scale}",
                       f"tcgen05.mma.cta_group::1.kind::{kind}{block_scale} [r1], d1, d2, r2{scales}, p;")


def wgmma(name, shape, types, flags):
    """A ``wgmma`` with its fence; `flags` are its scale and transpose operands."""
    return Instruction("wgmma", name, f"wgmma.fence.sync.aligned; wgmma.mma_async.sync.aligned.{shape}.{types} {ACC}, d1, d2, {flags}; "
                       "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;", "f0")


INSTRUCTIONS = (
    Instruction("tcgen05", "tcgen05.alloc", "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [r1], 32;"),
    Instruction("tcgen05", "tcgen05.ld", "tcgen05.ld.sync.aligned.32x32b.x1.b32 {r2}, [r3];", "r2"),
    Instruction("tcgen05", "tcgen05.cp", "tcgen05.cp.cta_group::1.128x256b [r1], d1;"),
    tcgen05("f16"), tcgen05("tf32"), tcgen05("i8"), tcgen05("f8f6f4"),
    tcgen05("mxf8f6f4", ".block_scale"), tcgen05("mxf4", ".block_scale"), tcgen05("mxf4nvf4", ".block_scale.block16"),
    Instruction("tcgen05", "tcgen05.commit", "tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [r1];"),
    mma("mma bf16", "m16n8k16", "f32.bf16.bf16.f32"),
    mma("mma s8", "m16n8k32", "s32.s8.s8.s32", acc="{r2,r3,r4,r5}", out="r2"),
    mma("mma e4m3", "m16n8k32", "f32.e4m3.e4m3.f32"),
    mma("mma f8f6f4, e2m1", "m16n8k32", "f32.e2m1.e2m1.f32", ".kind::f8f6f4"),
    mma("mma mxf8f6f4.block_scale", "m16n8k32", "f32.e4m3.e4m3.f32.ue8m0", ".kind::mxf8f6f4.block_scale.scale_vec::1X", SCALES),
    mma("mma mxf4.block_scale", "m16n8k64", "f32.e2m1.e2m1.f32.ue8m0", ".kind::mxf4.block_scale.scale_vec::2X", SCALES),
    mma("mma mxf4nvf4.block_scale 2X", "m16n8k64", "f32.e2m1.e2m1.f32.ue8m0", ".kind::mxf4nvf4.block_scale.scale_vec::2X", SCALES),
    mma("mma mxf4nvf4.block_scale 4X (NVFP4)", "m16n8k64", "f32.e2m1.e2m1.f32.ue4m3", ".kind::mxf4nvf4.block_scale.scale_vec::4X", SCALES),
    wgmma("wgmma bf16", "m64n8k16", "f32.bf16.bf16", "1, 1, 1, 0, 0"),
    wgmma("wgmma e4m3", "m64n8k32", "f32.e4m3.e4m3", "1, 1, 1"),
    Instruction("TMA", "cp.async.bulk.tensor", f"{TMA}.shared::cta.global.tile.{FULL} [r1], [d1, {{r2,r3}}], [r4];"),
    Instruction("TMA", "... multicast::cluster",
                f"{TMA}.shared::cluster.global.tile.{FULL}.multicast::cluster [r1], [d1, {{r2,r3}}], [r4], h0;"),
    Instruction("TMA", "... cta_group::2", f"{TMA}.shared::cluster.global.tile.{FULL}.cta_group::2 [r1], [d1, {{r2,r3}}], [r4];"),
    Instruction("TMA", "... tile::gather4", f"{TMA}.shared::cta.global.tile::gather4.{FULL} [r1], [d1, {{r2,r3,r4,r5,r6}}], [r7];"),
    Instruction("cluster", "mapa (distributed shared memory)", "mapa.shared::cluster.u32 r2, r1, r3;", "r2"),
    Instruction("cluster", "clusterlaunchcontrol.try_cancel", f"clusterlaunchcontrol.try_cancel.async.shared::cta.{FULL}.b128 [r1], [r2];"),
    Instruction("cluster", "... multicast::cluster::all",
                f"clusterlaunchcontrol.try_cancel.async.shared::cta.{FULL}.multicast::cluster::all.b128 [r1], [r2];"),
    Instruction("matrix moves", "ldmatrix m8n8 b16", "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {r2}, [r1];", "r2"),
    Instruction("matrix moves", "ldmatrix m16n16 b8", "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {r2,r3}, [r1];", "r2"),
    Instruction("matrix moves", "ldmatrix b4 to b8", "ldmatrix.sync.aligned.m8n16.x1.shared.b8x16.b4x16_p64 {r2}, [r1];", "r2"),
    Instruction("matrix moves", "stmatrix m16n8 b8", "stmatrix.sync.aligned.m16n8.x1.trans.shared.b8 [r1], {r2};"),
    Instruction("other", "setmaxnreg", "setmaxnreg.inc.sync.aligned.u32 232;"),
    Instruction("other", "cvt to FP4 (e2m1x2)", "cvt.rn.satfinite.e2m1x2.f32 b, f0, f1; cvt.u32.u8 r2, b;", "r2"),
    Instruction("other", "cvt to FP4, stochastic", "cvt.rs.satfinite.e2m1x4.f32 h2, {f0,f1,f2,f3}, r4; mov.b32 r2, {h2,h2};", "r2"),
    Instruction("other", "redux f32", "redux.sync.max.f32 f2, f0, 0xffffffff;", "f2"),
    Instruction("other", "fma f32x2", "fma.rn.f32x2 d3, d1, d2, d1; cvt.u32.u64 r2, d3;", "r2"),
)

REFUSAL = re.compile(r"line (\d+); error\s*:\s*(.*)")


def ptx_version(tc):
    """The newest PTX ISA of a CUDA 13 toolchain: 9.0 for 13.0, 9.2 for 13.2 (the release notes of the PTX ISA)."""
    return f"9.{tc.version.split('.')[1]}"


def assemble(tc, target, instructions=INSTRUCTIONS, cubin=None):
    """Which instructions a target refuses. All are one unit, and ptxas names each line that the target lacks.

    Refused ones are dropped and the rest assembled again, until ptxas writes a cubin: what is accepted has been through code
    generation, not the parser alone.

    Parameters
    ----------
    tc : toolchain.Toolchain
    target : str
        As ``sm_121a``.
    instructions : sequence of Instruction
    cubin : Path, optional
        Where the cubin of the accepted ones goes.

    Returns
    -------
    dict
        The message of ptxas for each refused one, by its index in `instructions`.

    Raises
    ------
    CollectionError
        If ptxas does not know the target, or fails without naming a line.
    """
    left, refused = dict(enumerate(instructions)), {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "k.ptx")
        while left:
            text, owner = UNIT.format(version=ptx_version(tc), target=target), [None] * 3
            for index, row in left.items():
                text, owner = text + row.kernel(index), owner + [index] * row.kernel(index).count("\n")
            source.write_text(text)
            done = tc.run("ptxas", f"-arch={target}", source, "-o", cubin or source.with_suffix(".cubin"))
            if done.returncode == 0:
                break
            errors = [(owner[int(line) - 1], message.strip()) for line, message in REFUSAL.findall(done.stderr)]
            if not errors or errors[0][0] is None:
                raise CollectionError(f"ptxas {tc.version} does not assemble for {target}: {sass.first_line(done.stderr)}",
                                      "choose a target that ptxas --help lists")
            for index, message in errors:
                refused.setdefault(index, message)
                left.pop(index, None)
    return refused


def table(columns, instructions):
    """Columns of answers as a DataFrame with the instructions' family and name in front."""
    return pd.DataFrame({"family": [row.family for row in instructions], "instruction": [row.name for row in instructions]} | columns)


def columns(tc, name, targets, instructions, ask):
    """One column of answers for each target, two at a time and remembered: DataFrame with family and instruction in front."""
    def all_of_them():
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(targets, pool.map(ask, targets)))
    found = sass.remembered([tc.version, name, targets, [repr(row) for row in instructions], Path(__file__).read_text()], all_of_them)
    return pd.DataFrame({"family": [row.family for row in instructions], "instruction": [row.name for row in instructions]} | found)


def matrix(tc, targets=TARGETS, instructions=INSTRUCTIONS):
    """ptxas's answer for each instruction (row) and target (column): empty if accepted, else its message (DataFrame)."""
    def ask(target):
        refused = assemble(tc, target, instructions)
        return [refused.get(index, "") for index in range(len(instructions))]
    return columns(tc, "matrix", targets, instructions, ask)


def mnemonics(tc, targets, instructions=INSTRUCTIONS):
    """The tensor-core mnemonics that each instruction (row) becomes on each target (column): empty if none, or if refused (DataFrame)."""
    def ask(target):
        with tempfile.TemporaryDirectory() as folder:
            cubin = Path(folder, "k.cubin")
            found = sass.opcodes(tc, cubin.read_bytes()) if len(assemble(tc, target, instructions, cubin)) < len(instructions) else {}
        return [" ".join(found.get(f"k{index}", "")) for index in range(len(instructions))]
    return columns(tc, "mnemonics", targets, instructions, ask)


def accepted(table):
    """How many instructions of each family a `matrix` accepts: DataFrame, families in their order by target."""
    return (table.drop(columns=["family", "instruction"]) == "").groupby(table["family"], sort=False).sum()


def cubin(tc, target, name="mma bf16"):
    """A cubin of ours (bytes) with one instruction, by its name.

    Raises
    ------
    CollectionError
        If the target refuses it, or there is no such instruction.
    """
    chosen = [row for row in INSTRUCTIONS if row.name == name]
    if not chosen:
        raise CollectionError(f"there is no instruction {name!r}", f"choose one of {', '.join(row.name for row in INSTRUCTIONS)}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "k.cubin")
        if refused := assemble(tc, target, chosen, file):
            raise CollectionError(f"ptxas {tc.version}: {refused[0]}", "choose a target that has it")
        return file.read_bytes()
