"""A mixture of experts through classes with the real ones' names."""

import torch

from tensorrt_llm._torch.autotuner import AutoTuner
from tensorrt_llm._torch.custom_ops.torch_custom_ops import MoERunner
from tensorrt_llm._torch.modules.fused_moe.gate import TRTLLM
from tensorrt_llm._utils import get_sm_version
from tensorrt_llm.models.modeling_utils import QuantAlgo
from tensorrt_llm.operators import four


class RenormalizeMoeRoutingMethod:
    def __init__(self, top_k):
        self.top_k = top_k

    def apply(self, router_logits):
        shares, chosen = router_logits.float().topk(self.top_k)
        return chosen.int(), shares.softmax(-1)


class MoE(torch.nn.Module):
    ADMITTED = (100, 103, 120, 121)

    @classmethod
    def can_implement(cls, quant_algo, dtype_activation=torch.bfloat16, swiglu_gptoss_style=False):
        sm = get_sm_version()
        return sm in cls.ADMITTED, None if sm in cls.ADMITTED else f"{cls.__name__} is not for SM{sm}"

    def __init__(self, routing_method, model_config):
        super().__init__()
        if get_sm_version() not in self.ADMITTED:
            raise NotImplementedError(f"{type(self).__name__} is not for SM{get_sm_version()}")
        self.routing, self.four = routing_method, model_config.quant_config.quant_algo == QuantAlgo.NVFP4

    def load_weights(self, weights):
        self.given = weights[0]

    def value(self, name):
        weight, scales = self.given[f"{name}.weight"], self.given[f"{name}.weight_scale"]
        if self.four:
            return four(weight, scales.view(torch.uint8)) * self.given[f"{name}.weight_scale_2"].double()
        return weight.double() * scales.repeat_interleave(128, 0).repeat_interleave(128, 1).double()

    def quantised(self, states, scale):
        if not self.four:
            return states.double()
        return four(*torch.ops.trtllm.fp4_quantize(states.to(torch.bfloat16), 1 / scale, 16)) * scale.double()

    def forward(self, x, router_logits):
        for gemm in (1, 2):
            runner, tactic = AutoTuner.get().choose_one(f"trtllm::fused_moe::gemm{gemm}", [MoERunner()], [], [x], gemm_idx=gemm)
            runner([x], gemm_idx=gemm, tactic=tactic)
        chosen, shares = self.routing.apply(router_logits)
        output = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
        for expert in chosen.unique().tolist():
            tokens, place = (chosen == expert).nonzero(as_tuple=True)
            mine = self.quantised(x[tokens], self.given.get(f"{expert}.w1.input_scale"))
            between = torch.nn.functional.silu(mine @ self.value(f"{expert}.w1").T) * (mine @ self.value(f"{expert}.w3").T)
            between = self.quantised(between, self.given.get(f"{expert}.w2.input_scale"))
            output[tokens] += shares[tokens, place].double()[:, None] * (between @ self.value(f"{expert}.w2").T)
        return output.to(x.dtype)


class CutlassFusedMoE(MoE):
    pass


class CuteDslFusedMoE(MoE):
    ADMITTED = (100, 103)


class TRTLLMGenFusedMoE(MoE):
    ADMITTED = TRTLLM

    def forward(self, x, router_logits):
        if get_sm_version() not in (100, 103):
            raise RuntimeError("stand-in: no kernel image is available for execution on the device")
        return super().forward(x, router_logits)


def create_moe(routing_method, num_experts=None, hidden_size=None, intermediate_size=None, dtype=None, reduce_results=False,
               model_config=None):
    classes = {"CUTLASS": CutlassFusedMoE, "TRTLLM": TRTLLMGenFusedMoE, "CUTEDSL": CuteDslFusedMoE}
    return classes[model_config.moe_backend](routing_method, model_config)
