"""What was read of TensorRT-LLM and its threads (recorded.toml), for where no tree is at hand."""

import tomllib
from pathlib import Path

import pandas as pd

from lib.bug3_moe_gate import gates

DATA = tomllib.loads(Path(__file__).with_name("recorded.toml").read_text())


def read(kind):
    """The ``fact``, ``thread`` or ``run`` entries (DataFrame), each with its link."""
    return pd.DataFrame(DATA[kind])


def tried():
    """The recorded gates, and what the two patches would make of them (dict of `gates.Asked`)."""
    return {gate: asked(gate) for gate in ("as shipped", "published", "revised")}


def asked(gate):
    """One recorded gate (`gates.Asked`), its conditions replayed for every GPU."""
    rows = [(each["check"], each["back end"], quantisation, sm, sm in each[gate], "")
            for each in DATA["gate"] for quantisation in each["quantisations"] for sm in gates.SM]
    routes = [{"requested": each["requested"], "model": each["model"], "SM": sm, "reached": reached,
               "refused": reached.endswith("Error"), "said": ""}
              for each in DATA["route"] for sm, reached in zip(gates.SM, each[gate])]
    return gates.Asked("recorded", gates.named(pd.DataFrame(rows, columns=gates.COLUMNS)),
                       pd.DataFrame(routes))
