"""The architectures side by side: every figure with its source, as one table and one chart."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from lib.instruments import architectures, ptxas
from lib.instruments.architectures import ARCHITECTURES

KIB = 1024
H100 = "https://glennklockwood.com/garden/processors/h100"
B200 = "https://chipsandcheese.com/p/nvidias-b200-keeping-the-cuda-juggernaut"
B300 = ("https://developer.nvidia.com/blog/"
        "inside-nvidia-blackwell-ultra-the-chip-powering-the-ai-factory-era")
RTX = "https://pocketmags.com/linux-format-magazine/may-2025/articles/nvidia-geforce-rtx-5090"
GB10 = "https://github.com/huggingface/kernels/pull/283"
SPARK = "https://huggingface.co/blog/exolabs/the-dgx-spark-handbook"

# Facts of a product that no header and no compiler knows, as (quantity, unit, {sm: (value, link)});
# B300's 160 is the whole chip.
CITED = (
    ("multiprocessors", "",
     {90: (132, H100), 100: (148, B200), 103: (160, B300), 120: (170, RTX), 121: (48, GB10)}),
    ("memory bandwidth", "GB/s", {90: (3350, H100), 120: (1792, RTX), 121: (273, SPARK)}),
    ("memory", "GB", {90: (80, H100), 120: (32, RTX), 121: (128, SPARK)}),
)
COLUMNS = ["quantity", "sm", "value", "unit", "source", "where"]


def gather(tc, cutlass: Path, cccl: Path, gpus: Iterable = ()) -> pd.DataFrame:
    """Figures as rows of quantity, sm, value, unit, source and where.

    `source` is ``header``, ``ptxas``, ``device`` or ``cited``; `where` is the file and line, the
    target asked, the GPU's name or the link. A quantity may have a row from each source.

    Parameters
    ----------
    tc : toolchain.Toolchain
    cutlass, cccl : Path
        Include folders of CUTLASS and of CCCL.
    gpus : iterable of devices.Gpu
        Whose own answers are rows too.
    """
    rows, stated = [], of_headers(cutlass, cccl)
    for arch in ARCHITECTURES:
        rows += [(name, arch.sm, value, "B" if "memory" in name else "", "ptxas", arch.target)
                 for name, value in ptxas.limits(tc, arch.target).items()]
        *sizes, tag = stated[arch.sm]
        rows += [*sizes, tensor_memory(tc, arch, cutlass), tag]
    for quantity, unit, by_sm in CITED:
        rows += [(quantity, sm, value, unit, "cited", link) for sm, (value, link) in by_sm.items()]
    for gpu in gpus:
        of_device = {
            "shared memory per block": (gpu.shared_per_block, "B"),
            "shared memory per multiprocessor": (gpu.shared_per_multiprocessor, "B"),
            "threads per multiprocessor": (gpu.threads_per_multiprocessor, ""),
            "blocks per multiprocessor": (gpu.blocks_per_multiprocessor, ""),
            "multiprocessors": (gpu.multiprocessors, ""),
            "L2 cache": (round(gpu.l2_bytes / 2**20), "MB"),
        }
        rows += [(name, gpu.sm, value, unit, "device", gpu.name)
                 for name, (value, unit) in of_device.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def of_headers(cutlass, cccl):
    """What CUTLASS's and CCCL's headers state, by SM: rows as of `gather`, the tag last (dict)."""
    tags, rows = architectures.arch_tags(cutlass), {arch.sm: [] for arch in ARCHITECTURES}
    for quantity, known in (
            ("shared memory per block", architectures.read_capacities(cutlass)),
            ("shared memory per multiprocessor", architectures.per_multiprocessor(cccl))):
        for sm in rows.keys() & known.keys():
            size, file, line = known[sm]
            rows[sm].append((quantity, sm, size, "B", "header", f"{file}:{line}"))
    for sm, found in rows.items():
        where = "{}:{}".format(*tags[sm]) if sm in tags else f"no struct Sm{sm}"
        found.append(("CUTLASS tag", sm, sm if sm in tags else None, "", "header", where))
    return rows


def tensor_memory(tc, arch, cutlass):
    """Tensor memory of a multiprocessor, none where ptxas refuses its instructions (a row)."""
    quantity = "tensor memory per multiprocessor"
    snippet = ptxas.FAMILIES["tcgen05.mma (tensor memory)"]
    if not ptxas.assemble(tc, arch.target, *snippet)[0]:
        return quantity, arch.sm, 0, "B", "ptxas", f"tcgen05 refused for {arch.target}"
    size, file, line = architectures.tensor_memory(cutlass)
    return quantity, arch.sm, size, "B", "header", f"{file}:{line}"


def disagreements(figures: pd.DataFrame) -> pd.DataFrame:
    """Rows whose sources give one quantity of one architecture different values."""
    spread = figures.groupby(["quantity", "sm"])["value"].transform("nunique")
    return figures[spread > 1]


def overview(figures: pd.DataFrame) -> pd.DataFrame:
    """One row a quantity, one column an architecture, each cell: value, unit and sources."""
    def cell(group: pd.DataFrame) -> str:
        same = group.groupby(["value", "unit"], sort=False, dropna=False)["source"]
        return "; ".join(f"{written(value, unit)} [{source}]"
                         for (value, unit), source in same.agg(", ".join).items())

    cells = figures.groupby(["quantity", "sm"], sort=False).apply(cell, include_groups=False)
    wide = cells.unstack("sm").reindex(index=figures["quantity"].unique(),
                                       columns=[arch.sm for arch in ARCHITECTURES])
    return wide.fillna("not stated").rename(columns=names())


def names():
    """What an architecture is called in a heading (dict of int to str)."""
    return {arch.sm: f"SM{arch.sm} ({arch.part})" for arch in ARCHITECTURES}


def written(value, unit: str) -> str:
    """A figure as text, with KiB beside whole ones."""
    if pd.isna(value):
        return "none"
    if unit == "B" and value and value % KIB == 0:
        return f"{int(value):,} B ({int(value) // KIB} KiB)"
    return f"{int(value):,} {unit}".rstrip()


def budget_table(figures: pd.DataFrame) -> pd.DataFrame:
    """The bytes that `budgets` draws: a row an architecture.

    Nothing is reserved where the multiprocessor's own figure is not known.
    """
    once = figures.drop_duplicates(["quantity", "sm"])
    wide = once.pivot(index="sm", columns="quantity", values="value")
    block = wide["shared memory per block"]
    whole = wide.get("shared memory per multiprocessor", block)
    return pd.DataFrame({"architecture": list(names().values()),
                         "one block (B)": block.astype(int).values,
                         "reserved (B)": (whole - block).astype(int).values})


def budgets(figures: pd.DataFrame, default: int) -> go.Figure:
    """Bars of the shared memory that one block may use, of what its multiprocessor has.

    `default` is the number of bytes a block gets without opting in.
    """
    sizes = budget_table(figures)
    block, reserved = sizes["one block (B)"] / KIB, sizes["reserved (B)"] / KIB
    labels = [f"<b>SM{arch.sm}</b><br>{arch.part}" for arch in ARCHITECTURES]
    bars = {"y": labels, "orientation": "h", "showlegend": False}
    figure = go.Figure([
        go.Bar(bars, name="one block may use", x=block, textposition="inside",
               marker_color=["#0072B2" if size > 128 else "#D55E00" for size in block],
               text=[f"<b>{size:.0f} KiB</b> for one block" for size in block],
               insidetextanchor="end", textfont_color="white",
               hovertemplate="%{x:.0f} KiB for one block<extra></extra>"),
        go.Bar(bars, name="reserved by CUDA", x=reserved, marker_color="#BBBBBB",
               hovertemplate="%{x:.0f} KiB, reserved by CUDA<extra></extra>"),
    ])
    figure.add_vline(x=default / KIB, line_dash="dash", annotation_position="top",
                     annotation_text=f"{default // KIB} KiB without opting in")
    axis = dict(title="shared memory of one multiprocessor (KiB)", range=[0, 240], dtick=32)
    return figure.update_layout(barmode="stack", xaxis=axis,
                                yaxis=dict(title=None, autorange="reversed"))
