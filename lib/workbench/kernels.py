"""A tile of the reader's: its bytes of shared memory, and what a GPU says to it (notebook 01)."""

from dataclasses import replace

import pandas as pd

from lib.atlas import measured
from lib.bug1_shared_memory import binaries, charts, gemm, harness, optin, tiles
from lib.evidence.figures import Chart
from lib.instruments import devices, nvcc
from lib.subjects import parameters
from lib.workbench.answers import Answer, choose

# Epilogues by what they do with the result, and a kernel of TensorRT-LLM's, FlashInfer's or
# CUTLASS's that has it: the tile takes the place of its own.
EPILOGUES = {"plain": harness.PUBLISHED, "bias": replace(harness.PUBLISHED, fusion="bias"),
             "grouped": tiles.grouped("128x128x128B"),
             "scatter": tiles.grouped("128x128x128B", fused=True),
             "scatter, swapped": tiles.grouped("128x128x128B", fused=True, swap_ab=True),
             "fp4": tiles.EXAMPLE_79D}
TARGETS = ("sm_120a", "sm_121a", "sm_120f", "sm_121f")


def kernel(m, n, k, epilogue="plain", stages=0):
    """The NVFP4 kernel (`gemm.Gemm`) that a tile and an epilogue stand for; errors as `tile`'s."""
    parameters.check({"m": m, "n": n, "k": k, "stages": stages})
    base = EPILOGUES[choose("epilogue", epilogue, EPILOGUES)]
    return replace(base, tile=(m, n, k), stages=stages, name=f"{m}x{n}x{k}")


def tile(m, n, k, epilogue="plain", stages=0, target="sm_121a", flashinfer="0.6.6"):
    """The bytes of shared memory of an NVFP4 GEMM kernel as CUTLASS builds it, if it compiles.

    `m`, `n` and `k` are the tile's elements; a grouped tile's upstream name counts k in bytes, and
    64B are 128 elements. `epilogue` is one of `EPILOGUES`: scatter is the fused finalize, fp4 the
    block-scaled output. `stages` 0 leaves their number to CUTLASS, the one that a pinned
    `flashinfer` vendors. What the atlas has for this CUTLASS and compiler is told from there; any
    other kernel is compiled, which takes 6 s. A CollectionError, with what may be given, for
    anything else.

    >>> tile(128, 256, 128, epilogue="scatter")
    128x256x128, scatter, for sm_121a needs 102,400 B with 3 stages: 1,024 B too many.
    """
    asked, target = kernel(m, n, k, epilogue, stages), choose("target", target, TARGETS)
    front = nvcc.of_flashinfer(flashinfer, target)
    found = measured.known(asked, flashinfer, target)
    found = gemm.measure([asked], front) if found.empty else found
    row, said = found.iloc[0], f"{asked.name}, {epilogue}, for {target}"
    if row["status"] == gemm.REFUSED:
        return Answer(f"{said} {row['status']}: {row['message'].rstrip('.')}.", values=row)
    left = "too many" if row["status"] == gemm.LARGE else "are left"
    said += f" needs {row['kernel']:,} B with {row['stages']} stages: " \
            f"{abs(row['headroom']):,} B {left}."
    shares = charts.shares(found)
    drawing = charts.memory(shares, {"one block may have": row["budget"]})
    return Answer(said, (Chart(drawing, shares, said),), row)


def launch(m, n, k, epilogue="plain", stages=0, flashinfer="0.6.6"):
    """Compile a kernel whole, and run it on the first GPU: CUDA's and CUTLASS's own statuses.

    The arguments are `tile`'s. The first time takes a minute and 5 GB. A grouped kernel is
    initialised, not run; a GPU other than SM12x gets an image for sm_121a, to see what it says.

    >>> launch(128, 128, 128)  # doctest: +SKIP
    NVIDIA GB10: image cudaSuccess, asked cudaSuccess, initialize Success, ran cudaSuccess.
    """
    asked = kernel(m, n, k, epilogue, stages)
    if not (gpu := next(iter(devices.gpus()), None)):
        return Answer(f"No GPU here, so nothing is launched. {devices.why_none()}")
    program = harness.nvfp4(asked, f"sm_{gpu.sm if gpu.sm in (120, 121) else 121}a", "yours")
    row = harness.trial(program, binaries.compiled(program, flashinfer)[0], gpu)
    steps = ", ".join(f"{name} {row[name]}" for name in ("image", "asked", "initialize", "left",
                                                         "ran", "ended") if name in row)
    table = pd.Series(row, name="answer").rename_axis("step").reset_index()
    return Answer(f"{gpu.name}: {steps}.", (table, optin.decide([row["bytes"]])), row)
