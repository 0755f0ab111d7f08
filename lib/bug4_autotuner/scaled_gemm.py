"""An FP8 GEMM with block scales that really runs: like TensorRT-LLM's ``fp8_block_scaling_gemm``, written in Triton, tunable.

The activation is (m, k) e4m3 with a float32 scale for 1 x 128 elements. Its scales are a vector of `tuning.scale_length` elements in the
order of TensorRT-LLM's quantiser off SM100: block by block of k, in each the rows, padded to a multiple of 4; the rest is padding.
The weight is (n, k) e4m3 with (n / 128, k / 128) scales; n and k are multiples of 128. The output is bf16.

A scale vector of the wrong length is a real danger: a tuner that times kernels on wrong shapes makes them read past its end. This kernel is
told the length and does not read what is not there, so that nothing is harmed; who calls it counts (`tuning.drive`).
"""

import importlib.util
import re
from dataclasses import dataclass

import pandas as pd
import torch

from lib.bug4_autotuner import tuning
from lib.errors import CollectionError
from lib.instruments import timing

LARGEST = 448.0  # of e4m3
NEEDED = 2 << 30  # bytes of GPU memory: the weight, several copies of it while the tuner rotates them, and a float64 reference


@dataclass(frozen=True)
class Tactic:
    """A way to run the GEMM: the tile of the output, warps, and stages of the software pipeline (k block 128)."""

    m: int
    n: int
    warps: int
    stages: int

    @property
    def shared(self):
        """Bytes of the pipeline's buffers: `stages` of both operands, 1 byte an element."""
        return self.stages * (self.m + self.n) * 128

    def __str__(self):
        return f"{self.m}x{self.n}, {self.warps} warps, {self.stages} stages"


# The first is the default (tactic -1), as FlashInfer's runners have it: a tile for large m.
TACTICS = (Tactic(128, 128, 8, 3), Tactic(64, 128, 4, 4), Tactic(64, 64, 4, 4), Tactic(32, 64, 4, 5), Tactic(16, 128, 4, 4),
           Tactic(16, 64, 4, 6), Tactic(16, 32, 4, 8))


def why_not():
    """Why the kernel cannot run here, in one line; the empty string where it can be tried."""
    if reason := timing.why_not():
        return reason
    if not importlib.util.find_spec("triton"):
        return "A GPU is here, but no Triton; install it (3.2 or newer) to run this."
    try:
        if (free := torch.cuda.mem_get_info()[0]) < NEEDED:
            return f"A GPU is here, but it has only {free:,} bytes free, and this needs {NEEDED:,}."
        quantise(torch.randn(1, 128, device="cuda"), 1)
    except Exception as error:
        return f"A GPU is here, but torch cannot make e4m3 on it: {first_line(error)}"
    return ""


def first_line(error):
    """An exception in one line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"


def vector(scales):
    """Put a matrix of scales, (m, blocks), into the padded vector (float32); the padding is NaN, so that using it shows."""
    rows, blocks = scales.shape
    padded = scales.new_full((tuning.scale_length(rows, 128 * blocks),), float("nan"))
    padded[:blocks * tuning.stride(rows)].view(blocks, -1)[:, :rows] = scales.T
    return padded


def matrix(padded, rows, blocks):
    """Take the (rows, blocks) matrix of scales out of the padded vector."""
    return padded[:blocks * tuning.stride(rows)].view(blocks, -1)[:, :rows].T


def quantise(values, tall):
    """Quantise to e4m3 with a scale for `tall` x 128 elements: the largest of them becomes 448.

    Parameters
    ----------
    values : tensor, (rows, columns)
        Columns a multiple of 128, rows of `tall`.

    Returns
    -------
    tensor of float8_e4m3fn, (rows, columns), and tensor of float32, (rows / tall, columns / 128)
        The values are the product of both.
    """
    if values.shape[0] % tall or values.shape[1] % 128:
        raise CollectionError(f"{tuple(values.shape)} does not divide into blocks of {tall} x 128", "use a shape that does")
    blocks = values.float().unflatten(1, (-1, 128)).unflatten(0, (-1, tall))
    scales = (blocks.abs().amax((1, 3)) / LARGEST).clamp(min=1e-12)
    return (blocks / scales[:, None, :, None]).flatten(2).flatten(0, 1).to(torch.float8_e4m3fn), scales


def dequantise(values, scales, tall):
    """What quantised values stand for (float64)."""
    return values.double() * scales.double().repeat_interleave(tall, 0).repeat_interleave(128, 1)


class Operator:
    """The GEMM with one weight, and the tactics that this device can run.

    Parameters
    ----------
    columns, depth : int
        n and k; by default a shared expert of DeepSeek-V3 (gate and up, 2 x 2048, of hidden size 7168).
    """

    def __init__(self, columns=4096, depth=7168, device="cuda", tactics=TACTICS):
        self.columns, self.depth, self.device, self.tactics, self.built = columns, depth, device, tactics, {}
        self.weight, self.weight_scale = quantise(torch.randn(columns, depth, device=device), 128)
        self.states = [self._try(number) for number in range(len(tactics))]

    def inputs(self, rows):
        """Fresh random inputs for m = `rows`: activation, weight, scale vector, weight scales (list of tensors)."""
        activation, scales = quantise(torch.randn(rows, self.depth, device=self.device), 1)
        return [activation, self.weight, vector(scales), self.weight_scale]

    def run(self, inputs, tactic=-1, out=None):
        """Launch (tensor of bf16, (m, n)); tactic -1 is the default, the first that runs. `out` is written if it is given."""
        from lib.bug4_autotuner.scaled_gemm_kernel import kernel

        activation, weight, scale, weight_scale = inputs
        rows, number = len(activation), self.default if tactic == -1 else tactic
        chosen = self.tactics[number]
        out = torch.empty(rows, self.columns, dtype=torch.bfloat16, device=self.device) if out is None else out
        grid = -(-rows // chosen.m), self.columns // chosen.n
        self.built[number] = kernel[grid](
            activation, weight, out, scale, weight_scale, rows, self.columns, self.depth // 128, tuning.stride(rows), scale.numel(),
            tile_m=chosen.m, tile_n=chosen.n, num_warps=chosen.warps, num_stages=chosen.stages)
        return out

    def _try(self, number):
        """Compile and launch a tactic once: the empty string, or why it cannot run here."""
        try:
            self.run(self.inputs(1), number)
            if self.device == "cuda":
                torch.cuda.synchronize()
        except Exception as error:  # a compiler's or a launch's, of any class
            return first_line(error)
        return ""

    @property
    def valid(self):
        """The numbers of the tactics that run here (list of int)."""
        return [number for number, state in enumerate(self.states) if not state]

    @property
    def default(self):
        """The number of the default tactic: the first that runs.

        Raises
        ------
        CollectionError
            If none does.
        """
        if not self.valid:
            raise CollectionError(f"no tactic runs on this device; the first says: {self.states[0]}", "see the table of tactics")
        return self.valid[0]

    def table(self):
        """The tactics (DataFrame): tile, warps, stages, bytes of the pipeline and of shared memory as compiled, instruction, state here."""
        return pd.DataFrame([{"tactic": number, "tile": f"{each.m}x{each.n}", "warps": each.warps, "stages": each.stages,
                              "pipeline (B)": each.shared, **compiled(self.built.get(number)), "here": self.states[number] or "runs"}
                             for number, each in enumerate(self.tactics)])

    def errors(self, sizes):
        """Check every valid tactic at every m: fresh inputs, an output full of NaN before, a float64 reference of the quantised values.

        Returns
        -------
        DataFrame
            tactic, m, the relative error in the Frobenius norm (NaN if an element was not written or the padding was used), and the one
            that rounding the reference to bf16 makes.
        """
        known, rows = dequantise(self.weight, self.weight_scale, 128), []
        for size in sizes:
            for tactic in self.valid:
                inputs = self.inputs(size)
                right = dequantise(inputs[0], matrix(inputs[2], size, self.depth // 128), 1) @ known.T
                out = torch.full((size, self.columns), float("nan"), dtype=torch.bfloat16, device=self.device)
                error, least = ((each.double() - right).norm() / right.norm() for each in (self.run(inputs, tactic, out), right.bfloat16()))
                rows.append({"tactic": tactic, "m": size, "relative error": error.item(), "of bf16 alone": least.item()})
        return pd.DataFrame(rows)


def compiled(kernel):
    """What Triton made of a tactic: bytes of shared memory a block, and the instruction that multiplies, with its type (dict)."""
    if not hasattr(kernel, "asm"):
        return {}
    found = re.search(r"(wgmma|tcgen05\.mma|mma)[\w.:]*?(\.(?:e4m3|f16|bf16|f8f6f4)\b|kind::\w+)", kernel.asm.get("ptx", ""))
    return {"shared (B)": kernel.metadata.shared, "multiplies": f"{found[1]} {found[2].strip('.')}" if found else "not known"}


def measure(operator, sizes, repeats=30, cycles=1_000_000):
    """Time every valid tactic at every m, the second-level cache flushed (twice its bytes are written) before each call.

    Each call waits behind a short spin of the GPU, `cycles` long, so that the time to launch it from Python is not measured.

    Returns
    -------
    DataFrame
        tactic, m, microseconds by CUDA events (median and quartiles of `repeats` after warm-up), and an error where it failed.
    """
    dirt = torch.empty(2 * torch.cuda.get_device_properties(0).L2_cache_size, dtype=torch.int8, device="cuda")

    def before():
        dirt.zero_()
        torch.cuda._sleep(cycles)

    rows = []
    for size in sizes:
        inputs = operator.inputs(size)
        out = torch.empty(size, operator.columns, dtype=torch.bfloat16, device="cuda")
        for tactic in operator.valid:
            try:
                took = [1e3 * ms for ms in timing.elapsed(lambda: operator.run(inputs, tactic, out), repeats, before=before)]
                rows.append({"tactic": tactic, "m": size, **timing.spread(took, "time (µs)"), "repeats": repeats, "error": ""})
            except Exception as error:
                rows.append({"tactic": tactic, "m": size, "time (µs)": float("nan"), "repeats": 0, "error": first_line(error)})
    return pd.DataFrame(rows)
