"""``python -m lib.environment FOLDER``: make or renew it, silent where it is as it should be."""

import json
import os
import re
import site
import subprocess
import sys
from pathlib import Path

from . import UNUSED, choose, constraints, found, requirements, stamp, without_pip_settings

ROOT = Path(__file__).parents[2]


def run(*command, **keywords):
    """A command without pip's settings of `UNSET`; whether it ended well."""
    return subprocess.run(command, env=without_pip_settings(), **keywords).returncode == 0


def make(folder, choice):
    """A new, empty environment; where torch is the given Python's, one that sees its packages."""
    # The packages of a virtual environment are not seen through --system-site-packages.
    outer = site.getsitepackages() if choice.torch and sys.prefix != sys.base_prefix else []
    seen = ["--system-site-packages"] if choice.torch and not outer else []
    command = [sys.executable, "-m", "venv", "--clear", *seen, str(folder)]
    errors = subprocess.DEVNULL if choice.torch else None
    made = run(*command, stdout=subprocess.DEVNULL, stderr=errors)
    # A container's Python may lack ensurepip; its own pip, which the environment sees, serves.
    if not made and not (choice.torch and run(*command, "--without-pip")):
        sys.exit("no environment could be made: on Debian and Ubuntu, apt-get install python3-venv")
    [packages] = (folder / "lib").glob("python3*/site-packages")
    (packages / "collection.pth").write_text(f"{ROOT}\n")
    given = (f"import site; site.addsitedir({each!r})\n" for each in outer)
    (packages / "given.pth").write_text("".join(given))


def install(folder, text, choice):
    """Our pins into the environment, and of what they need only what is missing."""
    pins, loose = requirements(text, choice)
    held = folder / "constraints"
    held.write_text("".join(f"{line}\n" for line in constraints(choice)))
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-warn-conflicts",
           "--constraint", str(held)]
    # In here, even where the given Python has the same.
    done = not choice.torch or run(*pip, "--no-deps", "--ignore-installed", *pins)
    if not done or not run(*pip, *pins, *loose):
        sys.exit("pip could not install requirements.txt: its reason stands above; "
                 "what is there is kept, run again")
    [packages] = (folder / "lib").glob("python3*/site-packages")
    (packages / "unused.pth").write_text(UNUSED)


def main(folder):
    folder = Path(folder).absolute()
    if folder.is_symlink():
        sys.exit(f"{folder.name} is a link to {folder.resolve()}, which may be another clone's: "
                 f"delete the link and run again")
    ready = folder / "ready"
    try:
        before = json.loads(ready.read_text())
    except (OSError, ValueError):
        before = {}
    if Path(sys.prefix) == folder:  # it is activated: decide as the Python that made it
        given = before.get("python") or sys._base_executable
        os.execv(given, [given, "-m", __spec__.parent, str(folder)])
    text = (ROOT / "requirements.txt").read_text()
    pinned = re.search(r"^torch==(\S+)", text, re.MULTILINE)[1]
    choice = choose(*found(), folder, pinned)
    now = stamp(text, choice, ROOT)
    if {**before, "python": ""} == {**now, "python": ""}:
        return
    print(f"environment: {choice.why}; installing requirements.txt into {folder.name} "
          "(a few minutes the first time)", flush=True)
    ready.unlink(missing_ok=True)
    if any(before.get(key) != now[key] for key in ("prefix", "version", "torch", "folder", "root")):
        make(folder, choice)
    install(folder, text, choice)
    asked = [str(folder / "bin/python"), "-c",
             "import importlib.util as u; print(u.find_spec('torch').origin)"]
    origin = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    if choice.torch and not origin.startswith(choice.folder):
        sys.exit(f"torch is found at {origin or 'no place'} and not in {choice.folder}: "
                 f"delete {folder.name} and run again with PYTHON=...")
    ready.write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
