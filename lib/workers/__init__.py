"""Many independent questions, asked side by side: on this machine, or on a Dask cluster.

``CLUSTER=tcp://scheduler:8786`` in the environment names the cluster. All that it does is to fill
the cache: an answer is looked for here, asked there if it is not held, kept here, and read here.
"""

import os
import threading
from concurrent import futures

from lib.workers import cluster, machine, progress
from lib.workers.outcomes import Outcome

__all__ = ["Outcome", "ask"]


def ask(function, questions, title, processes=False, at_once=None):
    """Ask a function every question, side by side: list of `Outcome`, in the order of questions.

    `function` is a public function of a module of lib that answers one question, and remembers its
    answer itself (see `cache.remember`); each question is a dict of its named arguments. For a
    cluster both hold what means the same on every machine: names and numbers, no paths. `title`
    names the work in the line that shows how far it is.

    Without a cluster, `at_once` questions (one a core) have a thread each, or a process. A question
    that fails with a `CollectionError` costs itself alone; any other error ends all, and is raised.
    An interrupt ends what was begun here; a worker ends its question, and keeps the answer.
    """
    address, threads = os.environ.get("CLUSTER"), []
    at_once = cluster.FAR if address else at_once or os.cpu_count() or 1
    with cluster.opened(address) if address else machine.opened(processes) as (one, watch):
        before = machine.children()
        pool = futures.ThreadPoolExecutor(
            at_once, initializer=lambda: threads.append(threading.current_thread()))
        try:
            asked = pending = [pool.submit(one, function, question) for question in questions]
            with progress.shown(title, len(asked)) as show:
                while pending:
                    done, pending = futures.wait(pending, machine.TICK, futures.FIRST_EXCEPTION)
                    for each in done:
                        each.result()
                    show(len(asked) - len(pending))
                    watch()
            return [each.result() for each in asked]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            machine.stop(threads, before)
