"""The collection's library. Each bug has a room, and what the rooms share lies below them.

errors, cache          the one error, and the one content-addressed cache
workers/               many independent questions side by side, here or on a Dask cluster
subjects/              what is examined: wheels, the index, TensorRT-LLM, patches, models
instruments/           asking: toolchain, nvcc, ptxas, sass, cubins, images and what loads, devices,
                       driver, timing, probes
evidence/              how a finding is stated: findings, claims, figures, tables, threads
machine/               notebook 00: what the architectures state, source beside source
bug1_shared_memory/    notebook 01: tiles, CUTLASS's byte counts, GEMMs on a GPU
bug2_kv_cache/         notebook 02: a model of the block manager, pools, copies on a GPU
bug3_moe_gate/         notebook 03: gates, and the kernels behind them
bug4_autotuner/        notebook 04: the tuner surveyed, patched, and given a real GEMM
bug5_attention/        notebook 05: routing, instruction sets, the fallback
fit/                   notebook 06: models in memory, rooflines, the explorer
survey/                notebook 09: what published wheels hold, and a driver's refusals
workbench/             notebook 11: tools for a tile, spec, pool, gate or model of the reader's
atlas/                 notebook 12: a grid of CUTLASS's kernels, measured and kept, its explorer
history/               notebook 08: every release of FlashInfer, asked by the bugs' rooms
report/                machinery: commands, runner, evidence.json, scoreboard, site
doctor/                stands by itself: which bugs an installation has, what of it loads here
overlay/               stands by itself: patches on an installed package, no file of it changed
environment/           stands by itself: makes the environment of the commands

Imports run downward only: report, workbench, bugs, evidence and instruments, subjects, ground.
"""
