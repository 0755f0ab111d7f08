"""Which GPUs are sent to trtllm-gen attention: the lines that decide, asked where they are here."""

import re
import tempfile
import textwrap
import tomllib
from pathlib import Path

import pandas as pd

from lib.errors import CollectionError
from lib.instruments import nvcc
from lib.subjects import wheels

DEVICES = (100, 103, 110, 120, 121)
COLUMNS = [f"SM{sm}" for sm in DEVICES]
UNIT = Path(__file__).with_suffix(".cpp")
READ = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
CAPABILITY = "cpp/include/tensorrt_llm/common/cudaUtils.h"
OPERATOR = "cpp/tensorrt_llm/common/attentionOp.h"
PYTHON = "tensorrt_llm/_torch/attention_backend/trtllm_gen.py"
FUNCTIONS = re.compile(r"^inline \w+ (?:getSMVersion|isSM100Family)\(.*?^}", re.M | re.S)
MEMBERS = re.compile(r"^\s*(?:int mSM|bool mUseTllmGen) = .*;", re.M)
CHECK = re.compile(r"^( *)sm = get_sm_version\(\)\n\1if .*\n(?:\1 .*\n|\n)+", re.M)


def places(tree, project):
    """Where a tree of a project chooses attention by GPU: gate, file, line, text (DataFrame)."""
    rows = []
    for place in READ["place"][project]:
        path = Path(tree, place["file"])
        lines = path.read_text().splitlines() if path.is_file() else []
        rows += [(place["gate"], path.name, number, line.strip())
                 for number, line in enumerate(lines, 1) if re.search(place["line"], line)][:1]
    return pd.DataFrame(rows, columns=["gate", "file", "line", "text"])


def recorded():
    """What was read of each gate in stored copies of TensorRT-LLM, and not asked (DataFrame)."""
    rows = [[row["gate"], row["when"], *chosen(row["takes"]), row["read at"]]
            for row in READ["gate"]]
    return pd.DataFrame(rows, columns=["gate", "when", *COLUMNS, "read at"])


def chosen(taken):
    """The word for each of `DEVICES` (list of str), by those that are sent to trtllm-gen."""
    return ["trtllm-gen" if sm in taken else "fallback" for sm in DEVICES]


def asked(tree, patch=None):
    """Ask the gates of a TensorRT-LLM tree itself, those that it has, for each of `DEVICES`.

    With a `patch`, only those that it fits, patched in a copy. Returns a DataFrame: gate, a column
    for each of `DEVICES`, says (why not, to SM121). An error if they do not compile.
    """
    here = [file for file in (CAPABILITY, OPERATOR, PYTHON) if tree and Path(tree, file).is_file()]
    rows = []
    if here:
        with wheels.scratch(tree, *here) as copy:
            fits = [file for file in here if not patch
                    or (file in patch.files and not patch.git(copy, f"--include={file}"))]
            if CAPABILITY in here and OPERATOR in fits:
                rows.append(["attention operator (C++)", *chosen(operator(copy)), ""])
            if PYTHON in fits:
                answers = [check(copy, sm) for sm in DEVICES]
                taken = [sm for sm, (fine, _) in zip(DEVICES, answers) if fine]
                rows.append(["support check (Python)", *chosen(taken), answers[-1][1]])
    return pd.DataFrame(rows, columns=["gate", *COLUMNS, "says"])


def operator(tree):
    """The `DEVICES` that the C++ operator sends to trtllm-gen (list); a stand-in for CUDA asks."""
    with tempfile.TemporaryDirectory() as folder:
        for name, file, wanted in (("functions.h", CAPABILITY, FUNCTIONS),
                                   ("members.h", OPERATOR, MEMBERS)):
            Path(folder, name).write_text("\n".join(wanted.findall(Path(tree, file).read_text())))
        said = nvcc.host(UNIT, [folder], arguments=DEVICES)
    return [int(sm) for sm, takes in map(str.split, said.splitlines()) if takes == "1"]


def check(tree, sm):
    """What the Python check says of an architecture: whether it may, and why not (bool, str)."""
    found = CHECK.search(Path(tree, PYTHON).read_text())
    if not found:
        raise CollectionError(f"{PYTHON} does not check the GPU as in March 2026", "read it there")
    body = textwrap.indent(textwrap.dedent(found[0]), "    ")
    names = {"get_sm_version": lambda: sm, "is_sm_100f": lambda number: number in (100, 103)}
    exec(f"def gate():\n{body}    return True, ''\n", names)
    return names["gate"]()
