"""Notebook 03's question about a back end of the reader's: who admits it, and are there kernels."""

import functools

import pandas as pd

from lib.bug3_moe_gate import gates, kernels
from lib.instruments import cubins
from lib.subjects import tensorrt_llm, wheels
from lib.workbench.answers import Answer, choose

OLD, NEW = "0.6.6", "0.7.2.post1"  # of FlashInfer; flashinfer-cubin, with binaries, is the first
BACK_ENDS = ["trtllm-gen", "CUTLASS", *gates.BACK_ENDS["written"]]
QUANTISATIONS = [*gates.BACK_ENDS["shipped"]]
COLUMNS = ["gate", "check", "admitted", "said"]


@functools.cache
def known():
    """Every gate's rows (DataFrame), and the kernels that there are, by the package (DataFrame)."""
    tried = gates.tried(tensorrt_llm.find())
    source = "" if tried else " (as read)"
    asked = {f"TensorRT-LLM{source}, {kind}": each.rows
             for kind, each in (tried or gates.recorded()).items()}
    inventory, counted = cubins.inventory(wheels.wheel("flashinfer-cubin", OLD)), []
    for version in (OLD, NEW):
        rows, generated = gates.flashinfer(version)
        pairs = rows["back end"].map(gates.BACK_ENDS["configurations"]).dropna()
        for at, column in enumerate(["back end", "quantisation"]):
            rows.loc[pairs.index, column] = [pair[at] for pair in pairs]
        asked[f"FlashInfer {version}"] = rows
        table = kernels.existing(inventory, generated, version)
        binary = table["back end"].map({"trtllm-gen": f"flashinfer-cubin {OLD}"})
        counted.append(table.assign(package=binary.fillna(f"FlashInfer {version}")))
    every = pd.concat([rows.assign(gate=gate) for gate, rows in asked.items()])
    return every[every["admitted"].notna()], pd.concat(counted).drop_duplicates()


def gate(sm, back_end, quantisation):
    """Who admits an MoE back end to a GPU, and whether it has a kernel there.

    `sm` is 90, 100, 103, 120 or 121; back ends and number formats are those of notebook 03, and a
    CollectionError lists them where one is unknown. The checks are FlashInfer's own and
    TensorRT-LLM's, asked where it is at hand, else as they were read.

    Examples
    --------
    >>> gate(121, "CUTLASS", "NVFP4")
    CUTLASS in NVFP4 on SM121: 4 of 6 checks admit it.
    Kernels of it for SM121: 32 in FlashInfer 0.6.6, 64 in FlashInfer 0.7.2.post1.
    """
    sm = choose("SM", sm, gates.SM)
    back_end = choose("back end", back_end, BACK_ENDS)
    quantisation = choose("quantisation", quantisation, QUANTISATIONS)
    rows, existing = known()
    rows, there = (each[(each["SM"] == sm) & (each["back end"] == back_end)
                        & each["quantisation"].isin(["", quantisation])]
                   for each in (rows, existing))
    admitting = int(rows["admitted"].astype(bool).sum())
    said = f"{back_end} in {quantisation} on SM{sm}: {admitting} of {len(rows)} checks admit it."
    has = [f"{count:,} in {package}" for package, count in zip(there["package"], there["kernels"])]
    found = f"Kernels of it for SM{sm}: {', '.join(has) or 'not counted'}."
    return Answer(f"{said}\n{found}", (rows[COLUMNS].reset_index(drop=True),),
                  {"checks": rows, "kernels": there})
