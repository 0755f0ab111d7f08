"""Which device attribute tells unified memory: machines by attribute, each cell with its source, and projects' predicates against them."""

import functools
import tomllib
from pathlib import Path

import pandas as pd

from lib.errors import CollectionError
from lib.instruments import devices

FACTS = Path(__file__).with_name("unified_memory.toml")
ATTRIBUTES = ("integrated", "pageable_memory_access", "host_page_tables", "concurrent_managed_access", "unified_addressing",
              "host_native_atomic")
HOW = ("read", "derived")
UNKNOWN = "?"


@functools.cache
def facts():
    """The recorded facts (dict with ``machine`` and ``predicate``), links written out.

    Raises
    ------
    CollectionError
        If a cell has no value, no way it was found, or no link.
    """
    known = tomllib.loads(FACTS.read_text())
    links = known.pop("sources")
    for row in known["machine"] + known["predicate"]:
        row["source"] = links.get(row["source"], row["source"])
        for name in ATTRIBUTES:
            if name in row:
                value, how, source = row[name]
                source = links.get(source, source)
                if value not in (0, 1) or how not in HOW or not source.startswith("https://"):
                    raise CollectionError(f"{FACTS.name}: {row['name']}, {name}: {row[name]}", f"write [0 or 1, one of {HOW}, a link]")
                row[name] = [value, how, source]
    return known


def here():
    """This machine's GPUs as rows of the same form, each cell read by the driver here (list of dict; empty without a GPU)."""
    rows = []
    for gpu in devices.gpus():
        answers = {name: getattr(gpu, name) for name in ATTRIBUTES[:-1]} | {"host_native_atomic": native_atomic(gpu.ordinal)}
        rows.append({"name": f"{gpu.name} (here)", "capability": list(gpu.capability), "one_memory": None, "source": "",
                     **{name: [int(value), "here", ""] for name, value in answers.items() if value is not None}})
    return rows


def native_atomic(ordinal):
    """Whether host and device share native atomics (bool), from the driver; None where cuda.core does not say."""
    from cuda.core import Device
    return getattr(Device(ordinal).properties, "host_native_atomic_supported", None)


def cell(row, name):
    """One attribute of a machine as text: ``1``, ``0 (derived)`` or ``?``."""
    if name not in row:
        return UNKNOWN
    value, how, _ = row[name]
    return str(value) if how in ("read", "here") else f"{value} ({how})"


def table():
    """The machines (DataFrame: machine, ``one memory``, then a column for each of `ATTRIBUTES`); this machine's GPUs come first."""
    known = {True: "yes", False: "no", None: UNKNOWN}
    return pd.DataFrame([{"machine": row["name"], "one memory": known[row["one_memory"]], **{name: cell(row, name) for name in ATTRIBUTES}}
                         for row in here() + facts()["machine"]])


def cells():
    """Every recorded cell with its source (DataFrame: machine, attribute, value, how, source)."""
    rows = [{"machine": row["name"], "attribute": "one_memory", "value": int(row["one_memory"]), "how": "read", "source": row["source"]}
            for row in facts()["machine"]]
    rows += [{"machine": row["name"], "attribute": name, **dict(zip(("value", "how", "source"), row[name]))}
             for row in facts()["machine"] for name in ATTRIBUTES if name in row]
    return pd.DataFrame(rows)


def answer(predicate, row):
    """What a predicate says of a machine (bool); None where the attribute that it asks for is unknown."""
    if "capabilities" in predicate:
        return row["capability"] in predicate["capabilities"] if row["capability"] else None
    return bool(row[predicate["attribute"]][0]) if predicate["attribute"] in row else None


def judge(predicate, row):
    """A predicate against the fact: ``right``, ``wrong: says yes``, ``wrong: says no``, or ``?``."""
    said = answer(predicate, row)
    if said is None or row["one_memory"] is None:
        return UNKNOWN
    return "right" if said == row["one_memory"] else f"wrong: says {'yes' if said else 'no'}"


def verdicts():
    """Every predicate against every recorded machine (DataFrame: a row per machine, a column per project)."""
    predicates = facts()["predicate"]
    return pd.DataFrame([{"machine": row["name"], "one memory": "yes" if row["one_memory"] else "no",
                          **{each["project"]: judge(each, row) for each in predicates}} for row in facts()["machine"]])


def wrong():
    """What each predicate gets wrong (DataFrame: project, asks for, machines it is wrong on, unknown, what a mistake costs, source)."""
    rows = []
    for each in facts()["predicate"]:
        found = {row["name"]: judge(each, row) for row in facts()["machine"]}
        asks = each.get("attribute") or "compute capability " + ", ".join(f"{major}.{minor}" for major, minor in each["capabilities"])
        rows.append({"project": each["project"], "asks for": asks, "wrong on": sum(said.startswith("wrong") for said in found.values()),
                     "unknown on": sum(said == UNKNOWN for said in found.values()),
                     "machines": "; ".join(name for name, said in found.items() if said.startswith("wrong")),
                     "a mistake costs": each["cost"], "source": each["source"]})
    return pd.DataFrame(rows)
