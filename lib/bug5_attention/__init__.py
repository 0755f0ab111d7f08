"""Bug 5, attention kernels: who routes what where, instruction sets, the fallback."""
