"""The environment of the commands, with a torch of its own or the given Python's, left as it is.
Standard library only; ``python -m lib.environment FOLDER`` makes it."""

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

# What TensorRT-LLM 1.2 asks for: https://github.com/NVIDIA/TensorRT-LLM/pull/10760
OLDEST = (2, 9)
KEPT = ("torch", "numpy")  # where torch is the given Python's, so is what it was built against
# What is built against numpy may be this old, if the numpy that is kept is too old for the pin.
OLDER = {"pandas": "2.2"}
# pip's settings that would send packages elsewhere, or hold ours to what a container was made with:
# NVIDIA's set PIP_CONSTRAINT (https://github.com/crickett-hpe/hpc-ai-envs/pull/29).
UNSET = ("PIP_CONSTRAINT", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
# For a .pth file: jupyter_events has this installed, so jsonschema imports it, and it then spends a
# second of each start on grammars, to check IRIs that no schema here asks for.
UNUSED = 'import sys; sys.modules.setdefault("rfc3987_syntax", None)\n'


@dataclass(frozen=True)
class Choice:
    """Which torch is used: version and folder of the given Python's, or two empty strings; why."""

    torch: str
    folder: str
    why: str


def choose(version, folder, inside, pinned):
    """The rule (`Choice`): the torch that the given Python finds in a folder, or the pinned one.

    A torch in the environment to be made, `inside` (Path), is none of the given Python's.
    """
    ours = f"torch {pinned} is installed into {inside.name}"
    if not version or Path(folder).is_relative_to(inside):
        return Choice("", "", f"{ours}: {sys.executable} has none")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return Choice("", "", f"{ours}: {sys.executable} has {version}, older than {oldest}")
    return Choice(version, folder, f"torch {version} of {folder} is used, and left as it is")


def found():
    """Version and folder of this Python's torch, not imported; two empty strings if none."""
    spec = importlib.util.find_spec("torch")
    if not spec or not spec.origin:
        return "", ""
    folder = Path(spec.origin).parent.parent
    for here in importlib.metadata.distributions(name="torch", path=[str(folder)]):
        return here.version, str(folder)
    text = folder / "torch/version.py"
    stated = re.search(r"__version__ = '([^']+)'", text.read_text()) if text.is_file() else None
    return stated[1] if stated else "", str(folder)


def requirements(text, choice):
    """From the text of requirements.txt (two lists of str) the pins that must be in the environment
    itself, and what may be as the given Python has it: nothing if torch is our own."""
    lines = [line for line in map(str.strip, text.splitlines()) if line and line[0] != "#"]
    if not choice.torch:
        return lines, []
    named = [(*line.split("=="), line) for line in lines]
    loose = [f"{name}>={OLDER[name]},<={pin}" for name, pin, _ in named if name in OLDER]
    return [line for name, _, line in named if name not in (*KEPT, *OLDER)], loose


def constraints(choice):
    """What pip must not replace: `KEPT` as the given Python has it; nothing if torch is ours."""
    here = [next(iter(importlib.metadata.distributions(name=name)), None) for name in KEPT]
    return [f"{each.name}=={each.version}" for each in here if each and choice.torch]


def stamp(text, choice, root):
    """What an environment depends on, for its marker (dict)."""
    return {"python": sys.executable, "prefix": sys.prefix, "version": sys.version.split()[0],
            "torch": choice.torch, "folder": choice.folder, "root": str(root),
            "requirements": hashlib.sha256(f"{text}{UNUSED}".encode()).hexdigest()}


def without_pip_settings():
    """The variables of this process without those of `UNSET` (dict of str)."""
    return {name: value for name, value in os.environ.items() if name not in UNSET}
