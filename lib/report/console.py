"""What the commands say in the terminal: progress, failures, the scoreboard of a run."""

import functools
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lib import evidence
from lib.instruments import loading
from lib.report import runner, scoreboard

BEAT = 15  # seconds between two lines about a notebook, where there is no terminal
# Lines as they are: no markup, no colours of rich's own choice, and none is wrapped in a log.
console = Console(markup=False, highlight=False, soft_wrap=True,
                  width=None if sys.stdout.isatty() else 200)
say = console.print
warn = functools.partial(say, style="bold red")  # what must be seen


def progress(jobs):
    """The live table: a line a notebook."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for job in jobs:
        cells = f"cell {job.cell} of {job.cells}" if job.cells else ""
        seconds = f"{job.elapsed:.0f} s" if job.started else ""
        table.add_row(job.name, job.state, cells, seconds, job.error[:100])
    return table


def follow(jobs, at_once):
    """Run jobs, with a live table in a terminal, else a line for each change and every `BEAT`."""
    if console.is_terminal:
        with Live(progress(jobs), console=console, refresh_per_second=5) as live:
            for _ in runner.together(runner.execute, jobs, at_once):
                live.update(progress(jobs))
        return
    said = {}
    for _ in runner.together(runner.execute, jobs, at_once):
        for job in jobs:
            state, when = said.get(job.name, ("", 0))
            silent = time.monotonic() - when > BEAT
            if state != job.state or (silent and state == "running"):
                said[job.name] = job.state, time.monotonic()
                say(f"{job.name}: {job.state}, cell {job.cell} of {job.cells}, "
                    f"{job.elapsed:.0f} s {job.error}".rstrip())


def failures(jobs):
    """Print what failed of each notebook, with its cell and error."""
    for job in jobs:
        for each in job.failures:
            warn(f"FAILED {job.name}, cell {each['cell']}: {each['error']}")


def board(found):
    """Print one screen: bugs down, verdicts across, each claim by its id."""
    table = Table("bug", *evidence.findings.VERDICTS, box=None, padding=(0, 2, 0, 0))
    decided = scoreboard.decided(found)
    for bug, name in scoreboard.BUGS.items():
        cells = [" ".join(claim.id for claim, finding in decided if claim.bug == bug
                          and finding and finding["verdict"] == column)
                 for column in evidence.findings.VERDICTS]
        if any(cells):
            table.add_row(f"{bug or ''} {name}", *cells)
    say(table, soft_wrap=False)
    missing = sum(finding is None for _, finding in decided)
    say(f"{len(found)} findings; " + (f"no finding yet for {missing} of {len(decided)} claims"
                                      if missing else "every claim has one"))


def survey(states, libraries):
    """Print what packages come to on each GPU; then each library (dict of GPU to its table)."""
    named = ("package", "version", "machine", "SM121", "SM120")
    table = Table(*named, box=None, padding=(0, 2, 0, 0))
    for row in states.to_dict("records"):
        table.add_row(*(row[name] for name in named))
    say(table, soft_wrap=False)
    for gpu, rows in libraries.items():
        for row in rows.to_dict("records"):
            ways = ", ".join(f"{row[way]:,} {way}" for way in loading.HOW if row[way])
            say(f"  {row['machine']}, {gpu}, {row['library']}: {ways} ({row['holds']})")
    for advice in {row for row in states["instead"] if row and libraries}:
        say(f"  what to do where it does not run: {advice}")


def beside(shown):
    """Print which other machines are in the report (`Runs`), and why some files are not."""
    for machine in shown.others:
        say(f"beside this machine: {machine.label}, {len(machine.findings)} findings")
    for path, reason in shown.refused:
        warn(f"NOT SHOWN {path}: {reason}")


def details(found):
    """Print each finding of a notebook with its sentence."""
    for finding in found:
        about = f"{finding['claim']} " if finding["claim"] else ""
        say(f"{about}{scoreboard.head(finding)} {finding['summary']}")
