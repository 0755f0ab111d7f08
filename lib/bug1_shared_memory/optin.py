"""What this GPU grants one block: shared memory asked for byte by byte, and images built for other architectures, each status uncleared."""

import ctypes
import tempfile
from pathlib import Path

import pandas as pd

from lib.errors import CollectionError
from lib.instruments import devices, toolchain

# A kernel that writes the last word of its dynamic shared memory and reads it back: out[0] = value.
PTX = """.version 8.8
.target {target}
.address_size 64
.extern .shared .align 16 .b8 scratch[];
.visible .entry touch(.param .u64 out, .param .u32 last, .param .u32 value) {{
  .reg .b32 %r<6>; .reg .b64 %rd<3>;
  ld.param.u64 %rd1, [out];
  ld.param.u32 %r1, [last];
  ld.param.u32 %r2, [value];
  mov.u32 %r3, scratch;
  add.u32 %r3, %r3, %r1;
  st.volatile.shared.u32 [%r3], %r2;
  ld.volatile.shared.u32 %r4, [%r3];
  cvta.to.global.u64 %rd2, %rd1;
  st.global.u32 [%rd2], %r4;
  ret;
}}
"""
VALUE = 0x5A17


def image(target):
    """The kernel assembled for a target (bytes).

    Raises
    ------
    CollectionError
        If ptxas does not know the target.
    """
    with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
        source, cubin = Path(folder, "touch.ptx"), Path(folder, "touch.cubin")
        source.write_text(PTX.format(target=target))
        done = toolchain.find().run("ptxas", f"-arch={target}", source, "-o", cubin)
        if done.returncode:
            raise CollectionError(f"ptxas does not assemble for {target}: {done.stderr.strip()[:200]}",
                                  "choose a target that ptxas knows, as sm_121a")
        return cubin.read_bytes()


class Device:
    """The first GPU through CUDA's driver, with its primary context current inside a ``with`` block; every call gives its status's name.

    Parameters
    ----------
    cuda : module
        ``cuda.bindings.driver``, or a stand-in.
    """

    def __init__(self, cuda):
        self.cuda = cuda

    def must(self, answer):
        """The value of a call that has to succeed."""
        status, *values = answer
        if int(status) != 0:
            raise CollectionError(f"CUDA's driver answers {status.name}", "check the driver with nvidia-smi")
        return values[0] if values else None

    def __enter__(self):
        self.must(self.cuda.cuInit(0))
        self.device = self.must(self.cuda.cuDeviceGet(0))
        self.must(self.cuda.cuCtxSetCurrent(self.must(self.cuda.cuDevicePrimaryCtxRetain(self.device))))
        return self

    def __exit__(self, *_):
        self.cuda.cuDevicePrimaryCtxRelease(self.device)

    def load(self, binary):
        """The status of loading a binary (str), and the module if it loads."""
        status, module = self.cuda.cuModuleLoadData(binary)
        return status.name, module if int(status) == 0 else None

    def grant(self, module, name, size):
        """The status of asking for `size` bytes of dynamic shared memory for a kernel (str), and the kernel."""
        function = self.must(self.cuda.cuModuleGetFunction(module, name))
        attribute = self.cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        return self.cuda.cuFuncSetAttribute(function, attribute, size)[0].name, function

    def touch(self, function, size):
        """Launch with `size` bytes and read their last word back: ``ran``, ``wrong value``, or the status of the call that failed (str)."""
        out = self.must(self.cuda.cuMemAlloc(4))
        try:
            arguments = ((int(out), size - 4, VALUE), (ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint))
            for status, *_ in (self.cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, size, 0, arguments, 0), self.cuda.cuCtxSynchronize()):
                if int(status) != 0:
                    return status.name
            found = ctypes.c_uint()
            self.must(self.cuda.cuMemcpyDtoH(ctypes.addressof(found), out, 4))
            return "ran" if found.value == VALUE else "wrong value"
        finally:
            self.cuda.cuMemFree(out)


def decide(sizes, others=("sm_90a", "sm_100a", "sm_120a", "sm_121a"), cuda=None, gpu=None):
    """Ask the first GPU of this machine for each size, for its own limit and one byte more; then load images for other architectures.

    Parameters
    ----------
    sizes : sequence of int
        Bytes of dynamic shared memory.
    others : sequence of str
        Targets to build images for; the GPU's own is left out.

    Returns
    -------
    DataFrame
        ``asked`` (what), ``bytes``, ``call`` (the driver's), ``status`` (its name as CUDA gives it, uncleared), ``launch`` (what came of a
        launch that uses the last byte; empty where there was none). Empty if there is no GPU: `devices.why_none` says why.
    """
    columns = ["asked", "bytes", "call", "status", "launch"]
    gpus = [gpu] if gpu else devices.gpus()
    if not gpus:
        return pd.DataFrame(columns=columns)
    if cuda is None:
        from cuda.bindings import driver as cuda
    gpu, rows = gpus[0], []
    own = f"sm_{gpu.sm}{'a' * (gpu.sm >= 90)}"
    with Device(cuda) as device:
        for size in sorted({*sizes, gpu.shared_per_block, gpu.shared_per_block + 1}):
            status, module = device.load(image(own))
            if module is None:
                rows.append((f"an image for {own}", None, "cuModuleLoadData", status, ""))
                break
            status, function = device.grant(module, b"touch", size)
            launch = device.touch(function, size) if status == "CUDA_SUCCESS" else ""
            rows.append((f"{size:,} B", size, "cuFuncSetAttribute", status, launch))
            device.cuda.cuModuleUnload(module)
        for target in others:
            if target != own:
                rows.append((f"an image for {target}", None, "cuModuleLoadData", device.load(image(target))[0], ""))
    return pd.DataFrame(rows, columns=columns).astype({"bytes": "Int64"})
