"""Operators trtllm::... with the real ones' signatures, in plain torch."""

import torch

from tensorrt_llm import behaviour

VALUES = (0, 0.5, 1, 1.5, 2, 3, 4, 6)
BOUNDS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5)


@torch.library.custom_op("trtllm::fp4_quantize", mutates_args=())
def fp4_quantize(input: torch.Tensor, globalScale: torch.Tensor | None, sfVecSize: int, sfUseUE8M0: bool = False,
                 isSfSwizzledLayout: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = input.shape
    blocks = input.float().view(rows, -1, sfVecSize) * globalScale
    scales = (blocks.abs().amax(-1) / 6).clamp(max=448).to(torch.float8_e4m3fn)  # as CUDA converts: at most the largest number
    scaled = blocks / scales.float().clamp(min=2**-9)[..., None]
    codes = torch.bucketize(scaled.abs(), torch.tensor(BOUNDS, device=input.device)) + 8 * (scaled < 0)
    codes = codes.view(rows, -1, 2).to(torch.uint8)
    padded = torch.zeros(-(-rows // 128) * 128, scales.shape[1], dtype=torch.uint8, device=input.device)
    padded[:rows] = scales.view(torch.uint8)
    return codes[..., 0] | codes[..., 1] << 4, padded.view(-1)


@torch.library.custom_op("trtllm::block_scale_interleave_reverse", mutates_args=())
def block_scale_interleave_reverse(scales: torch.Tensor) -> torch.Tensor:
    return scales.clone()


def four(packed, scales):
    """The values of an FP4 matrix but for the global scale (float64)."""
    rows, columns = packed.shape[0], 2 * packed.shape[1]
    table = torch.tensor([*VALUES, *(-each for each in VALUES)], dtype=torch.float64, device=packed.device)
    codes = torch.stack((packed & 15, packed >> 4), -1).view(rows, columns).long()
    scales = scales.view(torch.float8_e4m3fn).view(-1, columns // 16)[:rows].double()
    return table[codes] * scales.repeat_interleave(16, 1)


@torch.library.custom_op("trtllm::fp8_quantize_1x128", mutates_args=())
def fp8_quantize_1x128(input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = input.shape
    blocks = input.float().view(rows, -1, 128)
    scales = blocks.abs().amax(-1).clamp(min=1e-12) / 448
    quantised = (blocks / scales[..., None]).view(rows, columns).to(torch.float8_e4m3fn)
    scales = scales.T.contiguous()
    return quantised, scales if behaviour.SM in (100, 103) else scales.view(-1)  # a vector elsewhere


@torch.library.custom_op("trtllm::fp8_block_scaling_gemm_impl", mutates_args=())
def fp8_block_scaling_gemm_impl(a: torch.Tensor, b: torch.Tensor, a_scale: torch.Tensor, b_scale: torch.Tensor) -> torch.Tensor:
    left = a.float() * a_scale.view(-1, a.shape[0]).T.repeat_interleave(128, 1)
    right = b.float() * b_scale.repeat_interleave(128, 0).repeat_interleave(128, 1)
    return (left @ right.T).to(torch.bfloat16)
