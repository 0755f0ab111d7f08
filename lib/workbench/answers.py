"""What a tool answers, and how it refuses what cannot be."""

from dataclasses import dataclass

from IPython.display import display

from lib.errors import CollectionError
from lib.evidence import session


@dataclass(repr=False)
class Answer:
    """Sentences, a line each; charts, tables or text that show it; and the values behind it."""

    said: str
    shown: tuple = ()
    values: object = None

    def __repr__(self):
        return self.said

    def _ipython_display_(self):
        html = "".join(map(session.sentence, self.said.splitlines()))
        display({"text/html": html, "text/plain": self.said}, raw=True)
        display(*self.shown)


def choose(what, given, known):
    """The one of the `known` names that is meant, with x for × and in any case, or an error."""
    plain = {str(name).casefold().replace("×", "x"): name for name in known}
    if (asked := str(given).casefold().replace("×", "x")) not in plain:
        raise CollectionError(f"{what} {given!r} is unknown",
                              f"use one of: {', '.join(map(repr, known))}")
    return plain[asked]
