"""Notebook 00: what it found."""


def test_a_block_of_every_architecture_has_the_memory_that_ptxas_grants(findings):
    figures = findings["machine.shared-memory-budgets"]["values"]["figures"]
    block = {(row["sm"], row["value"]) for row in figures if row["quantity"] == "shared memory per block"}
    assert block == {(90, 232448), (100, 232448), (103, 232448), (120, 101376), (121, 101376)}


def test_each_architecture_has_the_block_scaled_instructions_of_its_own(findings):
    sets = findings["machine.instruction-sets"]["values"]
    assert "mma.sync NVFP4 (block_scale)" in sets["only sm_121a"] and "tcgen05.mma NVFP4" in sets["only sm_100a"]
