"""When each bug came, went and came back: what the releases said, as verdicts."""

from pathlib import Path

import pandas as pd

from lib.doctor import AFFECTED, BUGS, CANNOT_TELL, FIXED, NOT_AFFECTED
from lib.doctor import releases as doctor
from lib.history import kept, releases

SINCE = Path(doctor.__file__).with_name("since.json")  # what the doctor knows of it
READ, RUN, COMPILED = "read", "run", "compiled"


def checks(said):
    """What a release said (dict, of `kept.load`) as rows (bug, product, what, how, verdict, note):
    the doctor, which read its files; its tuner's functions, as they ran; its kernels' bytes."""
    yield from ((*each.values(), READ) for each in said["checks"])
    for what in ("look-up", "warm-up"):
        raised = sum(outcome != "ok" for outcome in said[what].values())
        yield (4, "FlashInfer", what, AFFECTED if raised else FIXED,
               f"{raised} of {len(said[what])} cases raise", RUN)
    mended = said["linked"] == releases.MENDED
    yield (4, "FlashInfer", "linked sizes", FIXED if mended else AFFECTED,
           f"the key is {said['linked']}", RUN)
    for family in kept.FAMILIES:
        size = (said["sizes"] or {}).get(family)
        known = said["sizes"] is not None and (said["scatter"] or family != "grouped GEMM")
        verdict = NOT_AFFECTED if known else CANNOT_TELL
        note = "there are no such kernels" if known else "these were not compiled"
        if size:
            verdict = AFFECTED if size["too large"] else NOT_AFFECTED
            note = "{too large} of {built} are too large, up to {largest:,} B".format_map(size)
        yield 1, "FlashInfer", family, verdict, note, COMPILED


def table(rows):
    """Releases (list of dict, of `kept.load`) as one row for each release and check (DataFrame).

    ``check`` names a check and ``how`` it was decided: read, run or compiled; ``upload`` counts the
    releases in the order of ``uploaded``, their day. The checks of a bug stand together.
    """
    columns = ["bug", "product", "what", "verdict", "note", "how"]
    found = pd.concat([
        pd.DataFrame(checks(row["said"]), columns=columns).assign(
            version=row["version"], uploaded=row["uploaded"][:10], upload=place)
        for place, row in enumerate(rows)], ignore_index=True)
    found["what"] = found["what"].where(found["what"] != "", found["bug"].map(BUGS))
    how = found["how"].map({READ: "", RUN: ", run", COMPILED: ", compiled"})
    found["check"] = found["bug"].astype(str) + " " + found["what"] + how
    first = found.groupby(["bug", "what"], sort=False).ngroup()
    return found.assign(first=first, late=found["how"] != READ).sort_values(
        ["bug", "first", "late", "upload"], ignore_index=True).drop(columns=["first", "late"])


def courses(found):
    """What each check says from release to release (DataFrame: check, course, in words)."""
    def told(rows):
        turns = rows[rows["verdict"].ne(rows["verdict"].shift())]
        words = turns["verdict"].str.removesuffix(" here").str.partition(" from")[0]
        later = (words + " from " + turns["version"])[turns["upload"] > 0]
        return ", ".join(later) or f"{words.iloc[0]} in all"

    groups = found.groupby("check", sort=False)
    return pd.DataFrame([{"check": name, "course": told(rows)} for name, rows in groups])


def changes(found):
    """Where a check says another thing than for the release before (DataFrame), by upload."""
    before = found.groupby("check")[["verdict", "note"]].shift()
    differs = found[["verdict", "note"]].ne(before) & before.notna()
    moved = differs["verdict"] | differs["note"] & (found["how"] != COMPILED)
    columns = ["uploaded", "version", "check", "was", "verdict", "note"]
    turned = found.assign(was=before["verdict"])[moved]
    return turned.sort_values("upload", kind="stable", ignore_index=True)[columns]


def since(found):
    """Since which release each of the doctor's checks of FlashInfer is mended (DataFrame).

    In the order of versions, ``first`` is the first that is affected, ``since`` the one after the
    last that is, and ``final`` the next of these that is no pre-release; both empty where the
    newest is affected. Checks by which none is affected are left out.
    """
    own, made = found[(found["how"] == READ) & (found["product"] == "FlashInfer")], []
    for (bug, what), rows in own.groupby(["bug", "what"], sort=False):
        rows = rows.sort_values("version", key=lambda each: each.map(doctor.order))
        ill = rows["verdict"].eq(AFFECTED).to_numpy().nonzero()[0]
        if len(ill):
            after = rows["version"].tolist()[ill[-1] + 1:]
            final = [each for each in after if "rc" not in each]
            made.append({"bug": bug, "what": what, "first": rows["version"].iloc[ill[0]],
                         "since": next(iter(after), ""), "final": next(iter(final), "")})
    return pd.DataFrame(made)


def facts(rows, day):
    """What the doctor is to know, in `SINCE`, of releases that were read on a day (dict)."""
    newest = max((row["version"] for row in rows), key=doctor.order)
    return {"read": day, "newest": newest, "checks": since(table(rows)).to_dict("records")}
