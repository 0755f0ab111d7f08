"""Runners with tactics, and the operator that asks the tuner."""

import torch

from tensorrt_llm import behaviour
from tensorrt_llm._torch.autotuner import AutoTuner
from tensorrt_llm.operators import four

TACTICS, TOO_LARGE = 5, (1, 3)  # the tiles of these do not fit, says the stand-in


class Runner:
    def __call__(self, inputs, **named):
        return self.forward(inputs, **named)

    def get_valid_tactics(self, inputs, profile, **named):
        return list(range(TACTICS))

    @staticmethod
    def launch(tactic):
        behaviour.at_launch(tactic)
        if tactic in TOO_LARGE and "mended" not in behaviour.IS:
            raise RuntimeError(f"stand-in: failed to initialize tactic {tactic}. Error: Error Internal")


class FP4GemmRunner(Runner):
    def __init__(self, fp4_gemm_type, output_buffer_kind, output_dtype, group=None):
        self.output_dtype = output_dtype

    def forward(self, inputs, tactic=-1, bias=None):
        self.launch(tactic)
        left, right, left_scales, right_scales, alpha = inputs
        product = four(left, left_scales) @ four(right, right_scales).T * alpha.double()
        return (product * (2 if tactic == 4 and "wrong" in behaviour.IS else 1)).to(self.output_dtype)


class MoERunner(Runner):
    def forward(self, inputs, gemm_idx=0, tactic=-1, do_preparation=False):
        self.launch(tactic)


class Fp8BlockScalingGemmRunner(Runner):
    def get_valid_tactics(self, inputs, profile, **named):
        return [0]

    def forward(self, inputs, tactic=-1):
        return torch.ops.trtllm.fp8_block_scaling_gemm_impl(*inputs)


@torch.library.custom_op("trtllm::fp8_block_scaling_gemm", mutates_args=())
def fp8_block_scaling_gemm(a: torch.Tensor, b: torch.Tensor, a_scale: torch.Tensor, b_scale: torch.Tensor,
                           tune_max_num_tokens: int = 4096) -> torch.Tensor:
    inputs, specs = [a, b, a_scale, b_scale], [(2, 1 if behaviour.SM >= 100 else 0)]
    runner, tactic = AutoTuner.get().choose_one("trtllm::fp8_block_scaling_gemm", [Fp8BlockScalingGemmRunner()], specs, inputs)
    return runner(inputs, tactic=tactic)


if "missing" in behaviour.IS:
    del FP4GemmRunner
