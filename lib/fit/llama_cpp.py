"""llama.cpp as its Python package ships it in source: block sizes, published measurements, and its CUDA kernels compiled for a target."""

import ast
import json
import operator
import re
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import sass
from lib.subjects import wheels

CUDA = "ggml/src/ggml-cuda"
FLAGS = ("-cubin", "-O3", "-std=c++17", "--expt-relaxed-constexpr", "--use_fast_math", "-DGGML_CUDA_PEER_MAX_BATCH_SIZE=128")
# The matrix-vector unit as it is, and one kernel each of the matrix-matrix template, whose own units hold 32 of them.
UNITS = {"matrix-vector": '#include "mmvq.cu"\n',
         "matrix-matrix": """#include "mmq.cuh"
void * kernels[] = {(void *) mul_mat_q<GGML_TYPE_Q3_K, 128, false>, (void *) mul_mat_q<GGML_TYPE_Q8_0, 128, false>,
                    (void *) mul_mat_q<GGML_TYPE_MXFP4, 128, false>};
"""}
# Declarations enough to parse ggml-cuda's headers without cuBLAS; nothing that is compiled here calls it.
CUBLAS = """#pragma once
#include <cuda_runtime.h>
#include <library_types.h>
typedef struct cublasContext * cublasHandle_t;
enum cublasStatus_t { CUBLAS_STATUS_SUCCESS };
enum cublasMath_t { CUBLAS_TF32_TENSOR_OP_MATH };
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cublasComputeType_t { CUBLAS_COMPUTE_16F, CUBLAS_COMPUTE_32F };
extern "C" {
const char * cublasGetStatusString(cublasStatus_t);
cublasStatus_t cublasCreate(cublasHandle_t *);
cublasStatus_t cublasDestroy(cublasHandle_t);
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t);
cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t);
}
"""
KERNEL = re.compile(r"(mul_mat_(?:vec_)?q)IL9ggml_type(\d+)ELi(\d+)E")
MATRIX, DOT = re.compile(r"[HIQO]MMA\.[\w.]*"), re.compile(r"IDP\.4A")
TEST = re.compile(r"(pp|tg)(\d+)(?: @ d(\d+))?")


def source(version):
    """The tree of llama.cpp in a pinned source package of llama-cpp-python (Path; read-only)."""
    return wheels.source("llama-cpp-python", version) / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"


def read(tree, name):
    """The text of a file of the tree.

    Raises
    ------
    CollectionError
        If it is not there.
    """
    try:
        return (tree / name).read_text()
    except OSError as error:
        raise CollectionError(f"{tree} has no {name}", "name the tree of a pinned llama-cpp-python, as source() gives it") from error


def found(pattern, text, name):
    """The groups of the first match of a pattern in a file, as numbers.

    Raises
    ------
    CollectionError
        If it does not match: the file is not the one that was read when this was written.
    """
    if match := re.search(pattern, text):
        return [int(group) for group in match.groups()]
    raise CollectionError(f"{name} does not say {pattern!r}", "read it: llama.cpp changed")


def number(node):
    """The value of an expression of integers in Python source; ``QK_K``, the only name in it, is 256."""
    match node:
        case ast.Constant(value=int()):
            return node.value
        case ast.Name(id="QK_K"):
            return 256
        case ast.BinOp(op=ast.Add() | ast.Mult() | ast.FloorDiv()):
            work = {ast.Add: operator.add, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}[type(node.op)]
            return work(number(node.left), number(node.right))
    raise CollectionError(f"{ast.unparse(node)} is no sum or product of integers", "read gguf's constants.py: llama.cpp changed")


def block_sizes(tree):
    """llama.cpp's own table of formats: name in lower case to (weights in a block, bytes of a block)."""
    name = "gguf-py/gguf/constants.py"
    for node in ast.parse(read(tree, name)).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(getattr(target, "id", "") == "GGML_QUANT_SIZES" for target in targets):
            return {key.attr.lower(): tuple(map(number, pair.elts)) for key, pair in zip(node.value.keys, node.value.values)}
    raise CollectionError(f"{name} has no GGML_QUANT_SIZES", "read it: llama.cpp changed")


def rules(tree):
    """When llama.cpp leaves the matrix-vector kernels, and when attention leaves the vector kernel (dict of int).

    ``columns`` and ``columns_experts``: the most columns (tokens of a step) of the former; ``group`` and ``cached``: more query heads a
    key head than that and at least as many cached tokens send attention to a tensor-core kernel even for one token.
    """
    header = read(tree, f"{CUDA}/mmvq.cuh")
    columns, = found(r"#define MMVQ_MAX_BATCH_SIZE (\d+)", header, "mmvq.cuh")
    experts, = found(r"#define MMVQ_MMID_MAX_BATCH_SIZE (\d+)", header, "mmvq.cuh")
    one = r"Q->ne\[1\] == 1 && Q->ne\[3\] == 1 && !\(gqa_ratio > (\d+) && K->ne\[1\] >= (\d+)\)"
    group, cached = found(one, read(tree, f"{CUDA}/fattn.cu"), "fattn.cu")
    return {"columns": columns, "columns_experts": experts, "group": group, "cached": cached}


def measured(tree, reports):
    """What llama.cpp's authors measured on a DGX Spark, out of the reports that they keep beside the source.

    Parameters
    ----------
    reports : dict of str to dict
        A file to its ``link`` and its ``headings`` (of the report to our names of model and recipe; others are passed over).

    Returns
    -------
    list of dict
        As ``roofline.shares`` takes them, with gib and billions (size and parameters as llama-bench prints them, or None).
    """
    rows = []
    for file, report in reports.items():
        common = {"source": report["link"], "batch": 1, "context": 0, "kv": "bf16", "sparks": 1, "gib": None, "billions": None}
        heading, columns = "", []
        for line in read(tree, file).splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
            heading = line[3:].strip() if line.startswith("## ") else heading
            if {"t/s", "TG"} & set(cells):
                columns = cells
            elif cells and len(cells) == len(columns) and heading in report["headings"] and not cells[0].startswith(("-", ":")):
                names = dict(zip(("model", "recipe"), report["headings"][heading]))
                rows.append(common | names | measurement(dict(zip(columns, cells))))
    return rows


def measurement(row):
    """A row of llama-bench or of llama-batched-bench (dict of str to str) as a measurement (dict)."""
    if "TG" in row:
        prompt, made, batch = (int(row[name]) for name in ("PP", "TG", "B"))
        speed = float(row["S_TG t/s"])
        return {"kind": "decode", "batch": batch, "context": prompt + made, "tokens_per_s": speed, "what": "llama-batched-bench"}
    kind, tokens, depth = TEST.fullmatch(row["test"]).groups()
    speed, gib, billions = (float(row[name].split()[0]) for name in ("t/s", "size", "params"))
    place = {"kind": "prefill", "batch": int(tokens)} if kind == "pp" else {"kind": "decode"}
    return place | {"context": int(depth or 0), "tokens_per_s": speed, "gib": gib, "billions": billions, "what": "llama-bench"}


def kernels(tree, tc, target):
    """llama.cpp's kernels for quantised weights, compiled for a target, and what they multiply with.

    Parameters
    ----------
    tree : Path
        As `source` gives it.
    tc : toolchain.Toolchain
    target : str
        As ``sm_121a``.

    Returns
    -------
    DataFrame
        unit, kernel, format, columns (tokens at once), instructions, dot products (of four 8-bit integers, on the CUDA cores), tensor-core
        instructions, and which those are.

    Raises
    ------
    CollectionError
        If a unit does not compile.
    """
    types = {int(number): name.lower() for name, number in re.findall(r"GGML_TYPE_(\w+)\s*=\s*(\d+)", read(tree, "ggml/include/ggml.h"))}

    def compiled(item):
        unit, text = item
        with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
            Path(folder, "cublas_v2.h").write_text(CUBLAS)
            Path(folder, "unit.cu").write_text(text)
            include = [tree / "ggml/include", tree / "ggml/src", tree / CUDA, folder, *tc.include]
            made = tc.run("nvcc", *FLAGS, f"-arch={target}", *(f"-I{path}" for path in include), "unit.cu", "-o", "unit.cubin", cwd=folder)
            if made.returncode:
                said = next((line for line in made.stderr.splitlines() if "error" in line), made.stderr[:200])
                raise CollectionError(f"llama.cpp's {unit} kernels do not compile for {target}: {said}",
                                      "name a target that nvcc knows, as sm_121a")
            listing = tc.run("nvdisasm", "unit.cubin", cwd=folder).stdout
        parts = sass.FUNCTION.split(listing)[1:]
        return [row(unit, KERNEL.search(name), text) for name, text in zip(parts[::2], parts[1::2]) if KERNEL.search(name)]

    def row(unit, match, text):
        ops = Counter(op for _, op in sass.OPCODE.findall(text))
        matrix = {op: count for op, count in ops.items() if MATRIX.match(op)}
        return {"unit": unit, "kernel": match[1], "format": types[int(match[2])], "columns": int(match[3]),
                "instructions": sum(ops.values()), "dot products": sum(count for op, count in ops.items() if DOT.match(op)),
                "tensor-core": sum(matrix.values()), "instruction": max(matrix, key=matrix.get, default="")}

    def build(folder):
        with ThreadPoolExecutor(2) as pool:
            (folder / "kernels.json").write_text(json.dumps([each for rows in pool.map(compiled, UNITS.items()) for each in rows]))

    key = [tc.version, target, str(tree), Path(__file__).read_text(), sass.FUNCTION.pattern, sass.OPCODE.pattern]
    return pd.DataFrame(json.loads((cache.entry("llama-cpp", key, build) / "kernels.json").read_text()))
