"""The atlas: the shared memory of a grid of CUTLASS's kernels, measured and kept (notebook 12)."""
