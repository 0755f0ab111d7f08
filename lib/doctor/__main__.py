"""``python -m lib.doctor [--json] [--gpu 121] [--driver 580] [FOLDER...]``: behind make doctor."""

import argparse
import json
import os
import re
import shlex
import signal
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

from lib.errors import CollectionError
from lib.instruments import loading

from . import AFFECTED, BUGS, CANNOT_TELL, FIXED, NOT_AFFECTED, examine, libraries, places
from .releases import FACTS

WIDTH, DEFAULT_SM = 98, 121
COLOURS = {AFFECTED: 31, FIXED: 32, NOT_AFFECTED: 2, CANNOT_TELL: 33}
SAYS = places.WHERE["says"]


def plain(text):
    """A text in which nothing but line ends can act on a terminal."""
    return "".join(each if each.isprintable() or each == "\n" else
                   " " if each == "\t" else f"\\x{ord(each):02x}" for each in text)


def split(value):
    """The folders of make's D: one with spaces in its name, or several, quoted as in a shell."""
    try:
        folders = [value] if os.path.isdir(value) else shlex.split(value)
    except ValueError:
        folders = [value]
    return [Path(folder).expanduser() for folder in folders]


def arguments(words):
    parser = argparse.ArgumentParser(prog="python -m lib.doctor")
    parser.add_argument("more", nargs="*", type=Path, metavar="FOLDER",
                        help="more places: checkouts, unpacked wheels, CUTLASS headers")
    parser.add_argument("--folders", type=split, default=[], help="the same, as make's D")
    parser.add_argument("--gpu", default="", help="such as 121, to judge for another GPU")
    parser.add_argument("--driver", default="", help="such as 580, to judge for another driver")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(words)
    given.folders = given.more + given.folders
    named = [*given.folders, *map(Path, filter(None, [os.environ.get("TRTLLM_SRC")]))]
    wrong = [f"{folder} is not a folder\n  next: {SAYS['unpack' if folder.is_file() else 'name']}"
             for folder in named if not folder.is_dir()]
    if given.gpu and not places.architecture(given.gpu):
        wrong.append(f"{given.gpu} is no GPU architecture\n  next: make doctor GPU=121")
    try:
        loading.known(given.driver or "580")
    except CollectionError as error:
        wrong.append(str(error))
    if wrong:
        parser.exit(2, plain(f"{wrong[0]}\n"))
    return given


def wrapped(text, indent):
    inner = " " * len(indent) + ("" if "-" in indent else "  ")
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=inner,
                         break_long_words=False, break_on_hyphens=False)


def summary(answers):
    """A table of bugs by products (list of str); nothing where it would be too wide."""
    said = {}
    for each in answers:
        column = said.setdefault((each.product, each.version, each.where), {})
        column[each.bug] = each.verdict.partition(" from")[0]
    names = [f"{product} {version}" for product, version, _ in said]
    widths = [max(len(name), len(NOT_AFFECTED)) + 2 for name in names]
    rows = [["", *names], *([f"{bug}. {title}", *(column.get(bug, "") for column in said.values())]
                            for bug, title in BUGS.items())]
    lines = ("".join(map(str.ljust, row, [18, *widths])).rstrip() for row in rows)
    return ["", *lines] if sum(widths) <= WIDTH - 20 else []


def explained(answer):
    """The lines of one answer: what was read and what it says, and what to do (list of str)."""
    out = [f"   {answer.product} {answer.version}: {answer.verdict}"]
    for check in answer.checks:
        mark = check.verdict if len(answer.checks) > 1 else ""
        out.append(wrapped(": ".join(filter(None, (check.what, mark, check.note))), "     "))
        if check.file:
            at = check.file.removeprefix(answer.where).lstrip("/").replace("\n", "\\n")
            out.append(f"       {at}{f':{check.line}' if check.line else ''}")
        if check.text:
            out.append(f"       | {textwrap.shorten(check.text, WIDTH - 12, placeholder=' …')}")
    return out + [wrapped(text, "     ") for text in (answer.release, f"do: {answer.todo}") if text]


def report(found, looked, answers, judged, second, seconds):
    """The answer as text (str); `second` is the lines of the second table."""
    if not found:
        where = [wrapped(each, "  - ") for each in looked]
        return "\n".join([judged, "", SAYS["nothing"], *where, "", SAYS["next"], *second])
    here = [f"{each.product} {each.version} ({each.found}): {each.root}" for each in found]
    here += [each for each in looked if each.endswith("nothing is there")]
    out = [judged, "", "found:", *(wrapped(each, "  ") for each in here), *summary(answers)]
    for bug, title in BUGS.items():
        own = [line for each in answers if each.bug == bug for line in explained(each)]
        out += ["", f"{bug}. {title}", *(own or ["   nothing that was found is about it"])]
    out += [*second, "", f"{len(found)} found, {seconds:.1f} s; nothing was imported or changed"]
    return "\n".join(out)


def named(paths):
    """The names of a few files, and how many more there are (str)."""
    names = [os.path.basename(path) for path in paths]
    more = f" and {len(names) - 3} more" if len(names) > 4 else ""
    return ", ".join(names[:3 if more else 4]) + more


def ways(package, width):
    """How the libraries of a package get onto the GPU (list of str): a line, and where nothing
    loads or a library is damaged, which and why."""
    count, groups = Counter(), {}
    for each in package.libraries:
        count[each.answer.how if each.answer else "damaged"] += each.files
        if not each.answer or not each.answer.image:
            told = (each.answer.why, each.answer.todo) if each.answer else (each.error, "")
            groups.setdefault(told, []).append(each.path)
    kinds = [how for how in (*loading.HOW, "damaged") if count[how]]
    each = ", ".join(f"{count[how]:,} {how}" if len(kinds) > 1 else how for how in kinds)
    total = f"{count.total():,} files: " if count.total() > 1 else ""
    own = FACTS["packages"].get(package.name)
    lines = [f"   {package.name} {package.version}".ljust(width) + f"  {total}{each}"]
    for (why, todo), paths in groups.items():
        lines.append(wrapped(f"{named(paths)}: {why}" if todo else why, "     "))
        lines += [wrapped(f"do: {todo}", "     ")] if todo and not own else []
    return lines + ([wrapped(f"do: {own}", "     ")] if own and groups else [])


def inventory(packages, sm, driver, presumed):
    """The second table (list of str)."""
    told = f"CUDA code in packages, on SM{sm} with driver {driver} (CUDA {loading.known(driver)})"
    if presumed:
        told += f": presumed, {loading.RULES['presumed']['why']} (DRIVER=595 for another)"
    width = max((len(f"   {each.name} {each.version}") for each in packages), default=0)
    lines = [line for package in packages for line in ways(package, width)]
    return ["", wrapped(told, ""), *(lines or ["   no package that was found holds any"])]


def main(words):
    begin = time.perf_counter()
    given = arguments(words)
    found, looked = places.search(given.folders)
    asked = places.architecture(given.gpu)
    name, here, installed = ("as asked", None, None) if asked else places.gpu()
    sm, presumed = asked or here or DEFAULT_SM, loading.RULES["presumed"]["driver"]
    judged = (f"judged for SM{sm}, {name}" if asked or here else
              f"no GPU: {name}; judged for SM{sm}, a DGX Spark's (GPU=120 for another)")
    answers = examine.examine(found, sm)
    driver = given.driver or installed or presumed
    packages = libraries.packages(given.folders, sm, driver)
    seconds = time.perf_counter() - begin
    if given.json:
        told = {"judged for": f"SM{sm}", "GPU": name if here else None, "seconds": seconds,
                "looked": looked, "found": [each._asdict() for each in found],
                "answers": [each._asdict() | {"title": BUGS[each.bug], "checks": [
                    check._asdict() for check in each.checks]} for each in answers],
                "driver": driver, "CUDA of the driver": loading.known(driver),
                "packages": libraries.told(packages)}
        print(json.dumps(told, indent=1, default=str))
        return
    second = inventory(packages, sm, driver, not (given.driver or installed))
    text = plain(report(found, looked, answers, judged, second, seconds))
    if sys.stdout.isatty():
        text = re.sub(rf"(?m)^(   \S.*: )({'|'.join(COLOURS)})$",
                      lambda each: f"{each[1]}\033[{COLOURS[each[2]]}m{each[2]}\033[0m", text)
    print(text)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader that stops early is no error
    main(sys.argv[1:])
