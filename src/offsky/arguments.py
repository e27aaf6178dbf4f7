"""Arguments of public functions that are neither options nor paths."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from offsky.errors import ParameterError, shown


def list_of(name: str, given: Any) -> list[Any]:
    """Return the members of what was given as a list.

    Parameters
    ----------
    name : str
        What messages call it.
    given : object
        What was given.

    Raises
    ------
    ParameterError
        If it is no list, or a single name.
    """
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | os.PathLike | Mapping):
        try:
            return list(given)
        except TypeError:
            pass  # an array without axes
    raise ParameterError(f"{name} is {shown(given)}: give a list")


def check_callable(name: str, given: Any) -> None:
    """Raise ParameterError for what can neither be called nor is None."""
    if given is not None and not callable(given):
        raise ParameterError(f"{name} is {shown(given)}: give a function, or None")
