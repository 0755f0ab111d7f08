"""What a question comes to, asked where this runs."""

from collections import namedtuple

from lib.errors import CollectionError

# What one question came to: an answer, or the error (`CollectionError`) that it ended with.
Outcome = namedtuple("Outcome", "question answer error")


def here(function, question):
    """Ask in this thread (`Outcome`)."""
    try:
        return Outcome(question, function(**question), None)
    except CollectionError as error:
        return Outcome(question, None, error)


def died(question, what):
    """The `Outcome` of a question that ends the processes that are asked it."""
    error = CollectionError(f"{question}: {what}", "give it more memory, or ask fewer at once")
    return Outcome(question, None, error)
