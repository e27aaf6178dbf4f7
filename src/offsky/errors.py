"""Everything offsky raises on purpose.

::

    OffskyError
    ├── ParameterError (ValueError)          sigma, maxiters, threads
    │   └── UnknownOptionError (TypeError)   an option that does not exist
    ├── ExposureError (ValueError)           a file that is no usable exposure
    │   ├── MissingFileError (FileNotFoundError)
    │   └── ExposureMismatchError            exposures that do not go together
    ├── AssociationError (ValueError)        an association that makes no sense
    └── OutputError (OSError)                the output cannot be written
        └── OutputExistsError (FileExistsError)

A message is one line: which thing, what was found, what was expected, the way out.
"""

from typing import Any


class OffskyError(Exception):
    """Root of all errors that offsky raises on purpose."""


class ParameterError(OffskyError, ValueError):
    """A parameter outside its range."""


class UnknownOptionError(ParameterError, TypeError):
    """A keyword argument that names no option."""


class ExposureError(OffskyError, ValueError):
    """An input that cannot be read as an exposure."""


class MissingFileError(ExposureError, FileNotFoundError):
    """An input file that is not there."""

    # FileNotFoundError would print errno and file name in its own way.
    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.args[0]) if self.args else ""


class ExposureMismatchError(ExposureError):
    """Exposures that cannot be combined with each other."""


class AssociationError(OffskyError, ValueError):
    """An association file that cannot be followed."""


class OutputError(OffskyError, OSError):
    """An output that cannot be written."""

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.args[0]) if self.args else ""


class OutputExistsError(OutputError, FileExistsError):
    """An output that exists and may not be replaced."""


def reason_of(error: BaseException) -> str:
    """Return what the system says is wrong, without its number; else the error's own message."""
    return str(getattr(error, "strerror", None) or error)


def first_line(error: Exception) -> str:
    """Return the first line of another library's message, without its full stop."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(". ")


def one_line(text: str) -> str:
    r"""Return a text as one line, its control characters as escapes.

    Names of files may hold anything: a line break, what moves the cursor or clears the screen,
    bytes that are no text.

    Examples
    --------
    >>> print(one_line("a\x1b[2Jb\nc"))
    a\x1b[2Jb\nc
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def shown(value: Any) -> str:
    """Return any value in one short line, for messages."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
