"""Which path of TensorRT-LLM has a second pool: in its own source, where that is at hand, and as it was read."""

import pytest

from lib.bug2_kv_cache import paths
from lib.subjects import patches
from tests.conftest import TREES

OLD, PYTHON_ONLY = TREES / "a-1.2.0rc2", TREES / "b-march-2026"
source = pytest.mark.skipif(not OLD.is_dir(), reason=f"TensorRT-LLM's source is not at hand: {OLD}; set TRTLLM_TREES")


@source
def test_in_the_source_four_copies_stand_unguarded_and_the_published_patch_guards_three():
    before = paths.copies((OLD / paths.MANAGER).read_text())
    assert list(before["copy"]) == ["offload", "onboard", "offload", "onboard"] and not before["skipped"].any()
    for kind, skipped in (("published", 3), ("revised", 0)):
        with patches.patched(OLD, paths.PATCHES[kind], files=(paths.MANAGER,)) as copy:
            after = paths.copies((copy / paths.MANAGER).read_text())
        assert len(after) == 4 and after["skipped"].sum() == skipped


@source
def test_the_source_says_of_every_path_what_was_read_of_it():
    surveyed = paths.survey(OLD)
    facts = ["patch", "path", "skips", "second pool"]
    found = {tuple(row) for row in surveyed[facts].to_numpy()}
    read = {tuple(row) for row in paths.PATHS[facts].to_numpy() if row[0] != "none"}
    assert read <= found and ("none", "C++ engine", False, True) in found and ("none", "PyTorch", False, True) in found


@source
@pytest.mark.parametrize("kind", paths.PATCHES)
def test_patches_apply_to_the_source_and_come_off(kind):
    patch = patches.Patch(paths.PATCHES[kind])
    with patches.patched(OLD, files=patch.files) as tree:
        before = {name: (tree / name).read_text() for name in patch.files}
        assert patch.state(tree) == patches.READY
        patch.apply(tree)
        assert patch.state(tree) == patches.APPLIED
        assert not patch.git(tree, "--reverse")
        assert before == {name: (tree / name).read_text() for name in patch.files}


@pytest.mark.skipif(not PYTHON_ONLY.is_dir(), reason=f"not at hand: {PYTHON_ONLY}")
def test_without_its_source_nothing_is_surveyed():
    assert paths.survey(PYTHON_ONLY).empty and paths.survey(None).empty


def test_a_copy_counts_as_skipped_only_inside_a_block_that_tests_for_one_memory():
    call = "mTransferManager->offload(a, b);"
    inside = f"if (!tc::isUnifiedMemorySystem())\n{{\n    {{ other(); }}\n    {call}\n}}\n"
    beside = f"if (!tc::isUnifiedMemorySystem())\n{{\n    other();\n}}\n{call}\n"
    other = f"if (full)\n{{\n    {call}\n}}\n"
    assert [paths.copies(code)["skipped"].tolist() for code in (inside, beside, other)] == [[True], [False], [False]]
