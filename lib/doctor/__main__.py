"""``python -m lib.doctor [--json] [--gpu 121] [FOLDER...]``: the command behind make doctor. Standard library only."""

import argparse
import json
import signal
import sys
import textwrap
import time
from dataclasses import asdict
from pathlib import Path

from . import BUGS, CANNOT_TELL, DEFAULT_SM, FIXED, NOT_APPLICABLE, PRESENT, examine, places

WIDTH = 98
COLOURS = {PRESENT: 31, FIXED: 32, NOT_APPLICABLE: 2, CANNOT_TELL: 33}


def arguments(words):
    parser = argparse.ArgumentParser(prog="make doctor", description="Which of the five bugs this machine has.")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER",
                        help="more places: checkouts, unpacked wheels, site-packages, CUTLASS headers")
    parser.add_argument("--gpu", default="", help="judge for this architecture, such as 121, instead of for the GPU of this machine")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(words)
    for folder in given.folders:
        if not folder.is_dir():
            more = 'name a folder that exists: make doctor D="path"'
            if folder.is_file():
                more = "if it is a wheel, unpack it: python -m zipfile -e FILE FOLDER, and name the folder"
            parser.exit(2, f"{folder} is not a folder\n  next: {more}\n")
    if given.gpu and not places.architecture(given.gpu):
        parser.exit(2, f"{given.gpu!r} is no GPU architecture\n  next: name one by its compute capability: make doctor GPU=121\n")
    return given


def relative(file, root):
    """A file's path below the folder of its product."""
    try:
        return str(Path(file).relative_to(root))
    except ValueError:
        return file


def wrapped(text, indent):
    inner = " " * len(indent) + ("" if "-" in indent else "  ")
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=inner, break_long_words=False, break_on_hyphens=False)


def summary(answers):
    """A table of bugs by products (list of str); nothing where it would be too wide."""
    columns = list(dict.fromkeys((answer.product, answer.version, answer.where) for answer in answers))
    names = [f"{product} {version}" for product, version, _ in columns]
    widths = [max(len(name), len(CANNOT_TELL), len(NOT_APPLICABLE)) + 2 for name in names]
    if sum(widths) > WIDTH - 20:
        return []
    said = {(answer.bug, answer.product, answer.version, answer.where): answer.verdict for answer in answers}
    rows = [" " * 18 + "".join(name.ljust(width) for name, width in zip(names, widths))]
    rows += [f"{bug}. {title}".ljust(18) + "".join(said.get((bug, *column), "").ljust(width) for column, width in zip(columns, widths))
             for bug, title in BUGS.items()]
    return ["", *(row.rstrip() for row in rows)]


def report(found, looked, answers, judged, seconds):
    """The answer as text (str)."""
    def paint(verdict):
        return f"\033[{COLOURS[verdict]}m{verdict}\033[0m" if sys.stdout.isatty() else verdict

    out = [judged, ""]
    if not found:
        out += ["Nothing was found: no TensorRT-LLM, FlashInfer or CUTLASS. Looked at:", *(wrapped(each, "  - ") for each in looked), "",
                wrapped("next: run it with the python that has them (make doctor PYTHON=/path/to/python), or inside the container, "
                        'or name folders (make doctor D="path path")', "")]
        return "\n".join(out)
    out += ["found:"] + [wrapped(f"{each.product} {each.version} ({each.found}): {each.root}", "  ") for each in found] + summary(answers)
    for bug, title in BUGS.items():
        out += ["", f"{bug}. {title}"]
        for answer in (answer for answer in answers if answer.bug == bug):
            out.append(f"   {answer.product} {answer.version}: {paint(answer.verdict)}")
            for check in answer.checks:
                mark = "" if check.verdict == answer.verdict and len(answer.checks) == 1 else check.verdict
                out.append(wrapped(": ".join(filter(None, (check.what, mark, check.note))), "     "))
                if check.file:
                    at = f"{relative(check.file, answer.where)}{f':{check.line}' if check.line else ''}"
                    out.append(f"       {at}")
                    if check.text:
                        out.append(f"       | {textwrap.shorten(check.text, WIDTH - 12, placeholder=' …')}")
            out.append(wrapped(f"do: {answer.todo}", "     "))
        if not any(answer.bug == bug for answer in answers):
            out.append("   nothing that was found is about it")
    return "\n".join([*out, "", f"{len(found)} found, {seconds:.1f} s; nothing was imported or changed"])


def main(words):
    begin = time.perf_counter()
    given = arguments(words)
    query = None if given.gpu else places.gpu_query()
    found, looked = places.search(given.folders)
    asked = places.architecture(given.gpu) if given.gpu else None
    name, here = places.gpu(query) if not asked else ("as asked", None)
    sm = asked or here or DEFAULT_SM
    judged = f"judged for SM{sm}, {name}"
    if not asked and not here:
        judged = f"no GPU: {name}; judged for SM{sm}, a DGX Spark's (make doctor GPU=120 for another)"
    answers = examine.examine(found, sm)
    seconds = time.perf_counter() - begin
    if given.json:
        said = [asdict(answer) | {"title": BUGS[answer.bug], "verdict": answer.verdict} for answer in answers]
        print(json.dumps({"judged for": f"SM{sm}", "GPU": name if here else None, "seconds": round(seconds, 3), "looked": looked,
                          "found": [asdict(each) | {"root": str(each.root)} for each in found], "answers": said}, indent=1))
    else:
        print(report(found, looked, answers, judged, seconds))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader that stops early, such as head, is no error
    main(sys.argv[1:])
