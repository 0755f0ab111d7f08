"""Whether what wheels hold loads on a GPU: the rules of `loading` on what `holdings` found."""

import json
import re
import tomllib
from fnmatch import fnmatch
from functools import cache as once
from pathlib import Path

import pandas as pd

from lib.instruments import images, loading

DATA = tomllib.loads(Path(__file__).with_name("survey.toml").read_text())
PACKAGES = DATA["package"]
KNOWN = {each["name"]: each for each in PACKAGES}
KEPT = Path(__file__).with_name("kept.json")
DRIVER = loading.RULES["presumed"]["driver"]
MACHINES, GPUS = ("aarch64", "x86_64"), (121, 120)
ONE = re.compile(r"(sm|compute)_(\d+)([af]?)(?:@(\S+))?")
DATACENTER = (100, 103)
SUMS = ("fatbins", "of others", *loading.HOW)
FEW = 0.1  # of the fatbins that are not of other generations alone: these do not decide

# What a package comes to on a GPU, the best first; the words that a picture has room for.
CODE, COMPILED, OWN, PART, NOTHING, CPU, SOURCE, ABSENT, UNREAD = STATES = (
    "machine code", "the driver compiles", "compiles its own", "in part", "nothing loads",
    "no CUDA code", "source only", "no wheel", "not read")


def kept():
    """What was read for the collection (list of dict, as `holdings.wheel` gives them)."""
    return json.loads(KEPT.read_text())


def one(rows, package, machine, newest=True):
    """What was read of a package for a machine, its newest version or the older one (dict)."""
    return next(row for row in rows if (row["project"], row["machine"], row["newest"]) == (
        package, machine, newest))


def targets(row):
    """The targets that the libraries of a wheel hold an image for (set of str, as ``sm_120f``)."""
    return {image.target for counts in row["libraries"].values() for signature in counts
            for image in fatbin(signature)}


def wanted(which=""):
    """What `holdings.wheel` is to be asked (list of dict): of every package of survey.toml, its
    newest version and the older one, or of one, as ``name`` or ``name==version``."""
    name, _, version = which.partition("==")
    of = {name: [version]} if name else {
        each: dict.fromkeys(["", told.get("older", "")]) for each, told in KNOWN.items()}
    return [{"project": each, "machine": machine, "version": number}
            for each, numbers in of.items() for number in numbers for machine in MACHINES]


def keep(rows, failed):
    """Keep what was read, a row a line; of questions that `failed` (list of dict, as of `wanted`)
    the rows that were kept before stay."""
    lost = [(each["project"], each["machine"], not each["version"]) for each in failed]
    stay = [row for row in kept() if (row["project"], row["machine"], row["newest"]) in lost]
    order = [*KNOWN]
    rows = sorted(rows + stay, key=lambda row: (order.index(row["project"]), not row["newest"]))
    lines = [json.dumps(row, separators=(",", ":")) for row in rows]
    KEPT.write_text("[\n" + ",\n".join(lines) + "\n]\n")


@once
def fatbin(signature):
    """The images of a fatbin of `holdings.signature` (list of `images.Image`)."""
    found = []
    for kind, sm, suffix, more in ONE.findall(signature):
        isa = more if more[:1].isdigit() else ""
        kind = "ptx" if isa else more or {"sm": "cubin"}.get(kind, "ptx")
        found.append(images.Image(kind, int(sm), suffix, isa, "", 0, 0, 0))
    return found


@once
def how(signature, sm, driver=DRIVER):
    """How a driver gets a fatbin onto a GPU (one of `loading.HOW`)."""
    return loading.how(fatbin(signature), sm, driver).how


@once
def special(signature):
    """Whether a fatbin is for other generations alone, so that SM12x is not to load it (bool): all
    its images are for one generation (Thor's SM110 is of SM100's), or for their own GPUs (a, f)."""
    held = fatbin(signature)
    eras = {min(image.sm // 10, 11) - (image.sm // 10 == 11) for image in held if image.sm < 120}
    own = all(image.suffix for image in held)
    older = any(image.kind == "ptx" and not image.suffix for image in held)
    return all(image.sm < 120 for image in held) and not older and (own or len(eras) == 1)


def library(counts, sm, driver=DRIVER):
    """What the fatbins of a library (dict of signature to count) come to on a GPU (dict): how many
    there are, how many load each way, and how many of those that do not are of others alone."""
    ways = dict.fromkeys(loading.HOW, 0)
    others = 0
    for signature, count in counts.items():
        way = how(signature, sm, driver)
        ways[way] += count
        others += count * (way == loading.NOTHING and special(signature))
    return {"fatbins": sum(counts.values()), **ways, "of others": others,
            "datacenter": any(image.sm in DATACENTER for each in counts for image in fatbin(each))}


def state(row, sm, driver=DRIVER):
    """What a package comes to on a GPU (one of `STATES`).

    At most `FEW` of its fatbins without an image that loads leave it what the others make it.
    """
    about = KNOWN.get(row["project"], {})
    if row["state"] != "wheel":
        return {"source": SOURCE, "nothing": ABSENT}.get(row["state"], UNREAD)
    if about.get("compiler") == "ptxas":
        known = {target for targets in row["ptxas"].values() for target in targets}
        return OWN if known & {f"{sm}", f"{sm}a"} else NOTHING
    if about.get("compiler"):
        return OWN
    wanted = about.get("core", "*").split("|")
    core = [library(counts, sm, driver) for path, counts in row["libraries"].items()
            if any(fnmatch(path, each) for each in wanted)]
    total = {name: sum(each[name] for each in core) for name in SUMS}
    if not core:
        return UNREAD if row["unread"] else NOTHING if row["libraries"] else CPU
    if total[loading.NOTHING] == total["fatbins"]:
        return NOTHING
    few = FEW * (total["fatbins"] - total["of others"])
    if total[loading.NOTHING] - total["of others"] > few:
        return PART
    return COMPILED if total[loading.COMPILED] > few else CODE


def table(rows, sm=121, driver=DRIVER):
    """The states of rows (DataFrame): package, version, date, whether it is the newest, machine,
    a column for each of `GPUS`, one for the GPU `here`, and what to install instead."""
    return pd.DataFrame([
        {"package": row["project"], "version": row["version"], "date": row["uploaded"],
         "newest": row["newest"], "machine": row["machine"]}
        | {name: state(row, each, driver)
           for name, each in [*((f"SM{gpu}", gpu) for gpu in GPUS), ("here", sm)]}
        | {"instead": KNOWN.get(row["project"], {}).get("instead", "")} for row in rows])


def library_table(rows, sm, driver=DRIVER):
    """The libraries of wheels with device code (DataFrame), a row for each: what it `holds`, and
    what `library` says of it on a GPU."""
    return pd.DataFrame([
        {"package": row["project"], "version": row["version"], "newest": row["newest"],
         "machine": row["machine"], "library": path} | library(counts, sm, driver)
        | {"holds": ", ".join(sorted({each.target for text in counts for each in fatbin(text)}))}
        for row in rows if row["state"] == "wheel" for path, counts in row["libraries"].items()])


def ways(rows, sm, driver):
    """How a driver gets the fatbins of wheels onto a GPU (dict: of each way, how many)."""
    return library_table(rows, sm, driver)[[*loading.HOW]].sum().to_dict()
