"""What a runner's own source says of its tiles: names, dispatch cases, instantiations."""

import re
from difflib import SequenceMatcher
from pathlib import Path

import pandas as pd

from lib.errors import CollectionError
from lib.subjects import cpp, patches, vendored

# FlashInfer's wheel: its dense runners by architecture, and TensorRT-LLM's names of configurations.
DENSE = {120: vendored.DENSE_SM120, 100: f"{vendored.DENSE_RUNNERS}/fp4_gemm_cutlass_template.h"}
EXTENSIONS = f"{vendored.INTERNAL}/tensorrt_llm/cutlass_extensions/include/cutlass_extensions"
# A TensorRT-LLM checkout: the dense runner, and where its kernels are instantiated.
FP4_GEMM = "cpp/tensorrt_llm/kernels/cutlass_kernels/fp4_gemm"
TEMPLATE = f"{FP4_GEMM}/fp4_gemm_template.h"
INSTANCES = tuple(f"{FP4_GEMM}/fp4_gemm_{d}.cu" for d in ("bf16", "fp16", "fp32"))


def extent(name, bits=0):
    """The tile of a name as ``128x128x256B``, in elements: of so many `bits` if its k is bytes."""
    found = re.fullmatch(r"(?:CtaShape)?(\d+)x(\d+)x(\d+)B", name)
    if not found:
        raise CollectionError(f"{name!r} is no tile name", "write it as in 128x128x256B")
    m, n, k = map(int, found.groups())
    return m, n, k * 8 // bits if bits else k


def dispatched(file, sm=120):
    """The tiles that a dense dispatch has cases for, if it is there: name to (m, n, k) (dict)."""
    text = cpp.code(file.read_text()) if file.is_file() else ""
    case = rf"case \w*(?:::)?CutlassTileConfigSM{sm}::CtaShape(\w+B):"
    cases = re.findall(case + r"\s*(?:return )?\w+\s*[<(]([^;]*);", text)
    return {name: tuple(map(int, re.findall(r"\d+", said)[:3])) for name, said in cases}


def grouped(tree, sm=120):
    """The tile names of a FlashInfer tree's grouped dispatch (list of str); their k is bytes."""
    text = cpp.code(Path(tree, vendored.GROUPED_DISPATCH).read_text())
    cases = re.findall(rf"SHAPE_CASE\({sm}, (\d+), (\d+), (\d+)\)", text)
    return list(dict.fromkeys(f"{m}x{n}x{k}B" for m, n, k in cases))


def configurations(tree, sm):
    """The tile names of an architecture's enumeration in a FlashInfer tree (list of str)."""
    text = cpp.code(Path(tree, EXTENSIONS, "gemm_configs.h").read_text())
    body = re.search(rf"enum class CutlassTileConfigSM{sm}\b[^{{]*{{(.*?)}};", text, re.DOTALL)
    return re.findall(r"CtaShape(\w+B)", body[1])


def instantiated(tree, tile):
    """The files of `INSTANCES` that instantiate a tile, and those that are there (two lists)."""
    here = [name for name in INSTANCES if Path(tree, name).is_file()]
    asked = rf"LAUNCHER_SM120\(\w+, {tile[0]}, {tile[1]}, {tile[2]},"
    return [name for name in here if re.search(asked, cpp.code(Path(tree, name).read_text()))], here


def touched(tree, patch):
    """The lines that a `Patch` takes from a tree or puts into it (DataFrame).

    Columns: file, line, blocks (that are around it), for SM120 (whether one of them names it).
    """
    rows = []
    with patches.patched(tree, patch.path) as copy:
        for name in patch.files:
            texts = [Path(place, name).read_text() for place in (tree, copy)]
            sides = [text.split("\n") for text in texts]
            for kind, *ends in SequenceMatcher(None, *sides, autojunk=False).get_opcodes():
                for text, lines, span in zip(texts, sides, (ends[:2], ends[2:])):
                    rows += [(Path(name).name, lines[at].strip(), cpp.around(text, at))
                             for at in range(*span) if kind != "equal"]
    found = pd.DataFrame(rows, columns=["file", "line", "blocks"])
    return found.assign(**{"for SM120": found["blocks"].map(" ".join).str.contains("120")})
