"""A probe of TensorRT-LLM three times: as installed, and under the patches that fit it."""

import pandas as pd

from lib import overlay
from lib.instruments import probes
from lib.subjects import patches

INSTALLED, KINDS = "as installed", ("published", "revised")
SECONDS = 280  # that a run may take


def fitting(number, root):
    """Which patches of a bug fit the TensorRT-LLM in a folder: each of `KINDS` to its file of
    patches/, or to an empty string (dict), and why some do not (str; empty if all do)."""
    chosen, why = dict.fromkeys(KINDS, ""), []
    for kind in KINDS:
        files = sorted(patches.FOLDER.glob(f"{number:02}-*.{kind}.tensorrt-llm*.diff"))
        laid = [patch for patch in map(patches.Patch, files)
                if all(file.endswith(".py") for file in patch.files)]
        states = {patch.path.name: patch.state(root) for patch in laid}
        ready = [patch for patch in laid if states[patch.path.name] == patches.READY]
        whole = max(ready, key=lambda patch: len(patch.files), default=None)  # not a part
        chosen[kind] = whole.path.name if whole else ""
        if not chosen[kind]:
            why.append(f"The {kind} patch is applied already." if patches.APPLIED in states.values()
                       else f"No {kind} patch fits this release." if laid else
                       f"The {kind} patch changes more than Python files." if files else
                       f"There is no {kind} patch.")
    return chosen, " ".join(why)


def probed(number, parameters=None):
    """Run a probe as installed, then under each patch that fits (`fitting`).

    `parameters` are as `probes.ask` takes them. The answers (DataFrame) have the column ``patch``:
    ``as installed``, ``published`` or ``revised``; with them comes a line a run that says how it
    ended, or why nothing ran (str).
    """
    if reason := probes.why_not():
        return pd.DataFrame(columns=("patch", *probes.FIELDS)), reason
    root = probes.installation()[1]
    chosen, why = fitting(number, root)
    options = {"seconds": SECONDS, "parameters": parameters}
    table, line = probes.ask(number, **options)
    tables, lines = [table.assign(patch=INSTALLED)], [f"{INSTALLED}: {line}"]
    for kind, name in chosen.items():
        if name:
            with overlay.shadow(name, root=root) as laid:
                variables = {"PYTHONPATH": laid.path}
                table, line = probes.ask(number, environment=variables, **options)
            tables.append(table.assign(patch=kind))
            lines.append(f"{kind} ({name}): {line}")
    whole = pd.concat(tables, ignore_index=True)
    return whole[["patch", *whole.columns.drop("patch")]], "\n".join(filter(None, [*lines, why]))
