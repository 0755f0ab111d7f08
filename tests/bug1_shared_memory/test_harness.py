"""The GEMM harness: operands that decode to what was drawn, a comparison that sees a wrong result, and programs that may fail in any way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from lib.bug1_shared_memory import binaries, harness, operands
from lib.errors import CollectionError
from lib.instruments import devices

RANDOM = np.random.default_rng(7)
TILE = harness.hopper(128, 128, 128)

pytestmark = pytest.mark.xdist_group("01")


def packed(codes):
    """Two codes of E2M1 in a byte, the first in the low half, one by one."""
    return bytes(int(first) | int(second) << 4 for row in codes for first, second in zip(row[::2], row[1::2]))


@given(m=some.integers(1, 9), n=some.integers(1, 9), blocks=some.integers(1, 4), seed=some.integers(0, 99), kind=some.sampled_from(["nvfp4", "fp8"]))
def test_values_and_bytes_say_the_same(m, n, blocks, seed, kind):
    drawn = operands.draw(kind, m, n, 32 * blocks, np.random.default_rng(seed))
    assert drawn.size == (m, n, 32 * blocks)
    for name, values in (("A", drawn.a), ("B", drawn.b)):
        if kind == "fp8":
            assert np.array_equal(operands.e4m3(np.frombuffer(drawn.files[name], np.uint8)).reshape(values.shape), values)
            continue
        scales = operands.e4m3(np.frombuffer(drawn.files[f"SF{name}"], np.uint8)).reshape(len(values), -1)
        codes = np.abs((values.reshape(*scales.shape, 16) / scales[..., None])[..., None] - operands.E2M1[:8]).min(axis=-1)
        assert scales.min() >= 0.25 and scales.max() <= 3.75 and np.abs(codes).max() <= 6
        halves = np.frombuffer(drawn.files[name], np.uint8).reshape(len(values), -1)
        unpacked = np.stack([operands.E2M1[halves & 15], operands.E2M1[halves >> 4]], axis=-1).reshape(values.shape)
        assert np.array_equal(unpacked * scales.repeat(16, axis=1), values)


def test_every_code_of_e2m1_is_its_bits():
    for code, value in enumerate(operands.E2M1):
        sign, exponent, mantissa = code >> 3, code >> 1 & 3, code & 1
        magnitude = 2.0 ** (exponent - 1) * (1 + mantissa / 2) if exponent else mantissa / 2
        assert value == (-1) ** sign * magnitude


@pytest.mark.parametrize("d", operands.DTYPES)
def test_the_comparison_sees_rounding_errors_and_holes(d):
    drawn = operands.draw("fp8", 48, 32, 64, RANDOM)
    right = torch.from_numpy(drawn.product(np.arange(48))).to(operands.DTYPES[d])
    raw = lambda tensor: tensor.contiguous().view(torch.uint8).numpy().tobytes()  # noqa: E731
    found = operands.compare(drawn, raw(right), d, 48, RANDOM)
    assert found["error"] < harness.BOUNDS[d] and found["unwritten"] == 0
    assert operands.compare(drawn, raw(right.flip(0)), d, 48, RANDOM)["error"] > harness.BOUNDS[d]
    holes = right.clone()
    holes[3, 5:7] = float("nan")
    assert operands.compare(drawn, raw(holes), d, 8, RANDOM)["unwritten"] == 2
    poisoned = b"\xff" * (48 * 32 * operands.DTYPES[d].itemsize)
    assert operands.compare(drawn, poisoned, d, 8, RANDOM)["unwritten"] == 48 * 32


def program(folder, text):
    """A program of the test's own in place of a built one."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_what_a_program_says_is_kept_step_by_step(tmp_path):
    lines = ['{"bytes": 102400, "stages": 3}', '{"device": {"error": "cudaSuccess"}}', '{"limit": 101376}',
             '{"asked": {"error": "cudaErrorInvalidValue"}}', '{"initialize": {"status": "Error Internal"}}', "no JSON"]
    drawn = operands.draw("fp8", 4, 4, 32, RANDOM)
    said = harness.run(TILE, program(tmp_path, "\n".join(f"echo '{line}'" for line in lines)), drawn)
    assert said == {"bytes": 102400, "stages": 3, "device": "cudaSuccess", "limit": 101376, "asked": "cudaErrorInvalidValue",
                    "initialize": "Error Internal"}


def test_a_program_that_dies_or_hangs_loses_nothing_that_it_said(tmp_path, monkeypatch):
    drawn = operands.draw("fp8", 4, 4, 32, RANDOM)
    said = harness.run(TILE, program(tmp_path, """echo '{"bytes": 7}'; echo trouble >&2; kill -SEGV $$"""), drawn)
    assert said["bytes"] == 7 and said["ended"] == "status -11: trouble"
    monkeypatch.setattr(harness, "SECONDS", 1)
    said = harness.run(TILE, program(tmp_path, """echo '{"bytes": 8}'; exec sleep 60"""), drawn)
    assert said == {"bytes": 8, "ended": "stopped after 1 s"}


def test_a_right_result_is_compared_and_timed(tmp_path, monkeypatch):
    # $1 is the folder of the operands, $2 is m; the stand-in "computes" by copying the product that lies ready, and is slow three times
    text = f"cp {tmp_path}/$2 $1/D; " + """echo '{"ran": {"error": "cudaSuccess"}}'; if [ $5 != 0 ]; then
    echo '{"milliseconds": [2, 1, 3]}'; echo '{"copied": 1000000000}'; echo '{"copy": [1, 1, 1]}'; fi"""
    ready = {m: operands.draw("fp8", m, n, k, RANDOM) for m, n, k in ((32, 16, 32), (64, 32, 64))}
    for m, drawn in ready.items():
        product = torch.from_numpy(drawn.product(np.arange(m))).to(torch.bfloat16)
        (tmp_path / str(m)).write_bytes(product.view(torch.uint8).numpy().tobytes())
    monkeypatch.setattr(harness, "draw", lambda kind, m, n, k, random: ready[m])
    gpu = replace(GPU, capability=(9, 0), multiprocessors=132, clock_khz=1_980_000)
    row = harness.trial(TILE, program(tmp_path, text), gpu, (32, 16, 32), (64, 32, 64))
    assert 0 < row["error"] < harness.BOUNDS["bf16"] and 0 < row["error, large"] < harness.BOUNDS["bf16"] and row["ms"] == 2
    memory, compute = ((64 + 32) * 64 + 64 * 32 * 2) / 2e9, 2 * 64 * 32 * 64 / (8192 * 132 * 1_980_000)
    assert memory > compute and row["bound"] == "memory" and row["share"] == pytest.approx(memory / 2)


GPU = devices.Gpu(0, "none", (12, 1), 48, 1536, 24, 102400, 101376, 1024, 1 << 24, 1 << 37, 2_500_000, True, True, True, True, True)


def test_what_does_not_compile_is_a_row_with_its_reason():
    row = harness.trial(TILE, CollectionError("no compiler", "install one"), GPU)
    assert row["tile"] == "128x128x128" and "install one" in row["ended"]


@pytest.mark.parametrize("sm, targets", [(121, {"sm_121a", "sm_120a"}), (120, {"sm_120a", "sm_121a"}), (90, {"sm_90a", "sm_121a"}), (80, set()), (100, set())])
def test_each_device_gets_its_own_programs(sm, targets):
    found = harness.for_device(sm)
    assert {each.target for each in found} == targets
    assert not found or {each.why for each in found} == {"fits", "too large", "another architecture"}
    assert all((each.target == f"sm_{sm}a") != (each.why == "another architecture") for each in found)


def test_a_wrong_scale_would_be_seen():
    published = replace(harness.nvfp4(harness.PUBLISHED, "sm_121a"), d="fp32")
    path, _ = binaries.compiled(published, "0.6.6", call="reference")
    drawn = operands.draw("nvfp4", 130, 24, 96, RANDOM)
    scales = bytearray(drawn.files["SFA"])
    scales[-1] ^= 8
    said = harness.run(replace(TILE, d="fp32"), path, replace(drawn, files=drawn.files | {"SFA": bytes(scales)}), sample=130)
    assert said["error"] > 1e-6


@pytest.mark.skipif(not devices.gpus(), reason="needs a GPU")
def test_on_this_gpu_what_fits_is_right_and_the_rest_is_refused():
    found = harness.trials(devices.gpus()[0], "0.6.6")
    fits = found[found["shows"] == "fits"]
    assert (fits["initialize"] == "Success").all() and (fits["error"] < fits["d"].map(harness.BOUNDS)).all() and (fits["share"] < 1.05).all()
    assert (found.loc[found["shows"] == "too large", "asked"] == "cudaErrorInvalidValue").all()
    assert (found.loc[found["shows"] != "fits", "initialize"] == "Error Internal").all()
