"""FlashInfer's trtllm-gen attention runner, whole and unedited, asked on the CPU what it takes."""

import subprocess
import tempfile
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import cubins, nvcc
from lib.subjects import patches, vendored

HARNESS = Path(__file__).with_suffix(".cpp")
DEVICES = (90, 100, 103, 110, 120, 121)
OUTCOMES = {"fmhaSm": "kernel", "no kernel": "no kernel"}  # by how an answer begins; else refused


def compiler():
    """The path of the host's C++ compiler; empty if there is none."""
    try:
        return nvcc.host_compiler()
    except CollectionError:
        return ""


def answers(tc, tree, wheel, *names):
    """What the runner does on each of `DEVICES` in 72 cases, context and generation.

    Patches (`names`) go to a copy of the headers first. Returns a DataFrame: sm, case, outcome
    (kernel, no kernel or refused), answer (the kernel's name, or what was thrown). CollectionError
    if there is no C++ compiler, it refuses, or a patch does not apply.
    """
    version = subprocess.run([nvcc.host_compiler(), "--version"], capture_output=True, text=True)
    meta, = cubins.read(wheel, "fmha/trtllm-gen/include/flashInferMetaInfo.h")
    headers = Path(vendored.ATTENTION_RUNNER).parents[3]

    def ask(_):
        files = [f"{headers}/{name}" for name in cache.names(tree / headers)]
        with (patches.patched(tree, *names, files=files) as copy,
              tempfile.TemporaryDirectory() as scratch):
            Path(scratch, "flashInferMetaInfo.h").write_bytes(meta)
            include = (scratch, copy / headers, tree / vendored.DATA / "cutlass/include",
                       tree / vendored.DATA / "csrc", *reversed(tc.include))
            said = nvcc.host(HARNESS, include, arguments=DEVICES)
        return [line.split("\t") for line in said.splitlines()]

    inputs = {"compiler": version.stdout.partition("\n")[0], "cuda": tc.version,
              "flashinfer": tree.name, "kernels": cache.digest(meta), "harness": HARNESS,
              "patches": [patches.FOLDER / name for name in names]}
    asked = pd.DataFrame(cache.remember("trtllm-gen", inputs, ask).value,
                         columns=["sm", "case", "answer"]).astype({"sm": int})
    asked["answer"] = asked["answer"].str.replace(r"at \S*/(\S+:\d+)", r"at \1", regex=True)
    begins = asked["answer"].str.extract(f"^({'|'.join(OUTCOMES)})")[0]
    asked.insert(2, "outcome", begins.map(OUTCOMES).fillna("refused"))
    return asked
