"""Bug 2, the KV cache on unified memory: a model of the block manager, and copies on a GPU."""
