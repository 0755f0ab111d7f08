"""Which GPUs are sent to trtllm-gen attention: the lines that decide, asked where they are here."""

import re
import subprocess
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
    """Where a tree of ``flashinfer`` or ``tensorrt-llm`` chooses attention by GPU (DataFrame).

    A row for each place that is here: gate, file, line, text.
    """
    rows = []
    for place in READ["place"][project]:
        path = Path(tree, place["file"])
        lines = path.read_text().splitlines() if path.is_file() else []
        found = [(place["gate"], path.name, number, line.strip())
                 for number, line in enumerate(lines, 1) if re.search(place["line"], line)]
        rows += found[:1]
    return pd.DataFrame(rows, columns=["gate", "file", "line", "text"])


def recorded():
    """What was read of each gate in stored copies of TensorRT-LLM, and not asked (DataFrame).

    Columns: gate, when (``before``, ``draft``, ``published``, ``never read``), a column for each of
    `DEVICES` with ``trtllm-gen`` or ``fallback``, and read at (a link).
    """
    rows = [[row["gate"], row["when"], *chosen(row["takes"]), row["read at"]]
            for row in READ["gate"]]
    return pd.DataFrame(rows, columns=["gate", "when", *COLUMNS, "read at"])


def chosen(taken):
    """The word for each of `DEVICES` (list of str), by those that are sent to trtllm-gen."""
    return ["trtllm-gen" if sm in taken else "fallback" for sm in DEVICES]


def asked(tree, patch=None):
    """Ask the gates of a TensorRT-LLM tree itself, those that it has, for each of `DEVICES`.

    The two members of the C++ attention operator are compiled with the functions that they call; of
    the Python check the statement about the GPU is run. A stand-in for CUDA gives the capability.
    A patch is applied in a copy to those of its files that are here; only gates that it fits are
    asked then.

    Returns
    -------
    DataFrame
        A row for each gate: gate, a column for each of `DEVICES`, and says (why not, to SM121).

    Raises
    ------
    CollectionError
        If the C++ compiler refuses the gate, or there is none.
    """
    here = [file for file in (CAPABILITY, OPERATOR, PYTHON) if tree and Path(tree, file).is_file()]
    rows = []
    if here:
        with wheels.scratch(tree, *here) as copy:
            fits = {file: not patch.git(copy, f"--include={file}") for file in here
                    if patch and file in patch.files}
            if {CAPABILITY, OPERATOR} <= {*here} and (not patch or fits.get(OPERATOR)):
                rows.append(["attention operator (C++)", *chosen(operator(copy)), ""])
            if PYTHON in here and (not patch or fits.get(PYTHON)):
                answers = [check(copy, sm) for sm in DEVICES]
                taken = [sm for sm, (fine, _) in zip(DEVICES, answers) if fine]
                rows.append(["support check (Python)", *chosen(taken), answers[-1][1]])
    return pd.DataFrame(rows, columns=["gate", *COLUMNS, "says"])


def operator(tree):
    """The architectures of `DEVICES` for which the C++ operator takes trtllm-gen (list of int)."""
    with tempfile.TemporaryDirectory() as folder:
        for name, file, wanted in (("functions.h", CAPABILITY, FUNCTIONS),
                                   ("members.h", OPERATOR, MEMBERS)):
            Path(folder, name).write_text("\n".join(wanted.findall(Path(tree, file).read_text())))
        nvcc.host(UNIT, Path(folder, "ask"), [folder])
        said = subprocess.run([Path(folder, "ask"), *map(str, DEVICES)],
                              capture_output=True, text=True, check=True).stdout
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
