"""What is examined: wheels and their places, TensorRT-LLM, patches, models; what one may set."""
