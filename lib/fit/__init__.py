"""Does a model fit: bytes, rooflines, llama.cpp's kernels, and the explorer."""
