"""Questions for the tests of lib/workers, which workers in processes of their own can import."""

import os
import signal
import subprocess
import time
from pathlib import Path

from lib import cache
from lib.errors import CollectionError


def square(number, log, seconds=0.0, dies=0, wrong=False):
    """A number squared, remembered, with a program beside it; each time that it is asked is a line of `log`."""
    def ask(folder):
        with open(log, "a") as file:
            file.write(f"{number} {os.getpid()}\n")
        if dies >= times(log).count(number):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)
        if wrong:
            raise CollectionError(f"{number} is wrong", "ask for another")
        (folder / "bin").mkdir()
        (folder / "bin/program").write_text(f"#!/bin/sh\necho {number}\n")
        (folder / "bin/program").chmod(0o755)
        return [number ** 2]

    ask.__module__ = "lib.evidence.figures"  # of lib, as the key wants
    answer = cache.remember("squares", {"number": number}, ask)
    return *answer.value, subprocess.run([answer.folder / "bin/program"], capture_output=True, text=True).stdout


def times(log):
    """The numbers that were asked, in the order in which that began (list of int)."""
    return [int(line.split()[0]) for line in Path(log).read_text().splitlines()] if Path(log).exists() else []


def sleep(seconds, log):
    """Nothing, by another program, for some seconds."""
    Path(log).touch()
    subprocess.run(["sleep", str(seconds)], check=True)


def wait(log):
    """Nothing, in Python, for a minute."""
    Path(log).touch()
    for _ in range(600):
        time.sleep(0.1)


def broken(number):
    """A bug of ours."""
    return 1 / number
