"""An FP8 GEMM with block scales, like TensorRT-LLM's ``fp8_block_scaling_gemm``, in Triton.

The activation is (m, k) e4m3 with a float32 scale for 1 x 128 elements, in a vector of
`tuning.scale_length` in the order of TensorRT-LLM's quantiser off SM100: block by block of k, in
each the rows, padded to 4. The weight is (n, k) e4m3 with (n / 128, k / 128) scales; n and k are
multiples of 128. The output is bf16. A tuner that times kernels on wrong shapes makes them read
past the end of the vector; this one is told the length and does not (`tuning.drive` counts).
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
NEEDED = 2 << 30  # bytes of GPU memory: copies of the weight, and a float64 reference
MULTIPLIES = r"(wgmma|tcgen05\.mma|mma)[\w.:]*?(\.(?:e4m3|f16|bf16|f8f6f4)\b|kind::\w+)"


@dataclass(frozen=True)
class Tactic:
    """A way to run the GEMM: tile of the output, warps, stages of the pipeline (k block 128)."""

    m: int
    n: int
    warps: int
    stages: int

    @property
    def shared(self):
        """Bytes of the pipeline's buffers: `stages` of both operands, 1 byte an element."""
        return self.stages * (self.m + self.n) * 128


# The first is the default (tactic -1), as FlashInfer's runners have it: a tile for large m.
TACTICS = (Tactic(128, 128, 8, 3), Tactic(64, 128, 4, 4), Tactic(64, 64, 4, 4),
           Tactic(32, 64, 4, 5), Tactic(16, 128, 4, 4), Tactic(16, 64, 4, 6), Tactic(16, 32, 4, 8))


def why_not():
    """Why the kernel cannot run here, in one line; the empty string where it can be tried."""
    if reason := timing.why_not():
        return reason
    if not importlib.util.find_spec("triton"):
        return "A GPU is here, but no Triton; install it (3.2 or newer) to run this."
    try:
        if (free := torch.cuda.mem_get_info()[0]) < NEEDED:
            return f"A GPU is here, but has {free:,} bytes free, and this needs {NEEDED:,}."
        quantise(torch.randn(1, 128, device="cuda"), 1)
    except Exception as error:
        return f"A GPU is here, but torch cannot make e4m3 on it: {first_line(error)}"
    return ""


def first_line(error):
    """An exception in one line."""
    said = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {said[0]}"


def vector(scales):
    """Put a matrix of scales, (m, blocks), into the padded vector (float32; padding is NaN)."""
    rows, blocks = scales.shape
    padded = scales.new_full((tuning.scale_length(rows, 128 * blocks),), float("nan"))
    padded[:blocks * tuning.stride(rows)].view(blocks, -1)[:, :rows] = scales.T
    return padded


def matrix(padded, rows, blocks):
    """Take the (rows, blocks) matrix of scales out of the padded vector."""
    return padded[:blocks * tuning.stride(rows)].view(blocks, -1)[:, :rows].T


def quantise(values, tall):
    """Quantise (rows, columns) to e4m3 with a float32 scale for `tall` x 128 elements.

    Returns both, scales as (rows / tall, columns / 128); CollectionError if that does not divide.
    """
    if values.shape[0] % tall or values.shape[1] % 128:
        raise CollectionError(f"{tuple(values.shape)} does not divide into blocks of {tall} x 128",
                              "use a shape that does")
    blocks = values.float().unflatten(1, (-1, 128)).unflatten(0, (-1, tall))
    scales = (blocks.abs().amax((1, 3)) / LARGEST).clamp(min=1e-12)
    whole = (blocks / scales[:, None, :, None]).flatten(2).flatten(0, 1)
    return whole.to(torch.float8_e4m3fn), scales


def dequantise(values, scales, tall):
    """What quantised values stand for (float64)."""
    whole = scales.double().repeat_interleave(tall, 0).repeat_interleave(128, 1)
    return values.double() * whole


class Operator:
    """The GEMM with one weight, and the tactics that this device can run.

    `columns` and `depth` are n and k: a shared expert of DeepSeek-V3 (2 x 2048, hidden size 7168).
    """

    def __init__(self, columns=4096, depth=7168, device="cuda", tactics=TACTICS):
        self.columns, self.depth, self.device = columns, depth, device
        self.tactics, self.built = tactics, {}
        self.weight, self.weight_scale = quantise(torch.randn(columns, depth, device=device), 128)
        self.states = [self._try(number) for number in range(len(tactics))]

    def inputs(self, rows):
        """Fresh random inputs: activation, weight, scale vector, weight scales (list)."""
        activation, scales = quantise(torch.randn(rows, self.depth, device=self.device), 1)
        return [activation, self.weight, vector(scales), self.weight_scale]

    def run(self, inputs, tactic=-1, out=None):
        """Launch (tensor of bf16, (m, n), or `out`); tactic -1 is the first that runs."""
        from lib.bug4_autotuner.scaled_gemm_kernel import kernel

        activation, weight, scale, weight_scale = inputs
        rows, number = len(activation), self.default if tactic == -1 else tactic
        chosen = self.tactics[number]
        if out is None:
            out = torch.empty(rows, self.columns, dtype=torch.bfloat16, device=self.device)
        grid = -(-rows // chosen.m), self.columns // chosen.n
        self.built[number] = kernel[grid](
            activation, weight, out, scale, weight_scale, rows, self.columns, self.depth // 128,
            tuning.stride(rows), scale.numel(), tile_m=chosen.m, tile_n=chosen.n,
            num_warps=chosen.warps, num_stages=chosen.stages)
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
        """The number of the default tactic: the first that runs; CollectionError if none does."""
        if not self.valid:
            what = f"no tactic runs on this device; the first says: {self.states[0]}"
            raise CollectionError(what, "see the tactics")
        return self.valid[0]

    def described(self):
        """The tactics (DataFrame): tile, pipeline, what Triton made of each, and its state here."""
        return pd.DataFrame([
            {"tactic": number, "tile": f"{each.m}x{each.n}", "warps": each.warps,
             "stages": each.stages, "pipeline (B)": each.shared,
             **compiled(self.built.get(number)), "here": self.states[number] or "runs"}
            for number, each in enumerate(self.tactics)])

    def errors(self, sizes):
        """Check every valid tactic at every m, on fresh inputs, against a float64 reference.

        A row has the relative error in the Frobenius norm (NaN if an element was not written or
        padding was used), and the one that rounding the reference to bf16 makes (DataFrame).
        """
        known, rows = dequantise(self.weight, self.weight_scale, 128), []
        for size in sizes:
            for tactic in self.valid:
                inputs = self.inputs(size)
                scales = matrix(inputs[2], size, self.depth // 128)
                right = dequantise(inputs[0], scales, 1) @ known.T
                out = torch.full((size, self.columns), float("nan"), dtype=torch.bfloat16,
                                 device=self.device)
                got, least = self.run(inputs, tactic, out), right.bfloat16()
                error, rounding = (((each.double() - right).norm() / right.norm()).item()
                                   for each in (got, least))
                rows.append({"tactic": tactic, "m": size, "relative error": error,
                             "of bf16 alone": rounding})
        return pd.DataFrame(rows)

    def times(self, sizes, repeats=30, cycles=1_000_000):
        """Time every valid tactic at every m, with the second-level cache flushed before each call.

        Each call waits behind a spin of the GPU, `cycles` long, so that its launch is not measured.
        Microseconds by CUDA events (median and quartiles), or why it failed (DataFrame).
        """
        cache = torch.cuda.get_device_properties(0).L2_cache_size
        dirt = torch.empty(2 * cache, dtype=torch.int8, device="cuda")

        def before():
            dirt.zero_()
            torch.cuda._sleep(cycles)

        rows = []
        for size in sizes:
            inputs = self.inputs(size)
            out = torch.empty(size, self.columns, dtype=torch.bfloat16, device="cuda")
            for tactic in self.valid:
                row = {"tactic": tactic, "m": size, "time (µs)": float("nan"), "repeats": 0}
                try:
                    took = timing.elapsed(lambda: self.run(inputs, tactic, out), repeats,
                                          before=before)
                    row |= timing.spread([1e3 * ms for ms in took], "time (µs)")
                    rows.append(row | {"repeats": repeats, "error": ""})
                except Exception as error:
                    rows.append(row | {"error": first_line(error)})
        return pd.DataFrame(rows)


def compiled(kernel):
    """What Triton made of a tactic: shared memory of a block in bytes, and what multiplies."""
    if not hasattr(kernel, "asm"):
        return {}
    found = re.search(MULTIPLIES, kernel.asm.get("ptx", ""))
    return {"shared (B)": kernel.metadata.shared,
            "multiplies": f"{found[1]} {found[2].strip('.')}" if found else "not known"}
