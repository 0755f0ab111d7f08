"""Bug 1, FP4 GEMM and shared memory: tiles, CUTLASS's sizes of them, GEMMs on a GPU."""
