"""What this GPU grants one block: shared memory asked for byte by byte, and images of others."""

import ctypes
from pathlib import Path
from string import Template

import pandas as pd

from lib.errors import CollectionError
from lib.instruments import devices, driver, ptxas, toolchain

PTX = Template(Path(__file__).with_name("touch.ptx").read_text())
VALUE = 0x5A17
OTHERS = ("sm_90a", "sm_100a", "sm_120a", "sm_121a")
COLUMNS = ["asked", "bytes", "call", "status", "launch"]


def image(target):
    """The kernel assembled for a target (bytes); an error if ptxas does not know it."""
    done, cubin = ptxas.run(toolchain.find(), target, PTX.substitute(target=target))
    if not cubin:
        what = f"ptxas does not assemble for {target}: {done.stderr.strip()[:200]}"
        raise CollectionError(what, "choose a target that ptxas knows, as sm_121a")
    return cubin


def touch(cuda, function, size):
    """Launch with `size` bytes and read the last word: ``ran``, ``wrong value``, or the status."""
    out, found = driver.value(cuda.cuMemAlloc(4)), ctypes.c_uint()
    values, types = (int(out), size - 4, VALUE), (ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    try:
        launched = cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, size, 0, (values, types), 0)
        for status, *_ in (launched, cuda.cuCtxSynchronize()):
            if int(status) != 0:
                return status.name
        driver.value(cuda.cuMemcpyDtoH(ctypes.addressof(found), out, 4))
        return "ran" if found.value == VALUE else "wrong value"
    finally:
        cuda.cuMemFree(out)


def decide(sizes, cuda=None, gpu=None):
    """Ask the first GPU for sizes (bytes), its limit and one byte more; load images for `OTHERS`.

    Returns a DataFrame, empty without a GPU: asked (what), bytes, call (the driver's), status (its
    name as CUDA gives it, uncleared), launch (what came of one that uses the last byte, if any).
    """
    if not (gpu := gpu or next(iter(devices.gpus()), None)):
        return pd.DataFrame(columns=COLUMNS)
    own, rows = f"sm_{gpu.sm}{'a' * (gpu.sm >= 90)}", []
    with driver.context(cuda) as cuda:
        attribute = cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        for size in sorted({*sizes, gpu.shared_per_block, gpu.shared_per_block + 1}):
            status, module = cuda.cuModuleLoadData(image(own))
            if int(status) != 0:
                rows.append((f"an image for {own}", None, "cuModuleLoadData", status.name, ""))
                break
            function = driver.value(cuda.cuModuleGetFunction(module, b"touch"))
            status, *_ = cuda.cuFuncSetAttribute(function, attribute, size)
            launch = touch(cuda, function, size) if int(status) == 0 else ""
            rows.append((f"{size:,} B", size, "cuFuncSetAttribute", status.name, launch))
            cuda.cuModuleUnload(module)
        for target in OTHERS:
            if target != own:
                status, *_ = cuda.cuModuleLoadData(image(target))
                rows.append((f"an image for {target}", None, "cuModuleLoadData", status.name, ""))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"bytes": "Int64"})
