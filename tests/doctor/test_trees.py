"""The doctor on excerpts of TensorRT-LLM's own files, as a checkout and as an installed package."""

import shutil

import pytest

from lib.doctor import AFFECTED, CANNOT_TELL, FIXED, NOT_AFFECTED, examine, places
from lib.subjects import patches
from tests.conftest import tree_of

A, B, C, D = "a-1.2.0rc2", "b-march-2026", "c-moe-resolution", "d-moved-folder"
RELEASES = {A: "1.2.0rc2", B: "1.3.0rc7", C: "1.3.0rc19", D: "1.3.0rc25"}  # B to D: our guesses
LAYOUTS = pytest.mark.parametrize("name", RELEASES)


def judged(root, sm, named=None):
    """Bug to answer, as the command would find and judge it where a folder is named."""
    found = [place for place in places.search([named or root])[0] if place.root == root]
    return {answer.bug: answer for answer in examine.examine(found, sm)}


def verdicts(root, sm, named=None):
    return {bug: answer.verdict for bug, answer in judged(root, sm, named).items()}


def checks(root, sm, bug):
    return {check.what: check.verdict for check in judged(root, sm)[bug].checks}


def installed(folder, name, release):
    """A site-packages with a tree's package and the metadata of a release (Path)."""
    packages = folder / "lib/python3.12/site-packages"
    shutil.copytree(tree_of(name) / "tensorrt_llm", packages / "tensorrt_llm")
    info = packages / f"tensorrt_llm-{release}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tensorrt_llm\nVersion: {release}\n")
    return packages


CHECKOUTS = {A: {1: AFFECTED, 2: AFFECTED, 3: NOT_AFFECTED, 4: AFFECTED, 5: FIXED},
             B: {1: CANNOT_TELL, 2: CANNOT_TELL, 3: AFFECTED, 4: CANNOT_TELL, 5: CANNOT_TELL},
             C: {1: FIXED, 2: CANNOT_TELL, 3: FIXED, 4: AFFECTED, 5: CANNOT_TELL},
             D: {1: CANNOT_TELL, 2: CANNOT_TELL, 3: FIXED, 4: CANNOT_TELL, 5: CANNOT_TELL}}
PACKAGES = {A: {1: AFFECTED, 2: AFFECTED, 3: NOT_AFFECTED, 4: AFFECTED, 5: CANNOT_TELL},
            B: {1: AFFECTED, 2: CANNOT_TELL, 3: AFFECTED, 4: AFFECTED, 5: CANNOT_TELL},
            C: {1: FIXED, 2: CANNOT_TELL, 3: FIXED, 4: AFFECTED, 5: CANNOT_TELL},
            D: {1: FIXED, 2: CANNOT_TELL, 3: FIXED, 4: FIXED, 5: CANNOT_TELL}}


@LAYOUTS
@pytest.mark.parametrize("sm", (120, 121))
def test_a_checkout(name, sm):
    discrete = {2: NOT_AFFECTED} if sm == 120 else {}
    assert verdicts(tree_of(name), sm) == CHECKOUTS[name] | discrete
    assert {verdicts(tree_of(name), 100)[bug] for bug in (1, 2, 3, 5)} == {NOT_AFFECTED}


@LAYOUTS
@pytest.mark.parametrize("sm", (120, 121))
def test_an_installed_package(tmp_path, name, sm):
    root = installed(tmp_path, name, RELEASES[name])
    discrete = {2: NOT_AFFECTED} if sm == 120 else {}
    for named in (root, root / "tensorrt_llm", tmp_path):
        assert verdicts(root, sm, named) == PACKAGES[name] | discrete
        assert {answer.version for answer in judged(root, sm, named).values()} == {RELEASES[name]}


@pytest.mark.parametrize("sm", (120, 121))
def test_each_back_end_of_each_layout(sm):
    trtllm, cutlass, b12x = "TRTLLM back end", "CUTLASS back end", "b12x back end"
    assert checks(tree_of(A), sm, 3) == {trtllm: NOT_AFFECTED, cutlass: NOT_AFFECTED}
    assert checks(tree_of(B), sm, 3) == {trtllm: NOT_AFFECTED, cutlass: AFFECTED}
    for name in (C, D):
        assert checks(tree_of(name), sm, 3) == {trtllm: FIXED, cutlass: FIXED, b12x: FIXED}


def test_the_quoted_line_is_the_refusal_and_not_a_list_that_was_widened():
    check = judged(tree_of(A), 120)[3].checks[0]
    assert check.text == "if sm_version >= 120:" and "as it should be" in check.note
    assert "widened" not in check.note


@LAYOUTS
def test_what_decides_is_found_wherever_the_folder_is(tmp_path, name):
    moved = tmp_path / "checkout"
    shutil.copytree(tree_of(name), moved)
    torch = moved / "tensorrt_llm/_torch"
    shutil.move(torch, tmp_path / "torch")
    (torch / "deep").mkdir(parents=True)
    shutil.move(tmp_path / "torch", torch / "deep/er")
    for sm in (120, 121):
        assert verdicts(moved, sm) == verdicts(tree_of(name), sm)


def test_the_published_patch_makes_it_affected_and_the_revised_one_mends_it(tmp_path):
    for kind, expected in (("published", AFFECTED), ("revised", FIXED)):
        copy = tmp_path / kind
        shutil.copytree(tree_of(B), copy)
        patches.Patch(f"03-moe-gate.{kind}.tensorrt-llm.diff").apply(copy)
        assert checks(copy, 121, 3)["TRTLLM back end"] == expected
        assert verdicts(copy, 121)[3] == expected
    assert checks(tmp_path / "published", 121, 3)["AUTO"] == AFFECTED


def test_a_fallback_that_leaves_trtllm_out_is_no_fallback(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tree_of(C), copy)
    file = next(copy.rglob("moe_resolution.py"))
    text = file.read_text()
    fallback = "FALLBACK_IMPL: Type = CutlassFusedMoE"
    for content, expected in (
            ('NO_FALLBACK_BACKENDS = frozenset({"VANILLA", "TRTLLM"})\n' + text, NOT_AFFECTED),
            ('NO_FALLBACK_BACKENDS: FrozenSet[str] = frozenset({\n    "VANILLA",\n})\n' + text, FIXED),
            (text.replace(fallback, "FALLBACK_IMPL: Type = VanillaMoE"), NOT_AFFECTED),
            (text.replace(fallback, "").replace("FALLBACK_IMPL)", "CutlassFusedMoE)"), FIXED),
            ("", NOT_AFFECTED)):
        file.write_text(content)
        assert checks(copy, 121, 3)["TRTLLM back end"] == expected, content


@pytest.mark.parametrize("release, first, fourth", [
    ("1.3.0rc5", AFFECTED, AFFECTED), ("1.3.0rc8", AFFECTED, AFFECTED), ("1.3.0rc9", FIXED, AFFECTED),
    ("1.3.0rc18", FIXED, AFFECTED), ("1.3.0rc19", FIXED, CANNOT_TELL), ("1.3.0rc20", FIXED, FIXED),
    ("1.2.1", CANNOT_TELL, CANNOT_TELL), ("1.3.0", FIXED, FIXED)])
def test_the_version_decides_only_where_no_file_does(tmp_path, release, first, fourth):
    bare = verdicts(installed(tmp_path / "bare", D, release), 121)
    assert (bare[1], bare[4]) == (first, fourth)
    filed = judged(installed(tmp_path / "filed", A, release), 121)
    assert (filed[1].verdict, filed[4].verdict) == (first, AFFECTED)
    assert "12141" in filed[1].release and "12310" in filed[4].release
    assert release in filed[4].release and "https://" in filed[4].release
