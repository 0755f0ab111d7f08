"""The grid of the atlas: the kernels of atlas.toml, sub-grid by sub-grid."""

import tomllib
from itertools import product
from pathlib import Path

from lib.bug1_shared_memory import gemm
from lib.bug1_shared_memory.gemm import Gemm
from lib.instruments import nvcc
from lib.subjects import wheels

TOLD = tomllib.loads(Path(__file__).with_name("atlas.toml").read_text())
GRIDS = {each.pop("name"): each for each in TOLD["grid"]}
INCLUDE = "cutlass_library/source/include"  # of the wheel nvidia-cutlass
OWN = {"asks", "of", "target"}  # what is no field of a kernel


def kernels(name):
    """The kernels of a sub-grid (list of `Gemm`), the same for each CUTLASS that it asks."""
    grid = {field: value if isinstance(value, list) else [value]
            for field, value in GRIDS[name].items() if field not in OWN}
    together = grid.pop("with", [{}])
    return [kernel(dict(zip(grid, values)) | more)
            for values in product(*grid.values()) for more in together]


def kernel(fields):
    """A kernel (`Gemm`) from m, n, k, `like_d` and the fields of `Gemm`."""
    tile = tuple(fields.pop(each) for each in "mnk")
    if fields.pop("like_d", False):
        fields["c"] = fields.get("d", "bf16")
    return Gemm(tile, **fields)


def targets(name):
    """What nvcc compiles a sub-grid for (dict of target to its kernels)."""
    found = {}
    for each in kernels(name):
        found.setdefault(GRIDS[name].get("target", gemm.TARGETS[each.arch]), []).append(each)
    return found


def front_end(of, target):
    """nvcc over the CUTLASS of a pinned wheel, for a target (`nvcc.FrontEnd`)."""
    name, _, version = of.rpartition("==")
    if not name:
        return nvcc.of_flashinfer(of, target)
    headers = wheels.source(name, version) / INCLUDE
    return nvcc.FrontEnd(headers, (), wheels.pin(name, version).sha256, target)
