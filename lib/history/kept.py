"""What each release said when it was last read: history.json, and how it is made and read anew."""

import json
from datetime import UTC, datetime
from pathlib import Path

from lib import cache, workers
from lib.bug1_shared_memory import gemm, tiles
from lib.history import releases
from lib.instruments import nvcc
from lib.subjects import wheels

FILE = Path(__file__).with_name("history.json")
TARGET = "sm_121a"
FAMILIES = ("FP4 GEMM", "grouped GEMM", "MXFP8 GEMM")  # as the doctor names them


def load():
    """The releases (list of dict), by upload, and the day on which they were read (str): of each
    its version, when it was uploaded, its bytes and SHA-256, and what it ``said``."""
    kept = json.loads(FILE.read_text())
    rows = [row | {"said": kept["said"][row["said"]]} for row in kept["releases"]]
    return rows, kept["read"]


def pinned():
    """The versions of FlashInfer that are pinned, in the order of the pins (list of str)."""
    return [wheel.version for wheel in wheels.pins() if wheel.name == releases.PROJECT]


def anew(version, target=TARGET):
    """What a pinned release says when all of it is read, run and compiled here (dict, of `load`).
    Its kernels stand beside TensorRT-LLM's, as in notebook 01, so that both share the answer."""
    tree = wheels.source(releases.PROJECT, version)
    kernels = [*tiles.of_tensorrt_llm(("bf16", "fp32")), *tiles.of_flashinfer(tree, version)]
    table = gemm.measure(kernels, nvcc.of_flashinfer(version, target))
    return told(releases.whole(version), summed(table[table["product"] == "FlashInfer"]))


def told(answer, sizes):
    """An answer of `releases`, with the sizes of its kernels in their place (dict)."""
    return {name: answer[name] for name in answer if name != "kernels"} | {"sizes": sizes}


def summed(table):
    """Of kernels of a `gemm.measure`, by family: how many are built, how many are too large for
    their budget, and the bytes of the largest (dict)."""
    family = table["grouped"].astype(int).mask(~table["grouped"] & table["a"].eq("mxfp8"), 2)
    return {FAMILIES[place]: {"built": len(rows), "too large": int((rows["headroom"] < 0).sum()),
                              "largest": int(rows["kernel"].max())}
            for place, rows in table.groupby(family)}


def measured(answers):
    """The kernels of answers of `releases`, as `summed` (list; None where no pinned wheel has the
    same CUTLASS, file by file)."""
    found = [None] * len(answers)
    for version in pinned():
        carrier, kernels = releases.whole(version), {}
        for place, each in enumerate(answers):
            if (each["headers"], each["scatter"] or carrier["scatter"]) == (
                    carrier["headers"], carrier["scatter"]):
                kernels[place] = [gemm.Gemm(**fields | {name: tuple(fields[name]) for name in
                                                        ("tile", "subtile")})
                                  for fields in each["kernels"]]
        union = list(dict.fromkeys(kernel for own in kernels.values() for kernel in own))
        table = union and gemm.measure(union, nvcc.of_flashinfer(version, TARGET))
        for place, own in kernels.items():
            found[place] = summed(table[[kernel in own for kernel in union]])
    return found


def refresh():
    """Read all releases of the index and keep what they say; the errors by version (dict), of which
    what was kept before stays."""
    files = releases.published()
    outcomes = workers.ask(releases.fetched, [{"sha256": each.sha256} for each in files],
                           title="releases of FlashInfer", processes=True)
    answers = [each.answer for each in outcomes if each.answer]
    hashes = [each.question["sha256"] for each in outcomes if each.answer]
    said = {row["sha256"]: row["said"] for row in load()[0]} if FILE.is_file() else {}
    said |= dict(zip(hashes, map(told, answers, measured(answers))))
    there = [file for file in files if file.sha256 in said]
    distinct = list({cache.digest(said[file.sha256]): said[file.sha256] for file in there}.values())
    rows = [{"version": file.version, "uploaded": file.uploaded, "bytes": file.bytes,
             "sha256": file.sha256, "said": distinct.index(said[file.sha256])} for file in there]
    kept = {"read": datetime.now(UTC).date().isoformat(), "releases": rows, "said": distinct}
    FILE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return {file.version: each.error for file, each in zip(files, outcomes) if each.error}
