"""Patches on an installed package: a fresh import gets patched source, from a shadow folder.

In a notebook: ``with overlay.patched("03-moe-gate.revised.tensorrt-llm.diff"): import
tensorrt_llm``. For a server or a script, with all processes that it starts: ``python -m lib.overlay
PATCH [PATCH ...] -- trtllm-serve MODEL`` or ``-- script.py``, which needs unidiff and git alone.
No file of the package changes. Only Python files can be replaced so; modules that are imported
already, and other machines, are not reached.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lib.doctor import places
from lib.errors import CollectionError
from lib.overlay import hook as hooks
from lib.subjects import patches


@dataclass(frozen=True)
class Overlay:
    """An overlay in its folder."""

    folder: Path
    modules: dict  # name to the installation's file and the patched one
    path: str  # PYTHONPATH for processes that shall have the overlay


def module(file):
    """The name under which Python imports a file: ``package.part`` for ``package/part.py``."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def locate(file, root=None):
    """Where an installation has a file of a patch (Path), found without importing any of it.

    `root` holds the package; without it, it is the one that an import would take. An error if the
    file is no module of Python, or the package or the file is not there.
    """
    package, *rest = file.split("/")
    names = file.removesuffix(".py").split("/")
    if not (file.endswith(".py") and rest and all(map(str.isidentifier, names))):  # nor .., say
        raise CollectionError(
            f"{file} is no Python module of a package, and an import hook serves nothing else",
            "build the project with this patch applied")
    folders = [each / package for each in ([Path(root)] if root else places.installed(package))]
    if not folders:
        raise CollectionError(f"{package} is not installed here",
                              "install it in this environment, or use its interpreter")
    for folder in folders:
        if folder.joinpath(*rest).is_file():
            return folder.joinpath(*rest).absolute()
    raise CollectionError(f"{package} in {folders[0].parent} has no file {file}",
                          "it is of another version than the patch: compare its base")


def link(origin, target, files):
    """Link, in each folder of the shadow from `target` up to `files`, to what the installation has,
    so that a module finds the files that it looks for beside its own (``__file__``)."""
    for there, here in zip(origin.parents, target.parents):
        if here == files:
            return
        for each in there.iterdir():
            beside = here / each.name
            if each.name != "__pycache__" and not beside.exists() and not beside.is_symlink():
                beside.symlink_to(each.resolve())


@contextmanager
def shadow(*names, root=None):
    """Make the folder of an overlay (`Overlay`), gone at the end of the block; nobody uses it yet.

    `names` are files of patches/, applied in this order; `root` is `locate`'s. An error if a patch
    does not fit the installation, or changes what no hook can serve.
    """
    laid = [patches.Patch(name) for name in names]
    origins = {file: locate(file, root) for patch in laid for file in patch.files}
    with tempfile.TemporaryDirectory(prefix="sm12x-overlay-") as temporary:
        folder = Path(temporary).resolve()
        modules = {module(file): {"origin": origin, "patched": folder / "files" / file}
                   for file, origin in origins.items()}
        taken = {name for finder in sys.meta_path if getattr(finder, "overlay", False)
                 for name in finder.modules}
        if double := sorted(modules.keys() & taken):
            raise CollectionError(f"another overlay has {', '.join(double)} already",
                                  "name all patches in one overlay")
        for each in modules.values():
            each["patched"].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(each["origin"], each["patched"])
        for each in modules.values():  # after all copies, so that none is written through a link
            link(each["origin"], each["patched"], folder / "files")
        for patch in laid:
            patch.apply(folder / "files")
        (folder / "overlay.json").write_text(json.dumps(modules, default=str))
        shutil.copyfile(hooks.__file__, folder / "sitecustomize.py")
        known = filter(None, [str(folder), os.environ.get("PYTHONPATH")])
        yield Overlay(folder, modules, os.pathsep.join(known))


@contextmanager
def patched(*names, root=None):
    """Have the next import of some modules take patched source, here and in processes started here.

    Parameters are those of `shadow`. At the end all is as before: what the block was first to
    import of the package is forgotten, so that the next import takes the installation's files. A
    package with compiled parts may refuse to be imported twice: use a new process for it. Raises
    as `shadow` does, and if such a module is imported already or another overlay has it.
    """
    with shadow(*names, root=root) as laid:
        if late := sorted(laid.modules.keys() & sys.modules.keys()):
            raise CollectionError(
                f"{', '.join(late)} is imported already, and an overlay cannot change that",
                "restart the kernel, then open the overlay before the first import of the package")
        before, packages = set(sys.modules), {name.partition(".")[0] for name in laid.modules}
        hook = hooks.Hook(laid.folder)
        bytecode, path = sys.dont_write_bytecode, os.environ.get("PYTHONPATH")
        sys.meta_path.insert(0, hook)
        sys.dont_write_bytecode, os.environ["PYTHONPATH"] = True, laid.path
        try:
            yield laid
        finally:
            sys.meta_path.remove(hook)
            sys.dont_write_bytecode = bytecode
            os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path)
            new = [name for name in sys.modules if name not in before]
            for name in (name for name in new if name.partition(".")[0] in packages):
                parent, _, last = name.rpartition(".")
                gone = sys.modules.pop(name)
                if getattr(sys.modules.get(parent), last, None) is gone:
                    delattr(sys.modules[parent], last)


def run(command, *names):
    """Run a command, with all processes that it starts, under an overlay: its status (int).

    A first word that ends in ``.py`` or is ``-m`` goes to this interpreter; 128 + the number of a
    signal that ended it is the status then.
    """
    python = command[0].endswith(".py") or command[0] == "-m"
    words = [sys.executable, *command] if python else list(command)
    told = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
    with shadow(*names) as laid:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, told)
        try:
            child = subprocess.Popen(
                words, env=os.environ | {"PYTHONPATH": laid.path},
                preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before))
            while child.poll() is None:
                heard = signal.sigtimedwait(told, 1)
                # Of a process (si_code <= 0): what a terminal sends, it sends to the child itself.
                if heard and heard.si_signo != signal.SIGCHLD and heard.si_code <= 0:
                    child.send_signal(heard.si_signo)
        except OSError as error:
            raise CollectionError(f"{words[0]} cannot be started: {error.strerror}",
                                  "name a script, -m and a module, or a command of PATH") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode
