"""``python -m lib report | record | notebook | survey | history ...``: their arguments alone."""

import argparse
import os
import signal
import sys
from pathlib import Path
from shlex import split as words

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while the rest loads, it just ends

from lib.atlas import measured
from lib.errors import CollectionError
from lib.instruments import devices
from lib.report import commands, console, guard, record, runner

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def parser():
    """The parser of all commands (argparse.ArgumentParser)."""
    whole = argparse.ArgumentParser(prog="python -m lib", description=__doc__)
    whole.add_argument("--notebooks", default=runner.FOLDER, help="their folder")
    whole.add_argument("--outputs", type=Path, default=record.REPOSITORY / "outputs",
                       help="the folder of what is made")
    whole.add_argument("--cell-seconds", type=int, default=runner.CELL_SECONDS, help="at most")
    whole.add_argument("--recorded", type=Path, help="recorded runs; recorded/ in the outputs")
    each = whole.add_subparsers(required=True)

    def command(name, run):
        made = each.add_parser(name, help=run.__doc__)
        made.set_defaults(run=run)
        return made

    report = command("report", commands.report)
    report.add_argument("--evidence", type=words, nargs="+", default=[], help="of other machines, "
                        "with spaces between: files, or folders with an evidence.json")
    report.add_argument("--keep", action="store_true", help="publish a run with a failure, too")
    recording = command("record", commands.recording)
    recording.add_argument("name", help="of the folder under outputs/recorded/")
    recording.add_argument("--note", default="", help="what readers of the run should know of it")
    for running in (report, recording):
        running.add_argument("--jobs", type=count, default=1 if devices.gpus() else os.cpu_count(),
                             help="notebooks at once; one by one with a GPU, to time undisturbed")
    notebook = command("notebook", commands.notebook)
    notebook.add_argument("number")
    notebook.add_argument("parameters", nargs="*")
    survey = command("survey", commands.survey)
    survey.add_argument("--which", default="", help="one package: name, or name==version")
    lab = command("lab", commands.lab)
    lab.add_argument("--number", default="", help="of the notebook to open")
    lab.add_argument("--options", type=words, default=[], help="of JupyterLab, in one word")
    command("fetch", commands.fetch)
    command("atlas", measured.refresh)
    command("history", commands.history)
    return whole


def count(text):
    """A number of notebooks (int), at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count of notebooks: give 1 or more")
    return int(text)


def interrupt(*_):
    """Stop once: a second interrupt would only cut off the end of the first."""
    for name in ENDS:
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt


def main():
    """Run a command; the status (int) is 1 if something failed, 130 after an interrupt."""
    arguments = parser().parse_args()
    os.environ.update(runner.environment(Path(sys.prefix) / "jupyter"))
    for name in ENDS:  # some start with them ignored
        signal.signal(name, interrupt)
    watch = guard.start()
    try:
        arguments.outputs.mkdir(parents=True, exist_ok=True)
        runner.start_seconds()  # a wrong one is refused before anything begins
        return int(bool(arguments.run(arguments)))
    except CollectionError as error:
        console.warn(str(error))
    except OSError as error:
        console.warn(f"{error.filename or arguments.outputs}: {error.strerror}\n  next: free some "
                     "space there and make it writable, then run again; the last report stays")
    except KeyboardInterrupt:
        last = "recording" if arguments.run is commands.recording else "report"
        console.say(f"stopped; the last {last} is as it was")
        return 130
    finally:
        watch.stdin.close()
    return 1


if __name__ == "__main__":
    sys.exit(main())
