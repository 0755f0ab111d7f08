"""trtllm-gen attention: where its gates are, and its runner, whole and unedited, asked on the CPU which kernel it takes on which GPU."""

import io
import re
import subprocess
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import cubins, nvcc
from lib.subjects import wheels

HARNESS = Path(__file__).with_suffix(".cpp")
HEADERS = "flashinfer/data/include"
META = "fmha/trtllm-gen/include/flashInferMetaInfo.h"
DEVICES = (90, 100, 103, 110, 120, 121)
PLACES = (
    ("trtllm-gen runner", "flashinfer/data/include/flashinfer/trtllm/fmha/fmhaRunner.cuh", r"mSM == kSM_100\b"),
    ("decode, backend=\"auto\"", "flashinfer/decode.py", r'"trtllm-gen" if get_compute_capability'),
    ("prefill, backend=\"auto\"", "flashinfer/utils.py", r"if is_sm90a_supported\(device\) and is_fa3"),
    ("FMHA v2 prefill for MLA", "flashinfer/prefill.py", r"fmha_v2_prefill_deepseek is only supported"),
)
TENSORRT_LLM = (
    ("what getSMVersion() makes of 121", "cpp/include/tensorrt_llm/common/cudaUtils.h", r"sm == 121"),
    ("attention operator", "cpp/tensorrt_llm/common/attentionOp.h", r"bool mUseTllmGen ="),
    ("context dispatcher", "cpp/tensorrt_llm/kernels/fmhaDispatcher.cpp", r"mUseTllmGen\("),
    ("Python, if switched on", "tensorrt_llm/_torch/attention_backend/trtllm_gen.py", r"if not is_sm_100f\(sm\)|if sm not in \(100"),
)


def compiler():
    """The path of the host's C++ compiler; empty if there is none."""
    try:
        return nvcc.host_compiler()
    except CollectionError:
        return ""


def places(tree, wanted=PLACES):
    """Where attention kernels are chosen by GPU (DataFrame: gate, file, line, text), for those of the places `wanted` that a tree has."""
    rows = []
    for name, file, pattern in wanted:
        lines = (tree / file).read_text().splitlines() if (tree / file).is_file() else []
        found = ((number, line.strip()) for number, line in enumerate(lines, 1) if re.search(pattern, line))
        rows += [(name, file.rpartition("/")[2], *place) for place in [next(found, None)] if place]
    return pd.DataFrame(rows, columns=["gate", "file", "line", "text"])


def answers(tc, tree, wheel, patch=None):
    """What the runner does on each of `DEVICES`, in 72 cases: context and generation, four type combinations, three head and page sizes.

    The harness (trtllm_gen.cpp) includes the runner's headers and stands in for the CUDA driver: it reports the compute capability that is
    asked for, and notes the kernel instead of loading it.

    Parameters
    ----------
    tc : toolchain.Toolchain
        For CUDA's headers.
    tree : Path
        An unpacked FlashInfer wheel.
    wheel : Path
        The flashinfer-cubin wheel with the list of kernels that the runner chooses from.
    patch : patches.Patch, optional
        Applied to a scratch copy of the headers first.

    Returns
    -------
    DataFrame
        A row for each device and case: sm, case, outcome (``kernel``, ``no kernel`` or ``refused``), answer (the name, or what was thrown).

    Raises
    ------
    CollectionError
        If there is no C++ compiler, or it refuses the unit.
    """
    program = nvcc.host_compiler()
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.partition("\n")[0]
    meta, = cubins.read(wheel, META)
    key = [version, tc.version, tree.name, cache.digest(meta), patch.text if patch else "", HARNESS.read_text(), Path(__file__).read_text()]

    def ask(folder):
        files = [path.relative_to(tree) for path in (tree / HEADERS).rglob("*") if path.is_file()] if patch else []
        with wheels.scratch(tree, *files) if patch else nullcontext(tree) as copy, tempfile.TemporaryDirectory() as scratch:
            if patch:
                patch.apply(copy)
            Path(scratch, "flashInferMetaInfo.h").write_bytes(meta)
            data = tree / "flashinfer/data"
            include = [f"-I{path}" for path in (scratch, copy / HEADERS, data / "cutlass/include", data / "csrc", *reversed(tc.include))]
            built = subprocess.run([program, "-std=c++17", "-w", "-O0", *include, HARNESS, "-o", f"{scratch}/ask"],
                                   capture_output=True, text=True)
            if built.returncode:
                errors = [line for line in built.stderr.splitlines() if "error" in line] or ["no message"]
                raise CollectionError(f"{program} does not compile the runner: {errors[0]}",
                                      "use g++ 11 or later and the pinned FlashInfer")
            asked = subprocess.run([f"{scratch}/ask", *map(str, DEVICES)], capture_output=True, text=True, check=True)
        (folder / "answers.tsv").write_text(asked.stdout)

    text = (cache.entry("trtllm-gen", key, ask) / "answers.tsv").read_text()
    table = pd.read_csv(io.StringIO(text), sep="\t", names=["sm", "case", "answer"])
    table["answer"] = table["answer"].str.replace(r"at \S*/(\S+:\d+)", r"at \1", regex=True)
    kinds = {"fmhaSm": "kernel", "no kernel": "no kernel"}
    outcome = table["answer"].map(lambda answer: next((kind for start, kind in kinds.items() if answer.startswith(start)), "refused"))
    return table.assign(outcome=outcome)[["sm", "case", "outcome", "answer"]]
