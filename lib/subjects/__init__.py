"""What is examined: pinned wheels and where they keep things, TensorRT-LLM, patches, models."""
