"""llama.cpp as its Python package ships it in source: formats, measurements, CUDA kernels."""

import re
import runpy
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import nvcc, sass
from lib.subjects import wheels

CUDA = "ggml/src/ggml-cuda"
FLAGS = ("-cubin", "-O3", "-std=c++17", "--expt-relaxed-constexpr", "-extended-lambda",
         "--use_fast_math", "-DGGML_CUDA_PEER_MAX_BATCH_SIZE=128")
# The matrix-vector unit as it is; of the other templates, whose own units hold dozens, one kernel a
# format, and attention for heads of 128 with more than 4 query heads to a key head, as M2.5 has.
MMQ = "".join(f"(void *) mul_mat_q<GGML_TYPE_{form}, 128, false>, "
              for form in ("Q3_K", "Q8_0", "MXFP4"))
UNITS = {
    "matrix-vector": '#include "mmvq.cu"\n',
    "matrix-matrix": f'#include "mmq.cuh"\nvoid * kernels[] = {{{MMQ}}};\n',
    "attention, vector": '#include "fattn-vec.cuh"\n'
                         "DECL_FATTN_VEC_CASE(128, GGML_TYPE_F16, GGML_TYPE_F16);\n",
    "attention, matrix": '#include "fattn-mma-f16.cuh"\nDECL_FATTN_MMA_F16_CASE(128, 128, 1, 8);\n',
}
# Declarations enough to parse ggml-cuda's headers without cuBLAS; nothing compiled here calls it.
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
cublasStatus_t cublasCreate(cublasHandle_t *), cublasDestroy(cublasHandle_t);
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t);
cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t);
}
"""
KERNEL = re.compile(r"(mul_mat_(?:vec_)?q)IL9ggml_type(\d+)ELi(\d+)E"
                    r"|(flash_attn_ext_vec)ILi128ELi(\d+)E|(flash_attn_ext_f16)ILi128ELi128ELi(\d+)E")
MATRIX, DOT = re.compile(r"[HIQO]MMA\.[\w.]*"), re.compile(r"IDP\.4A")
TEST = re.compile(r"(pp|tg)(\d+)(?: @ d(\d+))?")


def source(version):
    """The tree of llama.cpp in a pinned source package of llama-cpp-python (Path; read-only)."""
    folder = wheels.source("llama-cpp-python", version)
    return folder / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"


def read(tree, name):
    """The text of a file of the tree; raises CollectionError if it is not there."""
    try:
        return (tree / name).read_text()
    except OSError as error:
        raise CollectionError(f"{tree} has no {name}", "name a tree from source()") from error


def found(pattern, text, name):
    """The groups of a pattern's first match, as numbers; raises CollectionError if none."""
    if match := re.search(pattern, text):
        return [int(group) for group in match.groups()]
    raise CollectionError(f"{name} does not say {pattern!r}", "read it: llama.cpp changed")


def block_sizes(tree):
    """llama.cpp's own table of formats, run: name to (weights in a block, bytes of a block)."""
    name = "gguf-py/gguf/constants.py"
    read(tree, name)
    sizes = runpy.run_path(str(tree / name))["GGML_QUANT_SIZES"]
    return {form.name.lower(): pair for form, pair in sizes.items()}


def rules(tree):
    """When llama.cpp leaves the vector kernels (dict of int).

    ``columns`` and ``columns_experts``: the most columns (tokens of a step) that the matrix-vector
    kernels take; ``group`` and ``cached``: more query heads a key head than that and at least as
    many cached tokens send attention to a tensor-core kernel even for one token.
    """
    header = read(tree, f"{CUDA}/mmvq.cuh")
    columns, = found(r"#define MMVQ_MAX_BATCH_SIZE (\d+)", header, "mmvq.cuh")
    experts, = found(r"#define MMVQ_MMID_MAX_BATCH_SIZE (\d+)", header, "mmvq.cuh")
    one = (r"Q->ne\[1\] == 1 && Q->ne\[3\] == 1 && "
           r"!\(gqa_ratio > (\d+) && K->ne\[1\] >= (\d+)\)")
    group, cached = found(one, read(tree, f"{CUDA}/fattn.cu"), "fattn.cu")
    return {"columns": columns, "columns_experts": experts, "group": group, "cached": cached}


def measured(tree, reports):
    """What llama.cpp's authors measured on a DGX Spark, from the reports beside the source.

    `reports` takes a file to its ``link`` and its ``headings`` (to our names of model and recipe;
    others are passed over). The rows (list of dict) are as ``roofline.shares`` takes them, with gib
    and billions: size and parameters as llama-bench prints them, or None.
    """
    rows = []
    for file, report in reports.items():
        common = {"source": report["link"], "batch": 1, "context": 0, "kv": "bf16", "sparks": 1,
                  "gib": None, "billions": None}
        heading, columns = "", []
        for line in read(tree, file).splitlines():
            table = line.strip("|").split("|") if line.startswith("|") else []
            cells = [cell.strip() for cell in table]
            heading = line[3:].strip() if line.startswith("## ") else heading
            if {"t/s", "TG"} & set(cells):
                columns = cells
            elif heading in report["headings"] and cells and len(cells) == len(columns):
                if cells[0].startswith(("-", ":")):
                    continue
                names = dict(zip(("model", "recipe"), report["headings"][heading]))
                rows.append(common | names | measurement(dict(zip(columns, cells))))
    return rows


def measurement(row):
    """A row of llama-bench or of llama-batched-bench (dict of str) as a measurement (dict)."""
    if "TG" in row:
        prompt, made, batch = (int(row[name]) for name in ("PP", "TG", "B"))
        return {"kind": "decode", "batch": batch, "context": prompt + made,
                "tokens_per_s": float(row["S_TG t/s"]), "what": "llama-batched-bench"}
    kind, tokens, depth = TEST.fullmatch(row["test"]).groups()
    speed, gib, billions = (float(row[name].split()[0]) for name in ("t/s", "size", "params"))
    place = {"kind": "prefill", "batch": int(tokens)} if kind == "pp" else {"kind": "decode"}
    return place | {"context": int(depth or 0), "tokens_per_s": speed, "gib": gib,
                    "billions": billions, "what": "llama-bench"}


def kernels(tree, tc, target):
    """llama.cpp's kernels for weights and attention, compiled, and what they multiply with.

    Returns
    -------
    DataFrame
        unit (of `UNITS`), kernel, format, columns (tokens at once), instructions, dot products (of
        four 8-bit integers, on the CUDA cores), tensor-core instructions, and which those are.

    Raises
    ------
    CollectionError
        If a unit does not compile for the target.
    """
    enum = re.findall(r"GGML_TYPE_(\w+)\s*=\s*(\d+)", read(tree, "ggml/include/ggml.h"))
    types = {number: name.lower() for name, number in enum}

    def compiled(unit):
        with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
            Path(folder, "cublas_v2.h").write_text(CUBLAS)
            Path(folder, "unit.cu").write_text(UNITS[unit])
            include = [tree / "ggml/include", tree / "ggml/src", tree / CUDA, folder, *tc.include]
            made = tc.run("nvcc", *FLAGS, f"-arch={target}", *(f"-I{path}" for path in include),
                          "unit.cu", "-o", "unit.cubin", cwd=folder)
            if made.returncode:
                said = nvcc.first_error(made.stderr)
                raise CollectionError(f"llama.cpp's {unit} does not compile for {target}: {said}",
                                      "name a target that nvcc knows, as sm_121a")
            parts = sass.FUNCTION.split(tc.run("nvdisasm", "unit.cubin", cwd=folder).stdout)[1:]
        return [counted(unit, match, text) for name, text in zip(parts[::2], parts[1::2])
                if (match := KERNEL.search(name))]

    def counted(unit, match, text):
        kernel, *form, columns = filter(None, match.groups())
        ops = Counter(op for _, op in sass.OPCODE.findall(text))
        matrix = {op: count for op, count in ops.items() if MATRIX.match(op)}
        return {"unit": unit, "kernel": kernel, "format": types[form[0]] if form else "f16",
                "columns": int(columns), "instructions": ops.total(),
                "dot products": sum(count for op, count in ops.items() if DOT.match(op)),
                "tensor-core": sum(matrix.values()),
                "instruction": max(matrix, key=matrix.get, default="")}

    def ask(_):
        with ThreadPoolExecutor(2) as pool:
            return [row for rows in pool.map(compiled, UNITS) for row in rows]

    ggml = [tree / CUDA, tree / "ggml/include"]
    inputs = {"toolchain": tc.version, "target": target, "ggml": ggml}
    return pd.DataFrame(cache.remember("llama-cpp", inputs, ask).value)
