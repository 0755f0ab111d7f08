"""Which device attribute tells unified memory: machines by attribute, and projects' tests."""

import tomllib
from pathlib import Path

import pandas as pd

from lib.instruments import devices

FACTS = tomllib.loads(Path(__file__).with_name("unified_memory.toml").read_text())
ATTRIBUTES = ("integrated", "pageable_memory_access", "host_page_tables",
              "concurrent_managed_access", "unified_addressing", "host_native_atomic")
UNKNOWN = "?"
YES = {True: "yes", False: "no", None: UNKNOWN}


def here():
    """This machine's GPUs in the same form, each cell read by the driver here (list of dict)."""
    return [{"name": f"{gpu.name} (here)", "one_memory": None,
             **{name: [int(getattr(gpu, name)), "read", ""] for name in ATTRIBUTES[:-1]}}
            for gpu in devices.gpus()]


def machines():
    """The machines by attribute, this machine's GPUs first: 1, 0 (derived) or ? (DataFrame)."""
    def cell(value, how, _):
        return str(value) if how == "read" else f"{value} ({how})"

    return pd.DataFrame([{"machine": row["name"], "one memory": YES[row["one_memory"]],
                          **{name: cell(*row.get(name, (UNKNOWN, "read", "")))
                             for name in ATTRIBUTES}} for row in here() + FACTS["machine"]])


def readings():
    """Every recorded cell, beside the fact ``one_memory`` of its machine (DataFrame)."""
    rows = []
    for row in FACTS["machine"]:
        fact = row["one_memory"]
        rows.append((row["name"], fact, "one_memory", int(fact), "read", row["source"]))
        rows += [(row["name"], fact, name, *row[name]) for name in ATTRIBUTES if name in row]
    columns = ["machine", "one_memory", "attribute", "value", "how", "source"]
    return pd.DataFrame(rows, columns=columns)


def judge(predicate, row):
    """A predicate against the fact: ``right``, ``wrong: says yes``, ``wrong: says no``, ``?``."""
    said = None
    if "capabilities" in predicate and row["capability"]:
        said = row["capability"] in predicate["capabilities"]
    elif predicate.get("attribute") in row:
        said = bool(row[predicate["attribute"]][0])
    if said is None:
        return UNKNOWN
    return "right" if said == row["one_memory"] else f"wrong: says {YES[said]}"


def verdicts():
    """Every predicate on every recorded machine (DataFrame: machines by project)."""
    return pd.DataFrame([{"machine": row["name"], "one memory": YES[row["one_memory"]],
                          **{each["project"]: judge(each, row) for each in FACTS["predicate"]}}
                         for row in FACTS["machine"]])


def mistakes():
    """Each predicate: on how many machines it is wrong or unknown, and on which (DataFrame)."""
    rows, table = [], verdicts().set_index("machine")
    for each in FACTS["predicate"]:
        said = table[each["project"]]
        wrong = said.index[said.str.startswith("wrong")]
        pairs = ", ".join(f"{major}.{minor}" for major, minor in each.get("capabilities", ()))
        asked = each.get("attribute", f"compute capability {pairs}")
        rows.append([each["project"], asked, len(wrong), int((said == UNKNOWN).sum()),
                     "; ".join(wrong), each["cost"], each["source"]])
    return pd.DataFrame(rows, columns=["project", "asks for", "wrong on", "unknown on", "machines",
                                       "a mistake costs", "source"])
