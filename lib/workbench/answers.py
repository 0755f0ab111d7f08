"""What a tool answers: sentences, and the charts, tables and text that show it."""

from dataclasses import dataclass

import pandas as pd
from IPython.display import display

from lib.errors import CollectionError
from lib.evidence import session, tables


@dataclass(repr=False)
class Answer:
    """Sentences, a line each; what shows them (Chart, DataFrame or text); the values behind."""

    said: str
    shown: tuple = ()
    values: dict | None = None

    def __repr__(self):
        return self.said

    def _ipython_display_(self):
        html = "".join(session.sentence(line.strip()) for line in self.said.splitlines())
        display({"text/html": html, "text/plain": self.said}, raw=True)
        for each in self.shown:
            if isinstance(each, pd.DataFrame):
                bundle = {"text/html": tables.html(each), "text/plain": each.to_string()}
                display(bundle, raw=True)
            elif isinstance(each, str):
                display({"text/plain": each}, raw=True)
            else:
                display(each)


def plain(name):
    """A name as it is compared: without case, and x for ×."""
    return str(name).casefold().replace("×", "x")


def choose(what, given, known):
    """The one of the `known` names that is meant, or an error that lists them."""
    for name in known:
        if plain(name) == plain(given):
            return name
    raise CollectionError(f"{what} {given!r} is unknown",
                          f"use one of: {', '.join(map(repr, known))}")


def number(what, given, least, most):
    """Refuse (CollectionError) what is no whole number from `least` to `most`."""
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        raise CollectionError(f"{what} cannot be {given!r}",
                              f"give a whole number from {least:,} to {most:,}")
