"""Since when fixes are in a release: of TensorRT-LLM by todo.toml, of FlashInfer by since.json."""

import json
import re
import tomllib
from pathlib import Path

from . import AFFECTED, CANNOT_TELL, FIXED, Check

FACTS = tomllib.loads(Path(__file__).with_name("todo.toml").read_text())
WHEELS = json.loads(Path(__file__).with_name("since.json").read_text())  # made by make history
MENDED = {(each["bug"], each["what"]): each for each in WHEELS["checks"]}
STAGES = ("dev", "a", "b", "rc", "")
VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:(a|b|rc)(\d{1,9}))?"
                     r"(?:\.post(\d{1,9}))?(?:\.dev(\d{1,18}))?(?:\+\S*)?")


def order(version):
    """What versions are compared by (tuple), in the order of PEP 440; None for no version."""
    if not (found := VERSION.fullmatch(version)):
        return None
    *release, stage, number, post, dev = found.groups()
    stage = stage or ("dev" if dev and not post else "")
    return (*(int(part or 0) for part in release), STAGES.index(stage), int(number or 0),
            int(post or -1), int(dev) if dev else float("inf"))


def has(version, bug):
    """Whether a release has the merged fix of a bug: True, False, or None where nobody said."""
    fact, this = FACTS["release"][str(bug)], order(version)
    if this is None or this >= order(fact["since"]):
        return None if this is None else True
    known = {each[:2]: each for each in map(order, fact["without"])}  # the newest of each series
    without = this <= known[this[:2]] if this[:2] in known else this < min(known.values())
    return False if without else None


def beside(version, bug):
    """A sentence on a version and the merged fix of a bug (str), empty where none was merged."""
    if not (fact := FACTS["release"].get(str(bug))):
        return ""
    word = {True: "is in", False: "is not in", None: "may or may not be in"}[has(version, bug)]
    which = f" {word} {version}" if order(version) else " (this copy does not state its release)"
    return f"pull request {fact['pull']}{which}: {fact['says']} {' '.join(fact['links'])}"


def mended(version, bug, checks):
    """A sentence on since when FlashInfer has what its checks lack (str), empty where none does."""
    told, never, this = [], [], order(version)
    for check in checks:
        known = MENDED.get((bug, check.what)) if check.verdict == AFFECTED else None
        if known and not known["since"]:
            never.append(check.what)
        elif known and this and this < order(known["since"]):
            rc = f" ({known['since']})" if known["final"] not in ("", known["since"]) else ""
            told.append(f"{check.what} since {known['final'] or known['since']}{rc}")
    if never:
        told.append(f"in no release up to {WHEELS['newest']}: {', '.join(never)}")
    return f"mended, by the wheels of {WHEELS['read']}: {'; '.join(told)}." if told else ""


def check(version, bug):
    """A check by the version alone; of releases before the oldest that was read it says nothing."""
    this, fact = order(version), FACTS["release"][str(bug)]
    how = "by its version" if this else "its version is not stated"
    verdict = {True: FIXED, False: AFFECTED, None: CANNOT_TELL}[has(version, bug)]
    if this and this < order(fact["read"]):
        how, verdict = f"it is older than {fact['read']}, the oldest that was read", CANNOT_TELL
    return Check("release", verdict, note=f"{how}; {fact['unread']}")
