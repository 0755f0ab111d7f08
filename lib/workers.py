"""Many independent questions, asked side by side: on threads or processes of this machine."""

import os
from collections import namedtuple
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed

from lib.errors import CollectionError

# What one question came to: an answer, or the error (`CollectionError`) that it ended with.
Outcome = namedtuple("Outcome", "question answer error")


def ask(function, questions, title, processes=False):
    """Ask a function every question, side by side: list of `Outcome`, in the order of questions.

    `function` is a public function of a module of lib that answers one question with what JSON
    holds, and remembers its answer itself (see `cache.remember`); each question is a dict of its
    named arguments. A question that fails with a `CollectionError` costs itself alone. `title`
    names the work in the line that shows how far it is.
    """
    questions = list(questions)
    pool = (ProcessPoolExecutor if processes else ThreadPoolExecutor)(os.cpu_count() or 1)
    with pool:
        asked = {pool.submit(function, **each): number for number, each in enumerate(questions)}
        found = {}
        for future in as_completed(asked):
            question = questions[asked[future]]
            try:
                found[asked[future]] = Outcome(question, future.result(), None)
            except CollectionError as error:
                found[asked[future]] = Outcome(question, None, error)
    return [found[number] for number in range(len(questions))]
