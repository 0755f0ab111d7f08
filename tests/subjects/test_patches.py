"""Patches: what applies, applies wholly; what does not, leaves the tree as it was and says which hunk and why."""

import difflib
import subprocess

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some

from lib.errors import CollectionError
from lib.subjects import patches, wheels

HEADER = "What: w\nWhy: y\nBase: b\nLicence: Apache-2.0\n\n"


def patch_of(folder, before, after, name="file.txt", context=1):
    """A patch between two lists of lines, as diff -U1 makes it."""
    text = "".join(line + "\n" for line in difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", n=context, lineterm=""))
    path = folder / "the.diff"
    path.write_text(HEADER + text)
    return patches.Patch(path)


def tree_of(folder, lines, name="file.txt"):
    tree = folder / "tree"
    tree.mkdir(exist_ok=True)
    (tree / name).write_text("".join(line + "\n" for line in lines))
    return tree


lines = some.lists(some.sampled_from("abcdefgh"), min_size=1, max_size=30).map(lambda words: [f"{word} {i}" for i, word in enumerate(words)])


@settings(deadline=None)
@given(before=lines, after=lines)
def test_what_is_applied_comes_off_again(tmp_path_factory, before, after):
    assume(before != after)
    folder = tmp_path_factory.mktemp("p")
    patch, tree = patch_of(folder, before, after), tree_of(folder, before)
    original = (tree / "file.txt").read_text()
    patch.apply(tree)
    assert (tree / "file.txt").read_text() == "".join(line + "\n" for line in after)
    assert patch.state(tree) == patches.APPLIED
    assert not patch.git(tree, "--reverse")
    assert (tree / "file.txt").read_text() == original and patch.state(tree) == patches.READY


BEFORE, AFTER = ["one", "two", "three"], ["one", "two", "new", "three"]


def test_what_is_applied_already_is_said_so(tmp_path):
    patch, tree = patch_of(tmp_path, BEFORE, AFTER), tree_of(tmp_path, BEFORE)
    patch.apply(tree)
    with pytest.raises(CollectionError) as error:
        patch.apply(tree)
    assert "applied already" in error.value.next_step
    assert (tree / "file.txt").read_text().splitlines() == AFTER


def test_a_failing_hunk_is_named_and_nothing_is_written(tmp_path):
    before, after = [f"line {i}" for i in range(20)], [f"line {i}" for i in range(20)]
    after[3], after[15] = "changed 3", "changed 15"
    patch = patch_of(tmp_path, before, after)
    broken = list(before)
    broken[14] = "edited by someone"
    tree = tree_of(tmp_path, broken)
    with pytest.raises(CollectionError) as error:
        patch.apply(tree)
    assert "hunk 2" in error.value.what and "hunk 1" not in error.value.what and "'line 14'" in error.value.what
    assert (tree / "file.txt").read_text().splitlines() == broken
    assert patch.state(tree) == patches.FAILS


@pytest.mark.parametrize("there, said", [("line  14 ", "; instead line 15 has 'line  14'"), ("edited by someone", "")])
def test_what_stands_there_instead_is_said(tmp_path, there, said):
    before = [f"{name} = {name}(1)" for name in ("alpha", "bravo", "charlie", "delta", "echo")] * 3
    before[14] = "line 14"
    patch = patch_of(tmp_path, before, before[:14] + ["changed"])
    with pytest.raises(CollectionError) as error:
        patch.apply(tree_of(tmp_path, before[:14] + [there]))
    assert f"'line 14'{said}); the tree" in error.value.what and "base" in error.value.next_step


def test_of_two_files_neither_is_changed_if_one_does_not_fit(tmp_path):
    both = [patch_of(tmp_path, BEFORE, AFTER, name).text.partition("\n\n")[2] for name in ("a.txt", "b.txt")]
    (tmp_path / "the.diff").write_text(HEADER + "".join(both))
    tree_of(tmp_path, BEFORE, "a.txt")
    tree = tree_of(tmp_path, ["other"], "b.txt")
    with pytest.raises(CollectionError, match="b.txt, hunk 1"):
        patches.Patch(tmp_path / "the.diff").apply(tree)
    assert (tree / "a.txt").read_text().splitlines() == BEFORE


@pytest.mark.parametrize("name", ["link/victim.txt", "victim.link"])
def test_nothing_outside_the_tree_is_written_through_a_link(tmp_path, name):
    """A folder, or a file, that is a link out of the tree: refused in a sentence, and the file outside stays."""
    (tmp_path / "outside").mkdir()
    tree, victim = tree_of(tmp_path, BEFORE), tmp_path / "outside/victim.txt"
    (tree / "link").symlink_to(tmp_path / "outside")
    (tree / "victim.link").symlink_to(victim)
    victim.write_text("one\ntwo\nthree\n")
    before = victim.read_bytes()
    with pytest.raises(CollectionError, match="a link that leads out"):
        patch_of(tmp_path, BEFORE, AFTER, name).apply(tree)
    assert victim.read_bytes() == before


HUNK = "@@ -1,3 +1,4 @@\n one\n two\n+new\n three\n"


@pytest.mark.parametrize("files", [("a/../victim.txt", "b/../victim.txt"), ("a/x/../../victim.txt",) * 2, ("{outside}/victim.txt",) * 2,
                                   ("a/file.txt", "b/../victim.txt"), ("a/../victim.txt", "b/file.txt"), ("/dev/null", "b/../victim.txt")])
def test_a_patch_that_names_a_file_outside_is_refused_and_writes_nothing_anywhere(tmp_path, files):
    tree_of(tmp_path, BEFORE)
    (tmp_path / "victim.txt").write_text("one\ntwo\nthree\n")
    old, new = (name.format(outside=tmp_path) for name in files)
    (tmp_path / "the.diff").write_text(f"{HEADER}--- {old}\n+++ {new}\n{HUNK}")
    with pytest.raises(CollectionError, match=r"names .*victim.txt, which is outside the tree"):
        patches.Patch(tmp_path / "the.diff")
    assert (tmp_path / "victim.txt").read_text() == "one\ntwo\nthree\n"


@pytest.mark.parametrize("name", [r'"a/\056\056/victim.txt"', '"a/..\\057victim.txt"'])
def test_a_quoted_path_is_no_way_out(tmp_path, name):
    tree = tree_of(tmp_path, BEFORE)
    (tmp_path / "victim.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "the.diff").write_text(f"{HEADER}--- {name}\n+++ {name.replace('a/', 'b/', 1)}\n{HUNK}")
    with pytest.raises(CollectionError):
        patches.Patch(tmp_path / "the.diff").apply(tree)
    assert (tmp_path / "victim.txt").read_text() == "one\ntwo\nthree\n"


@settings(deadline=None)
@given(before=lines, after=lines, in_tree=some.sampled_from(["\n", "\r\n"]), in_patch=some.sampled_from(["\n", "\r\n"]))
def test_a_file_keeps_its_line_ends_whatever_those_of_the_patch(tmp_path_factory, before, after, in_tree, in_patch):
    assume(before != after)
    folder = tmp_path_factory.mktemp("p")
    tree, path = tree_of(folder, before), patch_of(folder, before, after).path
    path.write_bytes(path.read_bytes().replace(b"\n", in_patch.encode()))
    file, patch = tree / "file.txt", patches.Patch(path)
    bytes_of = lambda lines: "".join(line + in_tree for line in lines).encode()
    file.write_bytes(bytes_of(before))
    patch.apply(tree)
    assert file.read_bytes() == bytes_of(after) and patch.state(tree) == patches.APPLIED
    assert not patch.git(tree, "--reverse")
    assert file.read_bytes() == bytes_of(before)


def test_a_tree_inside_another_checkout_is_none_of_its(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    patch, tree = patch_of(tmp_path, BEFORE, AFTER), tree_of(tmp_path, BEFORE)
    patch.apply(tree)
    assert (tree / "file.txt").read_text().splitlines() == AFTER


@pytest.mark.parametrize("text, words", [
    ("no diff at all", "no What, Why, Base, Licence"), (HEADER + "nothing", "changes nothing"),
    (HEADER + "--- a/f\n+++ b/f\n@@ -1,2 +1,9 @@\n a\n", "no unified diff"),
    (HEADER + "diff --git a/x.bin b/x.bin\nindex 1..2 100644\nGIT binary patch\nliteral 3\nKcmZP&U|;|M0fYbm\n\n", "x.bin as a binary file"),
    (HEADER + "diff --git a/x b/x\nBinary files a/x and b/x differ\n", "x as a binary file"),
    (HEADER + "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n@@ -2,2 +2,2 @@\n-b\n+d\n e\n", "hunks of f that overlap")])
def test_a_bad_patch_is_refused(tmp_path, text, words):
    (tmp_path / "bad.diff").write_text(text)
    with pytest.raises(CollectionError, match=words):
        patches.Patch(tmp_path / "bad.diff")


def test_a_missing_patch_or_file_is_named(tmp_path):
    with pytest.raises(CollectionError, match="no patch nowhere.diff"):
        patches.Patch("nowhere.diff")
    patch = patch_of(tmp_path, BEFORE, AFTER)
    with pytest.raises(CollectionError, match="file.txt, which"):
        patch.apply(tmp_path)


def subject_of(patch):
    """The wheel that a patch of patches/ is for: its base is a requirement."""
    name, _, version = patch.header["Base"].partition("==")
    return name, version.split()[0] if version else ""


@pytest.mark.parametrize("path", sorted(patches.FOLDER.glob("*flashinfer*.diff")), ids=lambda path: path.stem)
def test_a_patch_for_a_wheel_applies_to_it_and_git_agrees(path):
    patch = patches.Patch(path.name)
    tree = wheels.source(*subject_of(patch))
    with wheels.scratch(tree, *patch.files) as copy:
        checked = subprocess.run(["git", "apply", "--check", path], cwd=copy, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        patch.apply(copy)
        assert patch.state(copy) == patches.APPLIED
        assert not patch.git(copy, "--reverse")
        assert all((copy / name).read_bytes() == (tree / name).read_bytes() for name in patch.files)


def test_a_package_that_is_a_link_is_asked_as_any_other(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/package").symlink_to(tmp_path / "real")
    patch = patch_of(tmp_path, BEFORE, AFTER, "package/file.txt")
    assert patch.state(tmp_path / "tree") == patches.READY
    with wheels.scratch(tmp_path / "tree", *patch.files) as copy:
        patch.apply(copy)
        assert (copy / "package/file.txt").read_text().splitlines() == AFTER
    assert (tmp_path / "real/file.txt").read_text().splitlines() == BEFORE
