"""What the commands say in the terminal: progress, failures, the scoreboard of a run."""

import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lib import evidence
from lib.evidence import claims
from lib.report import runner, scoreboard

BEAT = 15  # seconds between two lines about a notebook, where there is no terminal
console = Console()


def say(text, **style):
    """Print a line as it is: no markup, no colours of rich's own choice."""
    console.print(text, highlight=False, markup=False, **style)


def warn(text):
    """Print a line that must be seen."""
    say(text, style="bold red")


def progress(jobs):
    """The live table: a line a notebook."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for job in jobs:
        cells = f"cell {job.cell} of {job.cells}" if job.cells else ""
        seconds = f"{job.elapsed:.0f} s" if job.started else ""
        table.add_row(job.name, job.state, cells, seconds, job.error[:100])
    return table


def follow(jobs, at_once):
    """Run jobs and show how far they are.

    In a terminal that is a live table, else a line for every change of state and every 15 s.
    """
    if console.is_terminal:
        with Live(progress(jobs), console=console, refresh_per_second=5) as live:
            for jobs in runner.run(jobs, at_once):
                live.update(progress(jobs))
        return
    said, last = {}, time.monotonic()
    for jobs in runner.run(jobs, at_once):
        beat = time.monotonic() - last > BEAT
        last = time.monotonic() if beat else last
        for job in jobs:
            if said.get(job.name) != job.state or (beat and job.state == runner.RUNNING):
                said[job.name] = job.state
                line = (f"{job.name}: {job.state}, cell {job.cell} of {job.cells}, "
                        f"{job.elapsed:.0f} s {job.error}")
                print(line.rstrip(), flush=True)


def failures(jobs):
    """Print each notebook that failed, with its cell and error."""
    for job in jobs:
        if job.error:
            warn(f"FAILED {job.name}, {job.error}")


def board(found):
    """Print one screen: bugs down, verdicts across, each claim by its id."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("bug", *evidence.VERDICTS):
        table.add_column(column)
    decided = scoreboard.decided(found)
    for bug, name in scoreboard.BUGS.items():
        mine = [(claim.id, finding["verdict"]) for claim, finding in decided
                if claim.bug == bug and finding]
        cells = [" ".join(id for id, verdict in mine if verdict == column)
                 for column in evidence.VERDICTS]
        if mine:
            table.add_row(f"{bug or ''} {name}", *cells)
    console.print(table)
    missing = sum(finding is None for _, finding in decided)
    rest = f"no finding yet for {missing} of {len(claims.ledger())} claims" if missing \
        else "every claim has one"
    console.print(f"{len(found)} findings; {rest}")


def beside(shown):
    """Print which other machines are in the report (`Runs`), and which files are not, and why."""
    for machine in shown.others:
        say(f"beside this machine: {machine.label}, {len(machine.findings)} findings")
    for path, reason in shown.refused:
        warn(f"NOT SHOWN {path}: {reason}")


def details(found):
    """Print each finding of a notebook with its sentence."""
    for finding in found:
        about = f"{finding['claim']} " if finding["claim"] else ""
        say(f"{about}{scoreboard.head(finding)} {finding['summary']}")
