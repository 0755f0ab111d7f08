"""What asks the subjects: toolchain, nvcc, ptxas, SASS, cubins, GPUs, their driver, timing."""
