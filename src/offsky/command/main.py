"""The command ``offsky``: arguments in, exit status out.

Nothing heavy is imported before a command needs it: ``offsky --help`` is to start as
fast as Python allows.
"""

import contextlib
import gc
import logging
import os
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

import click

from offsky.command.exposures import average, subtract
from offsky.command.inspect import inspect
from offsky.command.programmes import plan, run
from offsky.command.report import report
from offsky.command.shared import PATH, one_line_errors
from offsky.command.streams import complain, open_streams
from offsky.stopping import Stopped, status_of, stop_by_signals

_WORKERS = {"concurrent.futures.process", "distributed"}


class _Commands(click.Group):
    """Commands in the order of their importance, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        # Also before and after the work itself.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            complain(str(stop) or str(Stopped()))
            sys.exit(status_of(stop))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="offsky", message="%(prog)s %(version)s")
def cli() -> None:
    """Background subtraction for JWST exposures.

    Average background exposures pixel by pixel, clipping stars and cosmic rays, and
    subtract the average from a target exposure.

    \b
    Try it without any data:
      offsky demo
    """


@click.command()
@click.argument("directory", type=PATH, default="offsky-demo")
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier demo.")
@click.option("--report", is_flag=True, help="Also write a page that shows the result.")
def demo(directory: Path, overwrite: bool, report: bool) -> None:
    """Simulate a few exposures in DIRECTORY and subtract their background.

    \b
    Example:
      offsky demo my-demo
    """
    from offsky.command.demo import run_demo

    with one_line_errors():
        run_demo(directory, overwrite=overwrite, report=report, echo=click.echo)


for _command in (subtract, average, plan, run, inspect, report, demo):
    cli.add_command(_command)


# Places for values in the frame of a function, 8 bytes each.
_MANY = 2**15


def main() -> None:
    """Run the command, with room for the frames of all its calls.

    CPython keeps frames in pieces of 16 kB. Where a loop calls functions over the end of a piece,
    each call asks the system for memory. While astropy was imported nine thousand calls did, which
    took an eighth of a cold run. A frame larger than 16 kB gets a larger piece, and shares it with
    the frames of its calls.
    """
    roomy = FunctionType(_main.__code__.replace(co_stacksize=_MANY), globals())
    roomy()


def _main() -> None:
    """Run the command.

    The exit status is 0 done, 1 failed, 2 wrong usage, 3 done but not printed, and 128 and the
    signal's number where one has ended it.
    """
    open_streams()
    stop_by_signals()
    # Imports make a hundred thousand objects, none of them garbage: looking for it among
    # them took a tenth of a cold run.
    gc.set_threshold(200_000)
    try:
        cli(prog_name="offsky")
    except KeyboardInterrupt as stop:
        complain(str(stop))
        os._exit(status_of(stop))
    except SystemExit as end:
        if not _WORKERS.isdisjoint(sys.modules):
            raise  # which end with the interpreter
        # So did taking everything down again, with nothing left to do.
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(end.code if isinstance(end.code, int) else 0)
