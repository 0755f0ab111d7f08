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
WORDS = {True: "admits it", False: "refuses it"}


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
    >>> gate(121, "trtllm-gen", "NVFP4").said.splitlines()[-1]
    'flashinfer-cubin 0.6.6 has 0 kernels of it for SM121.'
    """
    sm = choose("SM", sm, gates.SM)
    back_end = choose("back end", back_end, BACK_ENDS)
    quantisation = choose("quantisation", quantisation, QUANTISATIONS)
    rows, existing = known()
    rows, there = (each[(each["SM"] == sm) & (each["back end"] == back_end)
                        & each["quantisation"].isin(["", quantisation])]
                   for each in (rows, existing))
    lines = [f"{back_end} in {quantisation} on SM{sm}:"]
    for name, checks in rows.groupby("gate", sort=False):
        lines += [f"{name}: " + ", ".join(f"{check} {WORDS[bool(admitted)]}" for check, admitted
                                          in zip(checks["check"], checks["admitted"])) + "."]
    lines += [f"{each['package']} has {each['kernels']:,} kernels of it for SM{sm}."
              for _, each in there.iterrows()] or ["Its kernels were not counted."]
    said = rows[rows["said"] != ""][["gate", "check", "said"]].reset_index(drop=True)
    return Answer("\n".join(lines), (said,) if len(said) else (),
                  {"checks": rows, "kernels": there})
