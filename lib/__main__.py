"""``python -m lib report | record | notebook | fetch``: the arguments of the commands, no more."""

import argparse
import os
import signal
import sys
from pathlib import Path

from lib.errors import CollectionError
from lib.instruments import devices
from lib.report import commands, console, record, runner


def parser():
    """The parser of all commands (argparse.ArgumentParser)."""
    whole = argparse.ArgumentParser(prog="python -m lib", description=__doc__)
    whole.add_argument("--notebooks", default=runner.FOLDER, help="their folder")
    whole.add_argument("--outputs", type=Path, default=record.REPOSITORY / "outputs",
                       help="the folder of what is made")
    whole.add_argument("--cell-seconds", type=int, default=runner.CELL_SECONDS, help="at most")
    whole.add_argument("--recorded", type=Path, help="recorded runs; recorded/ in the outputs")
    each = whole.add_subparsers(required=True)

    report = each.add_parser("report", help=commands.report.__doc__)
    report.add_argument("--evidence", type=Path, nargs="+", default=[],
                        help="evidence of other machines: files, or folders with an evidence.json")
    report.set_defaults(run=commands.report)

    recording = each.add_parser("record", help=commands.recording.__doc__)
    recording.add_argument("name", help="of the folder under outputs/recorded/")
    recording.add_argument("--note", default="", help="what readers of the run should know of it")
    recording.set_defaults(run=commands.recording)
    for command in (report, recording):
        command.add_argument("--jobs", type=int, default=1 if devices.gpus() else os.cpu_count(),
                             help="notebooks at once; one by one with a GPU, to time undisturbed")

    notebook = each.add_parser("notebook", help=commands.notebook.__doc__)
    notebook.add_argument("number")
    notebook.add_argument("parameters", nargs="*")
    notebook.set_defaults(run=commands.notebook)
    each.add_parser("fetch", help=commands.fetch.__doc__).set_defaults(run=commands.fetch)
    return whole


def main():
    """Run a command; the status is 1 if something failed, 130 after an interrupt."""
    arguments = parser().parse_args()
    for name in (signal.SIGINT, signal.SIGTERM):  # a background job starts with SIGINT ignored
        signal.signal(name, signal.default_int_handler)
    os.environ.update(runner.environment(Path(sys.prefix) / "jupyter"))
    arguments.outputs.mkdir(parents=True, exist_ok=True)
    try:
        runner.start_seconds()  # a wrong one is refused before anything begins
        sys.exit(bool(arguments.run(arguments)))
    except CollectionError as error:
        console.warn(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        last = "recording" if arguments.run is commands.recording else "report"
        console.say(f"stopped; the last {last} is as it was")
        sys.exit(130)


if __name__ == "__main__":
    main()
