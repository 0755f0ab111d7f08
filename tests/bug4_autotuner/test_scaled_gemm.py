"""The FP8 GEMM that the tuner drives: layout, quantisation, bookkeeping; the kernel in Triton's interpreter, or on a GPU."""

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from lib.bug4_autotuner import autotuner, scaled_gemm, tuning
from lib.errors import CollectionError
from lib.instruments import ptxas, timing, toolchain
from lib.subjects import wheels

WHY_NOT = timing.why_not() or ("" if importlib.util.find_spec("triton") else "Triton is not installed")
gpu = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "there is a GPU")
BUCKETS = (1, 8, 64, 512)


@pytest.fixture(scope="module")
def tree():
    return wheels.source("flashinfer-python", "0.6.6")


@settings(deadline=None)
@given(some.integers(1, 300), some.integers(1, 9))
def test_the_scale_vector_holds_the_matrix_block_by_block(rows, blocks):
    scales = torch.arange(1.0, rows * blocks + 1).view(rows, blocks)
    padded = scaled_gemm.vector(scales)
    assert padded.numel() == tuning.scale_length(rows, 128 * blocks) and padded.numel() % 32 == 0
    assert torch.equal(scaled_gemm.matrix(padded, rows, blocks), scales)
    assert padded[(blocks - 1) * (rows + -rows % 4) + rows - 1] == scales[-1, -1]
    assert padded.isnan().sum() == padded.numel() - rows * blocks


@settings(deadline=None)
@given(some.sampled_from([1, 128]), some.integers(1, 3), some.integers(1, 3), some.floats(1e-3, 1e3))
def test_quantised_values_come_back(tall, down, across, size):
    values = torch.randn(128 * down, 128 * across) * size
    quantised, scales = scaled_gemm.quantise(values, tall)
    assert scales.shape == (128 * down // tall, across) and quantised.dtype == torch.float8_e4m3fn
    assert quantised.float().abs().unflatten(1, (across, 128)).unflatten(0, (-1, tall)).amax((1, 3)).eq(448).all()
    back = scaled_gemm.dequantise(quantised, scales, tall)
    assert ((back - values).norm() / values.norm()).item() < 0.04  # e4m3 keeps 4 significant bits: at most 1/16 off, near 1/40 on average


def test_a_shape_that_does_not_divide_is_an_error():
    with pytest.raises(CollectionError, match="blocks of 128 x 128"):
        scaled_gemm.quantise(torch.ones(100, 128), 128)


def test_every_tactic_fits_sm121_and_has_one_weight_scale_a_tile():
    limit = ptxas.shared_limit(toolchain.find(), "sm_121a")
    assert all(each.shared <= limit and 128 % each.n == 0 for each in scaled_gemm.TACTICS)
    assert scaled_gemm.TACTICS[0].shared == 3 * (128 + 128) * 128


def test_a_tactic_that_cannot_run_is_left_out_and_shown(monkeypatch):
    def run(self, inputs, tactic=-1, out=None):
        if tactic in (0, 2):
            raise RuntimeError("out of resources: shared memory\nmore")
        return torch.zeros(1)
    monkeypatch.setattr(scaled_gemm.Operator, "run", run)
    operator = scaled_gemm.Operator(128, 128, device="cpu")
    assert operator.valid == [1, 3, 4, 5, 6] and operator.default == 1
    refused = "RuntimeError: out of resources: shared memory"
    assert list(operator.described()["here"][:3]) == [refused, "runs", refused]
    monkeypatch.setattr(scaled_gemm.Operator, "run", lambda *_: 1 / 0)
    none = scaled_gemm.Operator(128, 128, device="cpu")
    assert none.valid == [] and none.default is None and none.described()["here"].eq("ZeroDivisionError: division by zero").all()


@pytest.mark.parametrize("ptx, told", [
    ("wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {", "wgmma e4m3"),
    ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {", "mma f16"),
    ("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {", "mma e4m3"),
    ("tcgen05.mma.cta_group::1.kind::f8f6f4 [", "tcgen05.mma kind::f8f6f4"),
    ("ld.global.b32 %r1", "not known")])
def test_the_instruction_is_read_from_the_ptx(ptx, told):
    kernel = types.SimpleNamespace(asm={"ptx": ptx}, metadata=types.SimpleNamespace(shared=98304))
    assert scaled_gemm.compiled(kernel) == {"shared (B)": 98304, "multiplies": told}
    assert scaled_gemm.compiled(None) == {}


def test_scales_that_are_too_short_are_told_from_those_too_long(tree):
    skipping = autotuner.patched(tree, "04-autotuner.skip-both.flashinfer-0.6.6.diff")
    at = {tuned: tuning.drive(skipping, 1, tuning.Paper(), (tuned,), tuned, BUCKETS, clock=float) for tuned in (1, 512)}
    assert [(each["kernels timed"], each["with a wrong scale"], each["with one too short"]) for each in at.values()] == [(12, 6, 6), (12, 9, 0)]
    right = tuning.drive(autotuner.load(tree), 0, tuning.Paper(), (1, 600), 512, BUCKETS, clock=float)
    assert (right["with a wrong scale"], right["tactics"]) == (0, {1: "0", 600: "0"})


def test_the_tuner_is_left_as_it_was(tree):
    tuner = autotuner.load(tree)
    real = tuner.AutoTuner._profile_single_kernel, torch.cuda.is_current_stream_capturing, list(tuner.logger.handlers)
    tuning.drive(tuner, 0, tuning.Paper(), (1,), clock=float)
    assert (tuner.AutoTuner._profile_single_kernel, torch.cuda.is_current_stream_capturing, list(tuner.logger.handlers)) == real


INTERPRETED = """
import torch
from lib.bug4_autotuner import scaled_gemm
operator = scaled_gemm.Operator(256, 384, device="cpu", tactics=scaled_gemm.TACTICS[1:4])
errors = operator.errors((1, 5, 66))
assert len(errors) == 9 and errors["relative error"].max() < 5e-3, (operator.described(), errors)  # the interpreter cuts bf16 off, a GPU rounds
inputs = operator.inputs(66)
inputs[2] = inputs[2][:100].clone()
assert operator.run(inputs).isfinite().all()
"""


@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="Triton is not installed")
def test_the_kernel_in_the_interpreter():
    done = subprocess.run([sys.executable, "-c", INTERPRETED], cwd=Path(__file__).parents[2], capture_output=True, text=True,
                          env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr[-3000:]


@gpu
def test_every_tactic_is_right_on_a_gpu():
    operator = scaled_gemm.Operator(256, 384)
    errors = operator.errors((1, 5, 66, 130))
    assert operator.valid and errors["relative error"].max() < 5e-3
    inputs = operator.inputs(66)
    inputs[2] = inputs[2][:100].clone()
    assert operator.run(inputs).isfinite().all()


@gpu
def test_the_real_tuner_times_the_real_kernel(tree):
    operator = scaled_gemm.Operator(256, 384)
    told = tuning.drive(autotuner.load(tree), 0, operator, (1, 600), buckets=BUCKETS)
    assert told["with a wrong scale"] == 0 and told["kernels timed"] >= 10 * len(BUCKETS) * len(operator.valid)
    times = operator.times((1, 600), repeats=20)
    assert (times["error"] == "").all() and all(int(chosen) >= 0 for chosen in told["tactics"].values())
