"""The options that decide the pixels, on the command line."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from offsky.declared import Declaration, declarations
from offsky.options import PROFILES, Options, profiles

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType

# Stands for None, which to click means that an option was not given.
_NONE = "none"


class _OrWord(_ParamType):
    """A number, or one of some words."""

    def __init__(self, number: Any, words: tuple[str, ...]) -> None:
        self._number = number
        self._words = words
        self.name = str(number.name)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        word = str(value).lower()
        if word in self._words:
            return word
        try:
            return self._number.convert(value, param, ctx)
        except click.BadParameter as error:
            expected = " or ".join(repr(each) for each in self._words)
            self.fail(f"{error.message.rstrip('.')}, nor {expected}", param, ctx)


def pixel_options(
    command: Callable[..., Any], options_class: type[Options] = Options, *, subtracts: bool = True
) -> Callable[..., Any]:
    """Add ``--profile`` and one option for each declaration.

    Parameters
    ----------
    command : callable
        The function of the command.
    options_class : type
        `Options`, or a class derived from it.
    subtracts : bool
        Whether the command subtracts. If not, options of the subtraction are not shown, and
        `take_options` refuses them.
    """
    of_class: Any = options_class
    for each, name, arguments in reversed(_click_options(of_class)):
        hidden = each.of_subtraction and not subtracts
        command = click.option(name, **arguments, hidden=hidden)(command)
    return click.option(
        "--profile",
        type=click.Choice(list(PROFILES)),
        default=next(iter(PROFILES)),
        show_default=True,
        help="Begin with this set of the options below: what the JWST pipeline does, or what "
        "offsky recommends.",
    )(command)


def take_options(
    how: dict[str, Any], options_class: type[Options] = Options, *, subtracts: bool = True
) -> Options:
    """Take the options that decide the pixels out of a command's parameters.

    Parameters
    ----------
    how : dict
        The command's parameters by name; those of `pixel_options` are removed.
    options_class, subtracts
        As for `pixel_options`.

    Raises
    ------
    click.UsageError
        For an option of the subtraction where nothing is subtracted.
    ParameterError
        For a value out of range.
    """
    from offsky.choices import choose_options

    given = {}
    for each in declarations(options_class):
        value = how.pop(each.name)
        if value is None:
            continue
        if each.of_subtraction and not subtracts:
            raise click.UsageError(
                f"{_name(each.name)} is for the subtraction; an average alone is not subtracted"
            )
        given[each.name] = None if value == _NONE and each.may_be_none else value
    begun = profiles(options_class)[how.pop("profile")]
    return choose_options("jwst", begun, given)


def _name(option: str) -> str:
    return f"--{option.replace('_', '-')}"


@cache
def _click_options(options_class: Any) -> tuple[tuple[Declaration, str, dict[str, Any]], ...]:
    """Return declarations with the arguments of ``click.option``; several commands use them."""
    return tuple((each, *_arguments(each)) for each in declarations(options_class))


def _arguments(declared: Declaration) -> tuple[str, dict[str, Any]]:
    name, kind = _name(declared.name), declared.kind
    words = (*declared.words, *([_NONE] * declared.may_be_none))
    metavar = {"count": "N", "number": "X", "flags": "FLAGS"}.get(kind)
    if kind in ("number", "count") and declared.words:
        metavar = "|".join([str(metavar), *declared.words])
    value: Any = None
    if kind == "choice":
        value = click.Choice(list(words))
    elif kind != "switch":
        value = {"number": click.FLOAT, "count": click.INT, "flags": click.STRING}[kind]
        value = _OrWord(value, words) if words else value
    # Other options are in backquotes: every second part.
    parts = declared.help.split("`")
    parts[1::2] = [_name(each) for each in parts[1::2]]
    return f"{name}/--no-{name[2:]}" if kind == "switch" else name, {
        "type": value,
        "default": None,
        "metavar": metavar,
        "help": f"{''.join(parts)} [default: {declared.defaults}]",
    }
