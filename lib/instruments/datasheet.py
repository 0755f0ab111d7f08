"""The differences between the architectures as one table and one chart, every figure with its source."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from lib.instruments import architectures, ptxas
from lib.instruments.architectures import ARCHITECTURES

KIB = 1024
H100 = "https://glennklockwood.com/garden/processors/h100"
B200 = "https://chipsandcheese.com/p/nvidias-b200-keeping-the-cuda-juggernaut"
B300 = "https://developer.nvidia.com/blog/inside-nvidia-blackwell-ultra-the-chip-powering-the-ai-factory-era"
RTX = "https://pocketmags.com/linux-format-magazine/may-2025/articles/nvidia-geforce-rtx-5090"
GB10 = "https://github.com/huggingface/kernels/pull/283"
SPARK = "https://huggingface.co/blog/exolabs/the-dgx-spark-handbook"

# Facts of a product that no header and no compiler knows; B300's 160 is the whole chip: (quantity, unit, {sm: (value, link)}).
CITED = (
    ("multiprocessors", "", {90: (132, H100), 100: (148, B200), 103: (160, B300), 120: (170, RTX), 121: (48, GB10)}),
    ("memory bandwidth", "GB/s", {90: (3350, H100), 120: (1792, RTX), 121: (273, SPARK)}),
    ("memory", "GB", {90: (80, H100), 120: (32, RTX), 121: (128, SPARK)}),
)
_UNITS = {"shared memory per block": "B"}


def gather(tc, cutlass_include: Path, cccl_include: Path, gpus: Iterable = ()) -> pd.DataFrame:
    """Figures as rows of quantity, sm, value, unit, source and where.

    `source` is ``header``, ``ptxas``, ``device`` or ``cited``; `where` is the file and line, the
    target asked, the GPU's name or the link. A quantity may have a row from each source.
    """
    rows = []
    capacities = architectures.read_capacities(cutlass_include)
    tags = architectures.arch_tags(cutlass_include)
    per_sm = architectures.per_multiprocessor(cccl_include)
    tensor = architectures.tensor_memory(cutlass_include)
    for arch in ARCHITECTURES:
        sm = arch.sm
        asked = ptxas.limits(tc, arch.target)
        rows += [(name, sm, value, _UNITS.get(name, ""), "ptxas", arch.target) for name, value in asked.items()]
        if sm in capacities:
            rows.append(("shared memory per block", sm, capacities[sm][0], "B", "header", "{1}:{2}".format(*capacities[sm])))
        if sm in per_sm:
            rows.append(("shared memory per multiprocessor", sm, per_sm[sm][0], "B", "header", "{1}:{2}".format(*per_sm[sm])))
        has_tensor_memory, _ = ptxas.assemble(tc, arch.target, *ptxas.FAMILIES["tcgen05.mma (tensor memory)"])
        rows.append(("tensor memory per multiprocessor", sm, tensor[0] if has_tensor_memory else 0, "B",
                     "header" if has_tensor_memory else "ptxas",
                     "{1}:{2}".format(*tensor) if has_tensor_memory else f"tcgen05 refused for {arch.target}"))
        rows.append(("CUTLASS tag", sm, sm if sm in tags else None, "", "header",
                     "{}:{}".format(*tags[sm]) if sm in tags else "no struct Sm%d" % sm))
    for quantity, unit, by_sm in CITED:
        rows += [(quantity, sm, value, unit, "cited", link) for sm, (value, link) in by_sm.items()]
    for gpu in gpus:
        of_device = {"shared memory per block": (gpu.shared_per_block, "B"),
                     "shared memory per multiprocessor": (gpu.shared_per_multiprocessor, "B"),
                     "threads per multiprocessor": (gpu.threads_per_multiprocessor, ""),
                     "blocks per multiprocessor": (gpu.blocks_per_multiprocessor, ""),
                     "multiprocessors": (gpu.multiprocessors, ""), "L2 cache": (round(gpu.l2_bytes / 2**20), "MB")}
        rows += [(name, gpu.sm, value, unit, "device", gpu.name) for name, (value, unit) in of_device.items()]
    return pd.DataFrame(rows, columns=["quantity", "sm", "value", "unit", "source", "where"])


def disagreements(figures: pd.DataFrame) -> pd.DataFrame:
    """Rows whose sources give one quantity of one architecture different values."""
    spread = figures.groupby(["quantity", "sm"])["value"].transform("nunique")
    return figures[spread > 1]


def overview(figures: pd.DataFrame) -> pd.DataFrame:
    """One row a quantity, one column an architecture, each cell with its value, unit and sources."""
    def cell(group: pd.DataFrame) -> str:
        said = group.groupby(["value", "unit"], sort=False, dropna=False)["source"].agg(", ".join)
        return "; ".join(f"{_figure(value, unit)} [{source}]" for (value, unit), source in said.items())

    cells = figures.groupby(["quantity", "sm"], sort=False).apply(cell, include_groups=False)
    columns = [arch.sm for arch in ARCHITECTURES]
    wide = cells.unstack("sm").reindex(index=figures["quantity"].unique(), columns=columns).fillna("not stated")
    return wide.rename(columns={arch.sm: f"SM{arch.sm} ({arch.part})" for arch in ARCHITECTURES})


def _figure(value, unit: str) -> str:
    if pd.isna(value):
        return "none"
    if unit == "B" and value and value % KIB == 0:
        return f"{int(value):,} B ({int(value) // KIB} KiB)"
    return f"{int(value):,} {unit}".rstrip()


def budget_table(figures: pd.DataFrame) -> pd.DataFrame:
    """The bytes that `budgets` draws: a row an architecture; nothing is reserved where the multiprocessor's own figure is not known."""
    wide = figures.drop_duplicates(["quantity", "sm"]).pivot(index="sm", columns="quantity", values="value")
    block = wide["shared memory per block"]
    whole = wide.get("shared memory per multiprocessor", block)
    names = [f"SM{arch.sm} ({arch.part})" for arch in ARCHITECTURES]
    return pd.DataFrame({"architecture": names, "one block (B)": block.astype(int).values, "reserved (B)": (whole - block).astype(int).values})


def budgets(figures: pd.DataFrame, default: int) -> go.Figure:
    """Bars of the shared memory that one block may use, of what its multiprocessor has.

    `default` is the number of bytes a block gets without opting in.
    """
    names = [f"<b>SM{arch.sm}</b><br>{arch.part}" for arch in ARCHITECTURES]
    sizes = budget_table(figures)
    block, reserved = sizes["one block (B)"] / KIB, sizes["reserved (B)"] / KIB
    colours = ["#0072B2" if size > 128 else "#D55E00" for size in block]
    figure = go.Figure([
        go.Bar(name="one block may use", x=block, y=names, orientation="h", marker_color=colours, showlegend=False,
               text=[f"<b>{size:.0f} KiB</b> for one block" for size in block], textposition="inside", insidetextanchor="end",
               textfont_color="white", hovertemplate="%{x:.0f} KiB for one block<extra></extra>"),
        go.Bar(name="reserved by CUDA", x=reserved, y=names, orientation="h",
               marker_color="#BBBBBB", showlegend=False,
               hovertemplate="%{x:.0f} KiB of the multiprocessor's, reserved by CUDA<extra></extra>"),
    ])
    figure.add_vline(x=default / KIB, line_dash="dash", line_color="#444444", annotation_position="top",
                     annotation_text=f"{default // KIB} KiB without opting in")
    figure.update_layout(barmode="stack", xaxis=dict(title="shared memory of one multiprocessor (KiB)", range=[0, 240], dtick=32),
                         yaxis=dict(title=None, autorange="reversed"))
    return figure
