"""The options that decide the pixels, on the command line."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from offsky.option_table import OPTION_TABLE, OptionEntry
from offsky.options import PROFILES

if TYPE_CHECKING:
    from offsky.options import Options

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType

# Stands for None, which to click means that an option was not given.
_NONE = "none"


class _OrNone(_ParamType):
    """A number, or the word none."""

    def __init__(self, number: Any) -> None:
        self._number = number
        self.name = str(number.name)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if str(value).lower() == _NONE:
            return _NONE
        return self._number.convert(value, param, ctx)


class _Scale(_ParamType):
    """A number, or the word fit."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if str(value).lower() == "fit":
            return "fit"
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'fit'", param, ctx)


def pixel_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--profile`` and one option for each field of `Options`."""
    for entry in reversed(OPTION_TABLE):
        command = _click_option(entry)(command)
    return click.option(
        "--profile",
        type=click.Choice(list(PROFILES)),
        default=next(iter(PROFILES)),
        show_default=True,
        help="Begin with this set of the options below: what the JWST pipeline does, or what "
        "offsky recommends.",
    )(command)


def take_options(how: dict[str, Any]) -> "Options":
    """Take the options that decide the pixels out of a command's parameters.

    Parameters
    ----------
    how : dict
        The command's parameters by name; those of `pixel_options` are removed.

    Raises
    ------
    ParameterError
        For a value out of range.
    """
    from offsky.choices import choose_options

    given = {entry.name: how.pop(entry.name) for entry in OPTION_TABLE}
    return choose_options(
        how.pop("profile"),
        None,
        {
            name: None if value == _NONE and _may_be_none(name) else value
            for name, value in given.items()
            if value is not None
        },
    )


def _may_be_none(name: str) -> bool:
    return any(entry.name == name and entry.may_be_none for entry in OPTION_TABLE)


def _click_option(entry: OptionEntry) -> Callable[..., Any]:
    name = entry.name.replace("_", "-")
    kind: Any = {
        "choice": click.Choice(list(entry.choices)),
        "number": click.FLOAT,
        "count": click.INT,
        "flags": click.STRING,
        "scale": _Scale(),
        "switch": None,
    }[entry.kind]
    return click.option(
        f"--{name}/--no-{name}" if entry.kind == "switch" else f"--{name}",
        type=_OrNone(kind) if entry.may_be_none else kind,
        default=None,
        metavar={"count": "N", "number": "X", "flags": "FLAGS", "scale": "X|fit"}.get(entry.kind),
        help=f"{entry.help} [default: {entry.defaults}]",
    )
