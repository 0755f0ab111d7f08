"""The explorer of the atlas: the reader picks a kernel, and sees its bytes and what fits beside it.

explorer.js, in site and JupyterLab, only looks up what `measured.kept` has.
"""

from dataclasses import MISSING, fields
from pathlib import Path

import pandas as pd

from lib.atlas import grid, measured
from lib.bug1_shared_memory import gemm
from lib.evidence import explorers

SCRIPT = Path(__file__).with_name("explorer.js")
# What the reader picks by and what it is called, what is chosen where nothing is, and words.
PICKS, USUAL, ENDINGS, HOW = grid.TOLD["explorer"].values()
NUMBERS = ["stages", "mainloop", "epilogue", "kernel", "budget"]
# Numbers of no tile, which stand for those that the reader picks.
PLACES = {100003: "{m}", 200006: "{2m}", 100019: "{n}", 100043: "{k}", 100049: "{s}"}
DEFAULTS = {each.name: each.default for each in fields(gemm.Gemm) if each.default is not MISSING}
COMMAND = ".venv/bin/python -c 'from lib.atlas import grid; from lib.bug1_shared_memory import " \
          "gemm; print(gemm.measure([gemm.Gemm({words})], grid.front_end(\"{of}\", " \
          "\"{target}\")).iloc[0])'"


def picks(table):
    """What a reader picks by of each kernel of `measured.kept` (DataFrame, `PICKS`)."""
    both = table["b"].where(table["b"] != "", table["a"])
    operands = table["a"].where(both == table["a"], table["a"] + " x " + both)
    source = table["c"].where((table["fusion"] == "quantize") & (table["c"] != "void"), "")
    ending = table["fusion"].map(ENDINGS) + source.map(lambda c: c and f", {c} source")
    found = pd.DataFrame({
        "target": table["target"], "operands": operands.str.upper(),
        "runner": table["grouped"].map({True: "grouped", False: "dense"}),
        "how": table["schedule"].map(HOW), "output": table["d"],
        "ending": ending + table["swap_ab"].map({True: ", swapped", False: ""}),
        "asked": table["fixed_stages"].map(lambda count: str(count or "CUTLASS chooses")),
        "from": table["cutlass"]})
    tiles = pd.DataFrame(table["tile"].tolist(), columns=list("mnk"), index=table.index)
    return pd.concat([found, tiles], axis=1)


def spelled(row):
    """C++ type and command of a row of `measured.kept`, with places for tile and stages (list)."""
    m, double, n, k, s = PLACES
    words = {field: row[field] for field in measured.FIELDS if field in DEFAULTS}
    words |= {"tile": (m, n, k), "stages": s if row["fixed_stages"] else 0}
    said = [repr(words["tile"])] + [f"{name}={value}" if not isinstance(value, str)
                                    else f'{name}="{value}"' for name, value in words.items()
                                    if name != "tile" and value != DEFAULTS[name]]
    command = COMMAND.format(words=", ".join(said), of=row["of"], target=row["target"])
    texts = [f"unit::Gemm<{gemm.Gemm(**words).cpp()}>", command]
    for number, place in PLACES.items():
        texts = [text.replace(str(number), place) for text in texts]
    return texts


class Explorer(explorers.Explorer):
    """The explorer of what was measured (DataFrame of `measured.kept`); it shows itself."""

    def __init__(self, table):
        chosen = picks(table).sort_values(list(PICKS), kind="stable")
        table = table.loc[chosen.index]
        spellings = [spelled(row) for _, row in table.iterrows()]
        texts = list(dict.fromkeys(text for pair in spellings for text in pair))
        messages = list(dict.fromkeys(table["message"]))
        words = {name: list(dict.fromkeys(chosen[name])) for name in list(PICKS)[:-3]}
        indexed = [[words[name].index(value) if name in words else value
                    for name, value in zip(PICKS, row)] for row in chosen.to_numpy().tolist()]
        numbers = table[NUMBERS].fillna(0).to_numpy().tolist()
        rows = [[*one, *two, messages.index(said), *map(texts.index, pair)] for one, two, said, pair
                in zip(indexed, numbers, table["message"], spellings)]
        data = {"picks": [*PICKS.items()], "usual": USUAL, "words": words, "texts": texts,
                "messages": messages, "rows": rows}
        super().__init__("tile", SCRIPT, data, largest(table, chosen),
                         "the largest tile that fits, for every kind of kernel")


def largest(table, chosen):
    """The tile of most elements that fits, for each kind of kernel (DataFrame)."""
    kinds = list(PICKS)[:-3]
    tiles = chosen.assign(size=chosen["m"] * chosen["n"] * chosen["k"], kernel=table["kernel"])
    tiles["largest tile that fits"] = ["x".join(map(str, tile)) for tile in table["tile"]]
    best = tiles[table["status"] == gemm.FITS].sort_values("size", kind="stable")
    best = best.drop_duplicates(kinds, keep="last").sort_values(kinds)
    best = best[[*kinds, "largest tile that fits", "kernel"]]
    return best.rename(columns=PICKS | {"kernel": "needs (B)"}).reset_index(drop=True)
