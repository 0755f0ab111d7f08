"""What is kept of the atlas: of the grid, whole, byte for byte; and what measuring it anew would find."""

import re

import pandas as pd
import pytest

from lib.atlas import grid, measured, whole
from lib.bug1_shared_memory import gemm
from lib.errors import CollectionError

pytestmark = pytest.mark.xdist_group("01")


@pytest.fixture(scope="module")
def table():
    return measured.kept()


def test_the_kept_kernels_are_of_the_grid_each_once(table):
    assert not table.duplicated(measured.KEY).any()
    known = {(of, target, kernel.cpp()) for name, each in grid.GRIDS.items() for of in each["of"]
             for target, kernels in grid.targets(name).items() for kernel in kernels}
    found = {(row["of"], row["target"], measured.kernel(row).cpp()) for _, row in table.iterrows()}
    assert found <= known and len(found) == len(table)


def test_each_sub_grid_has_a_question_and_no_kernel_twice():
    for name, each in grid.GRIDS.items():
        kernels = grid.kernels(name)
        assert each["asks"] and each["of"] and len({kernel.cpp() for kernel in kernels}) == len(kernels)


def test_a_kernel_has_numbers_or_words_and_its_status_follows(table):
    refused = table["status"] == gemm.REFUSED
    assert (table["message"] != "").equals(refused)
    assert table[["stages", "kernel", "headroom"]].isna().all(axis=1).equals(refused)
    assert (table["headroom"] < 0)[~refused].tolist() == (table["status"] == gemm.LARGE)[~refused].tolist()
    assert not [said for said in table["message"].unique() if re.search(r"/\w+/\w+/|\.cuh?\(", said)], "no path of a machine"


def test_keeping_it_again_leaves_the_same_bytes(table, monkeypatch, tmp_path):
    kept = measured.KEPT.read_bytes()
    monkeypatch.setattr(measured, "KEPT", tmp_path / "atlas.csv.gz")
    measured.write(table[measured.BASIS + measured.FIELDS + measured.SAID + ["parts"]])
    assert measured.KEPT.read_bytes() == kept and len(kept) < 500_000
    assert measured.kept().equals(table)


def test_measuring_anew_sees_another_byte_and_a_kernel_that_compiles_now(table, monkeypatch):
    fits, refused = (table[table["status"] == status].head(2) for status in (gemm.FITS, gemm.REFUSED))
    rows = pd.concat([fits, refused])
    monkeypatch.setattr(gemm, "measure", lambda kernels, _: pd.DataFrame(
        [rows[[measured.kernel(row) == kernel for _, row in rows.iterrows()]].iloc[0] for kernel in kernels]).reset_index(drop=True))
    monkeypatch.setattr(grid, "front_end", lambda *_: None)
    assert measured.again(rows)["same"].all()
    other = rows.copy()
    other.loc[fits.index[1], "kernel"] += 16
    other.loc[refused.index[0], "message"] = ""
    assert measured.again(other)["same"].tolist() == [True, False, False, True]
    with pytest.raises(CollectionError, match="no kernel of the atlas"):
        measured.again(rows.head(0))


def test_the_draw_is_the_seeds_and_takes_no_more_than_there_is(table):
    one, two = (measured.drawn(table, 5, seed) for seed in (1, 2))
    assert one.equals(measured.drawn(table, 5, 1)) and not one.equals(two)
    assert one["of"].value_counts().max() <= 5 and len(measured.drawn(table.head(3), 5, 1)) == 3


def test_pairs_are_the_same_kernel_and_a_difference_is_seen(table):
    half = table[table["target"] == "sm_121a"].drop_duplicates([name for name in measured.KEY if name != "of"])
    both = pd.concat([half.assign(of="one"), half.assign(of="two")])
    pair = measured.paired(both, "of", "one", "two")
    assert len(pair) == len(half) and pair["same"].all()
    changed = both.reset_index(drop=True)
    at = changed[(changed["of"] == "two") & changed["kernel"].notna()].index[0]
    changed.loc[at, "kernel"] += 1024
    assert (~measured.paired(changed, "of", "one", "two")["same"]).sum() == 1


def test_the_sample_that_was_compiled_whole_is_of_the_atlas(table):
    known = {(row["of"], row["target"], measured.kernel(row).cpp()) for _, row in table.iterrows()}
    for _, row in whole.kept().iterrows():
        assert (row["of"], row["target"], measured.kernel(row).cpp()) in known


def test_another_draw_adds_kernels_that_were_not_drawn_before(monkeypatch, tmp_path):
    before = whole.kept()
    monkeypatch.setattr(whole, "compiled", lambda *_: "")
    monkeypatch.setattr(measured, "WHOLE", tmp_path / "whole.csv")
    before.drop(columns="compiles").to_csv(measured.WHOLE, index=False)
    whole.sample()
    after = whole.kept()
    assert len(after) == len(before) + whole.COUNT and not after[measured.KEY].duplicated().any()
    assert after.head(len(before)).equals(before)
