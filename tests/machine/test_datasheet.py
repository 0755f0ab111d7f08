import pandas as pd

from lib.instruments import toolchain
from lib.machine import datasheet
from lib.subjects import wheels


def test_headers_agree_with_ptxas():
    tc, tree = toolchain.find(), wheels.source("flashinfer-python", "0.6.6")
    table = datasheet.gather(tc, tree / "flashinfer/data/cutlass/include", tc.include[-1])
    assert datasheet.disagreements(table).empty
    block = table[table["quantity"] == "shared memory per block"]
    assert set(block.loc[block["sm"].isin([90, 100, 120]), "source"]) == {"ptxas", "header"}
    assert block.groupby("sm")["value"].first().to_dict() == {90: 232448, 100: 232448, 103: 232448, 120: 101376, 121: 101376}


def test_a_disagreement_would_be_seen():
    rows = [("shared memory per block", 120, 101376, "B", "header", "x"), ("shared memory per block", 120, 102400, "B", "ptxas", "y")]
    assert len(datasheet.disagreements(pd.DataFrame(rows, columns=["quantity", "sm", "value", "unit", "source", "where"]))) == 2
