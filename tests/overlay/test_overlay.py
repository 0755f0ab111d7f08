"""Overlays: patched source for a fresh import, here and in child processes, with not a byte of the installation changed."""

import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from lib import overlay
from lib.bug4_autotuner import autotuner
from lib.errors import CollectionError
from lib.subjects import patches, wheels
from tests.conftest import heard

ROOT = Path(__file__).parents[2]
HEADER = "What: x\nWhy: y\nBase: our own package\nLicence: Apache-2.0\n\n"
FILES = {
    "subject/__init__.py": "from . import plain\n",
    "subject/plain.py": "value = 'installed'\n",
    "subject/deep/__init__.py": "",
    "subject/deep/part.py": """
        from pathlib import Path

        from ..plain import value

        def answer():
            return "installed"

        def fails():
            return 1 / len("")  # installed

        beside = Path(__file__).with_name("data.txt").read_text()
        above = (Path(__file__).parents[1] / "plain.py").read_text()
        """,
    "subject/deep/other.py": "value = 'installed'\n",
    "subject/deep/data.txt": "data",
}
PART = """
--- a/subject/deep/part.py
+++ b/subject/deep/part.py
@@ -5,5 +5,5 @@
 def answer():
-    return "installed"
+    return "patched"

 def fails():
-    return 1 / len("")  # installed
+    return 1 / len("")  # patched
"""
OTHER = """
--- a/subject/deep/other.py
+++ b/subject/deep/other.py
@@ -1 +1 @@
-value = 'installed'
+value = 'patched'
"""


def state(folder):
    """Every file and folder with its bytes and its time of change."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in [folder, *folder.rglob("*")]}


def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == "subject"]:
        del sys.modules[name]


def installed(name, monkeypatch):
    """Import without an overlay, and without bytecode, which only root could write."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "dont_write_bytecode", True)
        return importlib.import_module(name)


@pytest.fixture
def installation(tmp_path, monkeypatch):
    """A package of ours, installed in a folder that nobody may write to; its bytes are compared at the end."""
    folder = tmp_path / "site-packages"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text).lstrip("\n"))
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    before, finders = state(folder), list(sys.meta_path)
    yield folder
    forget()
    assert state(folder) == before and sys.meta_path == finders and os.environ["PYTHONPATH"] == str(folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)


@pytest.fixture
def patch(tmp_path):
    """Write a patch of ours (its path, as a str)."""
    def write(*parts, name="own.diff"):
        (tmp_path / name).write_text(HEADER + "".join(part.lstrip("\n") for part in parts))
        return str(tmp_path / name)
    return write


def test_a_fresh_import_gets_the_patched_source_and_the_next_one_the_installed(installation, patch, monkeypatch):
    with overlay.patched(patch(PART)) as laid:
        part = importlib.import_module("subject.deep.part")
        assert part.answer() == "patched" and all('return "patched"' in inspect.getsource(each) for each in (part, part.answer))
        assert Path(part.__file__) == laid.modules["subject.deep.part"]["patched"] and installation not in Path(part.__file__).parents
        try:
            part.fails()
        except ZeroDivisionError as error:
            assert "# patched" in "".join(traceback.format_exception(error))
        assert part.value == "installed" and part.beside == "data" and part.above == "value = 'installed'\n"
        assert Path(sys.modules["subject.plain"].__file__) == installation / "subject/plain.py"
        folder = laid.folder
    assert not folder.exists()
    again = installed("subject.deep.part", monkeypatch)
    assert again.answer() == "installed" and Path(again.__file__).parent == installation / "subject/deep"


def test_two_files_of_one_folder_and_two_patches(installation, patch):
    with overlay.patched(patch(PART), patch(OTHER, name="other.diff")):
        assert importlib.import_module("subject.deep.part").answer() == "patched"
        assert importlib.import_module("subject.deep.other").value == "patched"


def test_a_package_itself_can_be_patched(installation, patch):
    change = "--- a/subject/__init__.py\n+++ b/subject/__init__.py\n@@ -1 +1,2 @@\n from . import plain\n+patched = True\n"
    with overlay.patched(patch(change)):
        subject = importlib.import_module("subject")
        assert subject.patched and subject.__path__ == [str(installation / "subject")]
        assert importlib.import_module("subject.deep.part").answer() == "installed"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=some.sets(some.sampled_from([file for file in FILES if file.endswith("y")])))
def test_every_other_module_comes_from_the_installation(installation, patch, wanted):
    with overlay.patched(patch(PART)):
        for file in wanted:
            module = importlib.import_module(overlay.module(file))
            assert (Path(module.__spec__.origin) == installation / file) == (file != "subject/deep/part.py")


def test_the_hook_is_ahead_of_an_editable_install(installation, patch, monkeypatch):
    class Editable:
        """Like setuptools' finder: it alone knows where the package is."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "subject":
                folder = installation / "subject"
                return importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])

    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(installation)])
    sys.meta_path.insert(0, Editable)
    try:
        with overlay.patched(patch(PART)):
            assert importlib.import_module("subject.deep.part").answer() == "patched"
    finally:
        sys.meta_path.remove(Editable)


def test_another_module_of_that_name_is_left_as_it_is(installation, patch, tmp_path, monkeypatch, capsys):
    with overlay.patched(patch(PART)):
        elsewhere = tmp_path / "elsewhere/subject/deep"
        elsewhere.mkdir(parents=True)
        (elsewhere / "part.py").write_text("def answer(): return 'elsewhere'\n")
        for folder in (elsewhere, elsewhere.parent):
            (folder / "__init__.py").write_text("")
        monkeypatch.syspath_prepend(elsewhere.parent.parent)
        assert importlib.import_module("subject.deep.part").answer() == "elsewhere"
    assert "which was patched: left as it is" in capsys.readouterr().err


def test_what_is_imported_already_is_an_error(installation, patch, monkeypatch):
    installed("subject.deep.part", monkeypatch)
    advice = "(?s)subject.deep.part is imported already.*restart the kernel"
    with pytest.raises(CollectionError, match=advice), overlay.patched(patch(PART)):
        pass


def test_two_overlays_of_one_module_are_an_error(installation, patch):
    with overlay.patched(patch(PART)), pytest.raises(CollectionError, match="another overlay has subject.deep.part"):
        with overlay.patched(patch(PART)):
            pass


@pytest.mark.parametrize("text, said", [
    (PART.replace('-    return "installed"', '-    return "of another version"'), "does not apply.*next: compare the tree with the base"),
    (PART.replace("deep/part.py", "deep/gone.py"), "has no file subject/deep/gone.py.*another version"),
    (PART.replace("deep/part.py", "deep/data.txt"), "no Python module.*build the project"),
    (PART.replace("subject/", "unheard_of/"), "unheard_of is not installed here"),
])
def test_a_patch_that_does_not_fit_changes_nothing(installation, patch, text, said):
    before = set(sys.modules)
    with pytest.raises(CollectionError, match=f"(?s){said}"), overlay.patched(patch(text)):
        pass
    assert not {name for name in set(sys.modules) - before if name.startswith("subject")}


def test_an_error_inside_the_block_restores_as_well(installation, patch, monkeypatch):
    with pytest.raises(ZeroDivisionError), overlay.patched(patch(PART)):
        importlib.import_module("subject.deep.part").fails()
    assert installed("subject.deep.part", monkeypatch).answer() == "installed"


def test_a_thread_gets_the_patched_source(installation, patch):
    answers = []
    with overlay.patched(patch(PART)):
        workers = [threading.Thread(target=lambda: answers.append(importlib.import_module("subject.deep.part").answer())) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert answers == ["patched"] * 8


NESTED = """
import subprocess, sys
from subject.deep import part
depth = int(sys.argv[1])
print(part.answer(), sys.dont_write_bytecode, flush=True)
if depth:
    raise SystemExit(subprocess.run([sys.executable, __file__, str(depth - 1)]).returncode)
raise SystemExit(7)
"""


def command(*words, **keywords):
    return subprocess.run([sys.executable, "-m", "lib.overlay", *words], cwd=ROOT, capture_output=True, text=True, **keywords)


def test_a_command_and_the_children_of_its_children(installation, patch, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(NESTED)
    done = command(patch(PART), "--", str(script), "2")
    assert (done.returncode, done.stdout) == (7, "patched True\n" * 3), done.stderr
    plain = subprocess.run([sys.executable, "-B", str(script), "0"], capture_output=True, text=True)
    assert plain.stdout == "installed True\n"


def test_children_of_a_notebook_have_it_too(installation, patch):
    with overlay.patched(patch(PART)):
        answer = subprocess.check_output([sys.executable, "-c", "from subject.deep import part; print(part.answer())"], text=True)
    assert answer == "patched\n"


def test_an_overlay_in_an_overlay_and_the_machines_own_sitecustomize(installation, patch, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import builtins\nbuiltins.customised = True\n")
    program = "from subject.deep import part, other; print(part.answer(), other.value, customised)"
    done = command(patch(PART), "--", "-m", "lib.overlay", patch(OTHER, name="other.diff"), "--", sys.executable, "-c", program,
                   env=os.environ | {"PYTHONPATH": f"{own}:{installation}", "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.stdout == "patched patched True\n", done.stderr
    done = command(patch(PART), "--", "-m", "lib.overlay", patch(PART), "--", sys.executable, "-c", "")
    assert done.returncode == 1 and "another overlay has subject.deep.part" in done.stderr


@pytest.mark.parametrize("words, said", [
    ([], "usage: "), (["x.diff"], "usage: "), (["x.diff", "--"], "usage: "), (["--", "script.py"], "usage: "),
    (["no-such.diff", "--", "true"], "there is no patch no-such.diff"),
    (["04-autotuner.published.tensorrt-llm.diff", "--", "true"], "tensorrt_llm is not installed"),
])
def test_a_wrong_command_says_what_to_do(words, said):
    if "tensorrt_llm" in said and importlib.util.find_spec("tensorrt_llm"):
        pytest.skip("TensorRT-LLM is installed")
    done = command(*words)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_overlay_reaches_the_command(installation, patch, tmp_path, which):
    script = tmp_path / "waits.py"
    script.write_text("import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\nprint('ready', flush=True)\ntime.sleep(60)\n")
    words = [sys.executable, "-m", "lib.overlay", patch(PART), "--", str(script)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard) as running:
        assert running.stdout.readline() == "ready\n"
        running.send_signal(which)
        assert running.wait(20) == 128 + which


@pytest.mark.parametrize("file", ["../out.py", "subject/../../out.py", "/etc/out.py", "subject/a b.py", "out.py", ".py", "subject/.py"])
def test_a_path_that_is_no_module_is_never_laid_over(file, tmp_path):
    (tmp_path / "out.py").write_text("")
    with pytest.raises(CollectionError, match="no Python module of a package"):
        overlay.locate(file, tmp_path / "subject")


def test_a_command_that_is_not_there(installation, patch):
    with pytest.raises(CollectionError, match="no-such-command cannot be started"):
        overlay.run(["no-such-command"], patch(PART))


@pytest.mark.parametrize("version", ["0.6.6", "0.7.2.post1"])
def test_flashinfers_tuner_under_an_overlay(version):
    tree = wheels.source("flashinfer-python", version)
    file = tree / autotuner.file_of(tree)
    before = wheels.sha256(file), file.stat().st_mtime_ns
    autotuner.forget()
    with overlay.patched(f"04-autotuner.revised.flashinfer-{version}.diff", root=tree) as laid:
        loaded = autotuner.load(tree)
        assert list(laid.modules) == [loaded.__name__] and "does not fit" in inspect.getsource(loaded)
        assert (autotuner.survey(loaded)["outcome"] == "ok").all()
    assert (autotuner.survey(autotuner.load(tree))["outcome"] != "ok").any()
    assert (wheels.sha256(file), file.stat().st_mtime_ns) == before


@pytest.mark.parametrize("form", ["04-*.diff", "03-*.tensorrt-llm.diff"])
def test_patches_of_the_python_layer_change_python_alone(form):
    files = {file for path in patches.FOLDER.glob(form) for file in patches.Patch(path.name).files}
    assert files and all(file.endswith(".py") and file.partition("/")[0] in ("tensorrt_llm", "flashinfer") for file in files)
