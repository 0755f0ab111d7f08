"""What a run started ends with it: a small process that outlives a killed one, and ends the rest.

``python -m lib.report.guard MARK`` waits until its input closes, which happens when the run ends,
however it does. The mark is in the environment of all that the run starts, so that a compiler is
found although the kernel that called it is gone.
"""

import os
import sys
import time
from contextlib import suppress
from subprocess import DEVNULL, PIPE, Popen

import psutil

VARIABLE = "SM12X_RUN"


def send(mark, signal):
    """Send a signal to all processes with a mark, but this one; how many there were (int)."""
    found = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(VARIABLE) == mark:
                process.send_signal(signal)
                found += 1
    return found


def start():
    """Mark what this process starts from now on, and watch over it (Popen, to be kept)."""
    mark = os.environ[VARIABLE] = f"{os.getpid()}-{time.time_ns()}"
    environment = {name: text for name, text in os.environ.items() if name != VARIABLE}
    return Popen([sys.executable, "-m", __name__, mark], stdin=PIPE, stdout=DEVNULL,
                 env=environment, start_new_session=True)


if __name__ == "__main__":
    sys.stdin.read()
    while send(sys.argv[1], 9):
        time.sleep(0.1)
