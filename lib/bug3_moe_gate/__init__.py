"""Bug 3, the MoE gate: what back ends admit, and which kernels exist behind them."""
