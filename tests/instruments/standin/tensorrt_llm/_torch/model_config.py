"""What a model is, and which back end a request becomes."""

from dataclasses import dataclass, field
from typing import Any

from tensorrt_llm._utils import get_sm_version
from tensorrt_llm.models.modeling_utils import QuantConfig


@dataclass(kw_only=True)
class ModelConfig:
    pretrained_config: Any = None
    quant_config: QuantConfig = field(default_factory=QuantConfig)
    moe_backend: str = "CUTLASS"

    @staticmethod
    def resolve_moe_backend(moe_backend, architecture):
        if moe_backend.upper() == "AUTO":
            return "TRTLLM" if get_sm_version() in (100, 103) else "CUTLASS"
        return moe_backend
