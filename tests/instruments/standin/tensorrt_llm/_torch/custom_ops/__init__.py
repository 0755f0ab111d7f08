from tensorrt_llm._torch.custom_ops import torch_custom_ops  # noqa: F401
