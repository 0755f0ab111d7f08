"""llama.cpp as its Python package ships it in source: formats, measurements, CUDA kernels."""

import re
import runpy
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from lib import cache
from lib.errors import CollectionError
from lib.instruments import nvcc, sass
from lib.subjects import wheels

CUDA = "ggml/src/ggml-cuda"
ASKED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
UNITS = Path(__file__).with_name("units")
MATRIX, DOT = re.compile(r"[HIQO]MMA\."), "IDP.4A"
TEST = re.compile(r"(pp|tg)(\d+)(?: @ d(\d+))?")


def source(version):
    """The tree of llama.cpp in a pinned source package of llama-cpp-python (Path; read-only)."""
    folder = wheels.source("llama-cpp-python", version)
    return folder / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"


def read(tree, name):
    """The text of a file of the tree, or a CollectionError."""
    try:
        return (tree / name).read_text()
    except OSError as error:
        raise CollectionError(f"{tree} has no {name}", "name a tree from source()") from error


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
    numbers = {}
    for name, (file, pattern) in ASKED["rules"].items():
        if not (match := re.search(pattern, read(tree, f"{CUDA}/{file}"))):
            raise CollectionError(f"{file} does not say {pattern!r}", "read it: llama.cpp changed")
        numbers[name] = int(match[1])
    return numbers


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
        known, columns = None, []
        for line in read(tree, file).splitlines():
            if line.startswith("## "):
                known = report["headings"].get(line[3:].strip())
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if {"t/s", "TG"} & set(cells):
                columns = cells
            elif known and len(cells) == len(columns) and not cells[0].startswith(("-", ":")):
                model, recipe = known
                rows.append(common | {"model": model, "recipe": recipe}
                            | measurement(dict(zip(columns, cells))))
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

    A row a kernel (DataFrame): unit (a file of `UNITS`), kernel, format, columns (tokens at once),
    instructions, dot products (of four 8-bit integers, on the CUDA cores), tensor-core
    instructions, and which. A CollectionError if a unit does not compile.
    """
    enum = re.findall(r"GGML_TYPE_(\w+)\s*=\s*(\d+)", read(tree, "ggml/include/ggml.h"))
    types = {number: name.lower() for name, number in enum}
    units = sorted(UNITS.glob("*.cu"), reverse=True)
    include = [tree / "ggml/include", tree / "ggml/src", tree / CUDA, UNITS, *tc.include]
    options = [*ASKED["flags"], f"-arch={target}", *(f"-I{path}" for path in include)]

    def compiled(unit):
        with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
            made = tc.run("nvcc", *options, unit, "-o", "unit.cubin", cwd=folder)
            if made.returncode:
                said = nvcc.first_error(made.stderr)
                raise CollectionError(f"{unit.name} does not compile for {target}: {said}",
                                      "name a target that nvcc knows, as sm_121a")
            found = sass.mnemonics(tc, Path(folder, "unit.cubin").read_bytes())
        return [counted(unit, match, ops) for name, ops in found.items()
                if (match := re.search(ASKED["kernel"], name))]

    def counted(unit, match, ops):
        kernel, *form, columns = filter(None, match.groups())
        matrix = {op: count for op, count in ops.items() if MATRIX.match(op)}
        return {"unit": unit.stem, "kernel": kernel, "format": types[form[0]] if form else "f16",
                "columns": int(columns), "instructions": ops.total(),
                "dot products": sum(count for op, count in ops.items() if op.startswith(DOT)),
                "tensor-core": sum(matrix.values()),
                "instruction": max(matrix, key=matrix.get, default="")}

    def ask(_):
        with ThreadPoolExecutor(2) as pool:
            return [row for rows in pool.map(compiled, units) for row in rows]

    ggml = [UNITS, tree / CUDA, tree / "ggml/include"]
    inputs = {"toolchain": tc.version, "target": target, "sources": ggml, "asked": ASKED}
    return pd.DataFrame(cache.remember("llama-cpp", inputs, ask).value)
