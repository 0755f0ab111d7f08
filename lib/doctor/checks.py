"""How the rules say what they found: checks with the line that decided, or with why there is none."""

import re

from . import CANNOT_TELL, NOT_APPLICABLE, Check


def check(what, verdict, line=None, note="", file=""):
    """A `Check` from a line (or from a file as a whole)."""
    return Check(what, verdict, line.file if line else file, line.number if line else 0, line.text if line else "", note)


def absent(what, tree, names, note=""):
    """A check that could not be made: none of the files is there."""
    looked = f"looked for {' and '.join(names)}, which {tree.root} does not have."
    return check(what, CANNOT_TELL, None, f"{looked} {note}".rstrip())


def unreadable(what, source):
    """A check whose file could not be read, or None."""
    return check(what, CANNOT_TELL, None, source.problem, source.path) if source.problem else None


def unknown(what, source, wanted):
    """A check whose file is laid out in a way that is not known here."""
    return check(what, CANNOT_TELL, None, f"it does not have {wanted}: a layout that is not known here", source.path)


def not_for(sm, about):
    return [check("", NOT_APPLICABLE, None, f"this is about {about}, and the GPU is SM{sm}")]


def numbers(text):
    return {int(number) for number in re.findall(r"\d+", text)}
