"""Bug 4, the autotuner's crash: its functions surveyed, patched, and given a real GEMM."""
