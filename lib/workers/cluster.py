"""A Dask cluster: workers of this version of the collection answer, and their answers come here."""

import os
import platform
import socket
import time
from concurrent import futures
from contextlib import contextmanager, suppress

from lib import cache
from lib.errors import CollectionError
from lib.workers.machine import TICK
from lib.workers.outcomes import Outcome, died, here

WAIT = 20  # s, for who is not there
FAR = 200  # questions under way on a cluster
ROOT = cache.PACKAGE.parent
MAKERS = ("lib", "patches", "probes", "requirements.txt")  # what makes answers
KEPT = (".pyc", ".json")  # what does not: JSON is kept data, and an input where an answer needs it


class NotHeld(Exception):
    """The cache does not hold an answer that was only looked for."""


def held(kind, key, _):
    """`cache.entry` for who only looks."""
    if found := cache.held(kind, key):
        return found
    raise NotHeld(kind)


def identity():
    """What the answers of this process depend on (str)."""
    paths = [path for name in MAKERS for path in (ROOT / name, *ROOT.joinpath(name).rglob("*"))]
    files = {str(path.relative_to(ROOT)): cache.hashed(path)
             for path in paths if path.is_file() and path.suffix not in KEPT}
    return f"version {cache.digest(files)[:12]} on {platform.machine()}"


LOADED = identity()


def unlike(theirs):
    """On a worker: why it cannot answer for a process of that `identity` (str; empty: it can)."""
    place = f"{ROOT} on {socket.gethostname()}"
    mine = LOADED if identity() == LOADED else "changed since it started"
    return "" if mine == theirs else f"{place} is {mine}, and not {theirs}"


def refusal(worker, why):
    """The error of a worker that cannot answer."""
    return CollectionError(f"the worker {worker} is refused: {why}", "bring its clone to the "
                           "version of this one (git pull), and start it there again")


def answer(function, question, theirs):
    """On a worker: the error that a question ended with, and the entries that answer it."""
    os.environ.pop("CLUSTER", None)
    if why := unlike(theirs):
        raise refusal("that was asked", why)
    made = []
    cache.HAD.set(lambda *asked: made.append(cache.entry(*asked)) or made[-1])
    error = here(function, question).error
    return error, [cache.packed(each.folder) for each in made]


@contextmanager
def opened(address):
    """How a question is asked on a Dask cluster: a function like `here`, and one for each look.

    A CollectionError if there is no scheduler, no worker, or one that is `unlike` this process.
    """
    from distributed import Client, KilledWorker
    from distributed.comm import get_address_host_port
    gone = (f"no Dask scheduler answers at CLUSTER={address}",
            "start it on that machine with .venv/bin/dask scheduler, and run again: what was "
            "answered is kept; or unset CLUSTER")
    try:
        socket.create_connection(get_address_host_port(address), WAIT).close()
        client = Client(address, timeout=WAIT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise CollectionError(*gone) from error

    def watch():
        try:
            client.wait_for_workers(1, WAIT)
        except TimeoutError:
            raise CollectionError(
                f"the scheduler {address} has no worker", "start two in a clone of the collection: "
                f".venv/bin/dask worker {address} --nthreads 1 --nworkers 2") from None
        except OSError as error:
            raise CollectionError(*gone) from error

    def one(function, question):
        cache.HAD.set(held)
        with suppress(NotHeld):
            return here(function, question)
        asked = client.submit(answer, function, question, LOADED, pure=False)
        while not asked.done():
            time.sleep(TICK)
        try:
            error, entries = asked.result()
        except KilledWorker as error:
            return died(question, f"each worker that was asked died: {error}")
        except futures.CancelledError as error:
            raise CollectionError(*gone) from error
        for each in entries:
            cache.take(*each)
        if error:
            return Outcome(question, None, error)
        with suppress(NotHeld):
            return here(function, question)
        raise CollectionError(f"a worker answered {question} from other inputs than are here",
                              "set SM12X_CUDA_HOME and TRTLLM_SRC alike everywhere, or unset them")

    with client:
        watch()
        for worker, why in client.run(unlike, LOADED, on_error="return").items():
            if why:
                raise refusal(worker, why)
        yield one, watch
