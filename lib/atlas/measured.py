"""What CUTLASS said of the grid: kept in atlas.csv.gz, measured anew by ``make atlas``."""

import gzip
from ast import literal_eval
from dataclasses import fields
from pathlib import Path

import pandas as pd

from lib.atlas import grid
from lib.bug1_shared_memory import gemm
from lib.errors import CollectionError
from lib.instruments import toolchain

KEPT = Path(__file__).with_name("atlas.csv.gz")
WHOLE = Path(__file__).with_name("whole.csv")  # a sample, compiled whole: see `lib.atlas.whole`
# Of a kernel: where it stands, its fields but the names, and what CUTLASS said.
BASIS = ["grid", "of", "cutlass", "nvcc", "target"]
NAMES = {"name", "product", "version", "subtile"}
FIELDS = [{"stages": "fixed_stages"}.get(each.name, each.name)
          for each in fields(gemm.Gemm) if each.name not in NAMES]
SAID = [*gemm.FIELDS, "message"]
KEY = ["of", "target", *FIELDS]


def measure():
    """Measure the grid with each CUTLASS that it asks (DataFrame, as `kept`).

    A kernel that is in two sub-grids stands in the first. Kernels that were measured before come
    from the cache, so that an interrupted run goes on where it was.
    """
    wheels = dict.fromkeys(of for each in grid.GRIDS.values() for of in each["of"])
    return pd.concat([of_wheel(of) for of in wheels], ignore_index=True)


def of_wheel(of):
    """`measure` for one CUTLASS: what shares a target is asked together, so that it shares more."""
    asked, found = {}, []
    for name in (name for name, each in grid.GRIDS.items() if of in each["of"]):
        for target, kernels in grid.targets(name).items():
            asked.setdefault(target, []).extend((name, each) for each in kernels)
    for target, pairs in asked.items():
        first, kernels = zip(*pairs)
        table = gemm.measure(kernels, grid.front_end(of, target))
        nvcc = toolchain.find().version
        found.append(table.assign(grid=first, of=of, target=target, nvcc=nvcc))
    return pd.concat(found)[BASIS + FIELDS + SAID + ["parts"]].drop_duplicates(KEY)


def write(table):
    """Keep what was measured (DataFrame), byte for byte the same for the same table."""
    parts = table["parts"].map(lambda each: " ".join(f"{at} {size}" for at, size in each.values()))
    text = table.assign(parts=parts).astype(dict.fromkeys(gemm.FIELDS, "Int64")).to_csv(index=False)
    KEPT.write_bytes(gzip.compress(text.encode(), mtime=0))


def kept():
    """What was measured (DataFrame): a row a kernel, `BASIS`, `FIELDS`, `SAID`, parts (as
    `gemm.measure` has them), headroom, status.

    Numbers are bytes, missing where the kernel does not compile.
    """
    table = pd.read_csv(KEPT, dtype=dict.fromkeys(gemm.FIELDS, "Int64"), keep_default_na=False,
                        na_values=dict.fromkeys(gemm.FIELDS, ""),
                        converters={"tile": literal_eval, "parts": places})
    left = table["budget"] - table["kernel"]
    status = pd.Series(gemm.FITS, table.index).mask((left < 0).fillna(False), gemm.LARGE)
    return table.assign(headroom=left, status=status.mask(left.isna(), gemm.REFUSED))


def places(text):
    """Parts of a kernel's shared memory as they are kept (str): part to (offset, bytes) (dict)."""
    numbers = [int(number) for number in text.split()]
    return dict(zip(gemm.PARTS, zip(numbers[::2], numbers[1::2])))


def known(asked, of, target):
    """What is kept of a kernel (`Gemm`) for a CUTLASS, a target and the compiler that is here.

    It is a DataFrame as `gemm.measure` gives it, empty if the kernel is not in the grid.
    """
    table = kept()
    here = (table["of"] == of) & (table["target"] == target)
    here &= (table["nvcc"] == toolchain.find().version) & table["tile"].map(asked.tile.__eq__)
    same = [kernel(row).cpp() == asked.cpp() for _, row in table[here].iterrows()]
    return table[here].loc[same].assign(name=asked.name, used_by=asked.row["used_by"])


def kernel(row):
    """The kernel (`gemm.Gemm`) of a row of `kept`."""
    words = {field: row[field] for field in FIELDS if field != "fixed_stages"}
    return gemm.Gemm(**words, stages=int(row["fixed_stages"]))


def drawn(table, count, seed):
    """`count` rows of each CUTLASS in a table, drawn at random (DataFrame)."""
    groups = [group.sample(min(count, len(group)), random_state=seed)
              for _, group in table.groupby("of")]
    return pd.concat([table.head(0), *groups])


def again(rows):
    """Measure rows of `kept` anew: `SAID` as it is kept and as it is now (DataFrame), and `same`.

    The same are the numbers, and whether the kernel compiles; of several assertions, the kernels
    beside it decide which one nvcc reports. An error if nvcc cannot be had.
    """
    found = []
    for (of, target), group in rows.groupby(["of", "target"]):
        now = gemm.measure([kernel(row) for _, row in group.iterrows()],
                           grid.front_end(of, target)).set_index(group.index)
        found.append(now[SAID].astype(dict.fromkeys(gemm.FIELDS, "Int64")))
    if not found:
        raise CollectionError("no kernel of the atlas is for this target",
                              "use one of those that lib/atlas/atlas.csv.gz has, as sm_121a")
    now = pd.concat(found).reindex(rows.index)
    numbers = now[gemm.FIELDS].fillna(-1) == rows[gemm.FIELDS].fillna(-1)
    same = numbers.all(axis=1) & ((now["message"] == "") == (rows["message"] == ""))
    return rows[KEY].join(rows[SAID]).join(now, suffixes=("", " now")).assign(same=same)


def paired(table, by, one, other):
    """Kernels that were asked in two ways of a column `by`, as ``of``: a row a kernel (DataFrame),
    what CUTLASS said named after the way, and whether it is the `same`."""
    keys = [name for name in KEY if name != by]
    sides = [table[table[by] == way][[*keys, *SAID, "headroom", "status"]] for way in (one, other)]
    pair = sides[0].merge(sides[1], on=keys, suffixes=(f" {one}", f" {other}"))
    first, second = (pair[[f"{name} {way}" for name in ("stages", "kernel", "status")]].fillna(-1)
                     for way in (one, other))
    return pair.assign(same=(first.to_numpy() == second.to_numpy()).all(axis=1))


def refresh(_=None):
    """Measure the grid of the atlas, and keep what CUTLASS says in lib/atlas/atlas.csv.gz."""
    write(measure())
