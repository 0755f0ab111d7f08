"""An FP8 GEMM with block scales, like TensorRT-LLM's ``fp8_block_scaling_gemm``, in Triton."""

import re
from itertools import product
from typing import NamedTuple

import pandas as pd
import torch

from lib.bug4_autotuner import tuning
from lib.bug4_autotuner.autotuner import attempt
from lib.errors import CollectionError
from lib.instruments import timing

LARGEST = 448.0  # of e4m3
MULTIPLIES = r"(wgmma|tcgen05\.mma|mma)[\w.:]*?(\.(?:e4m3|f16|bf16|f8f6f4)\b|kind::\w+)"


class Tactic(NamedTuple):
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


def vector(scales):
    """Put a matrix of scales, (m, blocks), into the padded vector (float32; padding is NaN)."""
    rows, blocks = scales.shape
    padded = scales.new_full((tuning.scale_length(rows, 128 * blocks),), float("nan"))
    matrix(padded, rows, blocks)[:] = scales
    return padded


def matrix(padded, rows, blocks):
    """The (rows, blocks) matrix of scales in the padded vector (a view)."""
    return padded[:blocks * tuning.stride(rows)].view(blocks, -1)[:, :rows].T


def quantise(values, tall):
    """Quantise to e4m3 with a float32 scale, (m / tall, k / 128), for `tall` x 128 elements."""
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
    """The GEMM with one weight, and the tactics that run here (their numbers are ``valid``).

    The activation is (m, k) e4m3 with a float32 scale for 1 x 128 elements, in a vector as
    TensorRT-LLM's quantiser gives it off SM100: block by block of k, in each the rows, padded to 4.
    The weight is (n, k) e4m3 with (n / 128, k / 128) scales; the output is bf16. `columns` and
    `depth` are n and k, multiples of 128: a shared expert of DeepSeek-V3 (2 x 2048, hidden 7168).
    """

    def __init__(self, columns=4096, depth=7168, device="cuda", tactics=TACTICS):
        self.columns, self.depth, self.device = columns, depth, device
        self.tactics, self.built = tactics, {}
        self.drawn = torch.Generator(device).manual_seed(0)
        self.weight, self.weight_scale = quantise(self.random(columns), 128)
        self.states = [attempt(lambda: self.run(self.inputs(1), number).sum().item()).error
                       for number in range(len(tactics))]
        self.valid = [number for number, state in enumerate(self.states) if not state]
        self.default = min(self.valid, default=None)  # the number behind tactic -1

    def random(self, rows):
        """Normal numbers, the same from run to run (tensor, (rows, k))."""
        return torch.randn(rows, self.depth, device=self.device, generator=self.drawn)

    def inputs(self, rows):
        """Fresh random inputs: activation, weight, scale vector, weight scales (list)."""
        activation, scales = quantise(self.random(rows), 1)
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

    def described(self):
        """The tactics (DataFrame): tile, pipeline, what Triton made of each, and its state here."""
        return pd.DataFrame([
            {"tactic": number, "tile": f"{each.m}x{each.n}", "warps": each.warps,
             "stages": each.stages, "pipeline (B)": each.shared,
             **compiled(self.built.get(number)), "here": self.states[number] or "runs"}
            for number, each in enumerate(self.tactics)])

    def errors(self, sizes):
        """The error of every valid tactic at every m, on fresh inputs, against float64 (DataFrame).

        In the Frobenius norm, relative; NaN if an element was not written or padding was used.
        """
        known, rows = dequantise(self.weight, self.weight_scale, 128), []
        self.drawn.manual_seed(1)  # however many numbers were drawn before
        for size, tactic in product(sizes, self.valid):
            inputs = activation, _, scales, _ = self.inputs(size)
            scales = matrix(scales, size, self.depth // 128)
            right = dequantise(activation, scales, 1) @ known.T
            out = torch.full_like(right, float("nan"), dtype=torch.bfloat16)
            error, rounding = (((each.double() - right).norm() / right.norm()).item()
                               for each in (self.run(inputs, tactic, out), right.bfloat16()))
            rows.append({"tactic": tactic, "m": size, "relative error": error,
                         "of bf16 alone": rounding})
        return pd.DataFrame(rows)

    def times(self, sizes, repeats=30):
        """Time every valid tactic at every m, in µs by CUDA events, or say why not (DataFrame)."""
        cache = torch.cuda.get_device_properties(0).L2_cache_size
        dirt = torch.empty(2 * cache, dtype=torch.int8, device="cuda")

        def before():
            dirt.zero_()  # which flushes the cache
            torch.cuda._sleep(1_000_000)  # cycles, so that the launch is not measured

        def row(tactic, size, inputs):
            took = attempt(timing.elapsed, lambda: self.run(inputs, tactic), repeats, before=before)
            samples = [1e3 * each for each in took.value or [float("nan")]]
            return {"tactic": tactic, "m": size, "repeats": len(took.value or []),
                    "error": took.error} | timing.spread(samples, "time (µs)")

        drawn = ((size, self.inputs(size)) for size in sizes)
        return pd.DataFrame([row(tactic, *given) for given in drawn for tactic in self.valid])


def compiled(kernel):
    """What Triton made of a tactic: shared memory of a block in bytes, and what multiplies."""
    if not hasattr(kernel, "asm"):
        return {}
    found = re.search(MULTIPLIES, kernel.asm.get("ptx", ""))
    return {"shared (B)": kernel.metadata.shared,
            "multiplies": f"{found[1]} {found[2].strip('.')}" if found else "not known"}
