"""Standard output and standard error, whatever they lead to.

A product is made whether or not somebody reads what is printed. What cannot be printed ends
no work; the exit status tells it.
"""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from offsky.errors import one_line, reason_of

NOT_PRINTED = 3
"""Exit status where all work is done, and its summary could not be printed."""


class _Closed(io.TextIOBase):
    """A standard stream that was closed before the command began."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError("it is closed")

    def isatty(self) -> bool:
        return False


def open_streams() -> None:
    """Put something in the place of closed streams.

    Otherwise the next file that is opened would be standard output.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            _lead_nowhere(fd)
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def _lead_nowhere(fd: int) -> None:
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR)
        if null != fd:
            os.dup2(null, fd)
            os.close(null)


def complain(text: str) -> None:
    """Print one line on standard error, if that can be."""
    try:
        click.echo(f"offsky: {one_line(text)}", err=True)
    except (OSError, ValueError):
        _lead_nowhere(2)


class Printer:
    """Prints on standard output until that fails."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    def __call__(self, text: str, *, nl: bool = True) -> None:
        """Print a text."""
        self.run(lambda: click.echo(text, nl=nl))

    def run(self, work: Callable[[], Any]) -> Any:
        """Do what prints; return what it returns, None where it could not print."""
        if self._error is not None:
            return None
        try:
            done = work()
            sys.stdout.flush()
            return done
        except SystemExit:
            # How rich ends a command whose reader has gone.
            self._give_up(BrokenPipeError(32, "Broken pipe"))
        except (OSError, ValueError) as error:
            from offsky.errors import OffskyError

            if isinstance(error, OffskyError):
                raise
            self._give_up(error)
        return None

    def _give_up(self, error: Exception) -> None:
        self._error = error
        # What is still to be written there is not tried again at the end.
        if not isinstance(sys.stdout, _Closed):
            with contextlib.suppress(OSError, ValueError):
                _lead_nowhere(sys.stdout.fileno())

    def end(self, status: int = 0) -> None:
        """End the command where there is something to tell: a failure, or a lost summary.

        Parameters
        ----------
        status : int
            The exit status of the work itself.
        """
        if self._error is not None:
            reason = reason_of(self._error)
            complain(f"the summary could not be printed ({reason}); the work is done")
            sys.exit(status or NOT_PRINTED)
        if status:
            sys.exit(status)
