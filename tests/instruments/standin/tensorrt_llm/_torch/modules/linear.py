"""A linear layer in FP8."""

import torch

from tensorrt_llm._torch.custom_ops import torch_custom_ops  # noqa: F401  registers the operator


class Linear(torch.nn.Module):
    def __init__(self, in_features, out_features, bias=True, dtype=None, quant_config=None):
        super().__init__()

    def load_weights(self, weights):
        self.weight, self.scales = weights[0]["weight"], weights[0]["weight_scale_inv"]

    def forward(self, input):
        quantised, scale = torch.ops.trtllm.fp8_quantize_1x128(input)
        return torch.ops.trtllm.fp8_block_scaling_gemm(quantised, self.weight, scale, self.scales)
