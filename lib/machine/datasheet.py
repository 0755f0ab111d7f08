"""The architectures side by side: every figure with its source, as one table and one chart."""

import tomllib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from lib.errors import CollectionError
from lib.instruments import architectures, ptxas
from lib.instruments.architectures import ARCHITECTURES

KIB = 1024
READ = tomllib.loads(Path(__file__).with_name("datasheet.toml").read_text())
COLUMNS = ["quantity", "sm", "value", "unit", "source", "where"]
BLOCK, WHOLE = "shared memory per block", "shared memory per multiprocessor"


def gather(tc, cutlass: Path, cccl: Path, gpus: Iterable = ()) -> pd.DataFrame:
    """Figures as rows of quantity, sm, value, unit, source and where.

    `source` is ``header``, ``ptxas``, ``device`` or ``cited``; `where` is the file and line, the
    target asked, the GPU's name or the link. A quantity may have a row from each source. `tc` is a
    `toolchain.Toolchain`, `cutlass` and `cccl` are include folders, and `gpus` (`devices.Gpu`)
    those whose own answers are rows too.
    """
    tagged = architectures.scan(cutlass, "cutlass/arch", r"^struct Sm(\d+)\b(?!.*;)")
    tags, rows = {int(sm): where for sm, where in tagged}, []
    stated = {BLOCK: architectures.read_capacities(cutlass),
              WHOLE: architectures.per_multiprocessor(cccl)}
    for arch in ARCHITECTURES:
        sm, target = arch.sm, arch.target
        rows += [(quantity, sm, value, unit_of(quantity), "ptxas", target)
                 for quantity, value in ptxas.limits(tc, target).items()]
        rows += [(quantity, sm, known[sm][0], "B", "header", known[sm][1])
                 for quantity, known in stated.items() if sm in known]
        rows.append(("tensor memory per multiprocessor", sm, *tensor_memory(tc, target, cutlass)))
        rows.append(("CUTLASS tag", sm, sm if sm in tags else None, "", "header",
                     tags.get(sm, f"no struct Sm{sm}")))
    rows += [(each["quantity"], each["sm"], each["value"], each["unit"], "cited", each["where"])
             for each in READ["cited"]]
    for gpu in gpus:
        rows += [(quantity, gpu.sm, getattr(gpu, field), unit_of(quantity), "device", gpu.name)
                 for quantity, field in READ["device"].items()]
        rows.append(("L2 cache", gpu.sm, round(gpu.l2_bytes / 2**20), "MB", "device", gpu.name))
    return pd.DataFrame(rows, columns=COLUMNS)


def unit_of(quantity):
    """Bytes, or a plain number."""
    return "B" if "memory" in quantity else ""


def tensor_memory(tc, target, cutlass):
    """That of a multiprocessor, as value, unit, source and where: what CUTLASS states for SM100, or
    none where ptxas refuses the instructions for a target."""
    if not ptxas.assemble(tc, target, *ptxas.FAMILIES["tcgen05.mma (tensor memory)"])[0]:
        return 0, "B", "ptxas", f"tcgen05 refused for {target}"
    stated = r"MAX_CAPACITY_BITS\s*=\s*Int<(\d+)\*(\d+)\*(\d+)>"
    for lanes, columns, bits, where in architectures.scan(cutlass, "cute/arch", stated):
        return int(lanes) * int(columns) * int(bits) // 8, "B", "header", where
    raise CollectionError(f"no MAX_CAPACITY_BITS under {cutlass}",
                          "name the include folder of CUTLASS 4.0 or later")


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
    return wide.fillna("not stated").rename(columns={arch.sm: arch.title for arch in ARCHITECTURES})


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
    block, whole = wide[BLOCK], wide.get(WHOLE, wide[BLOCK])
    return pd.DataFrame({"architecture": [arch.title for arch in ARCHITECTURES],
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
