"""How an option is declared, and what is derived from a declaration.

A declaration is an annotated field of a class of options and a call of `option`.
"""

from collections.abc import Callable
from dataclasses import field, fields
from functools import cache
from math import isnan
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from offsky import effect
from offsky.effect import Run
from offsky.errors import ParameterError, shown

Profile = Literal["jwst", "offsky"]
PROFILE_NAMES: tuple[str, ...] = get_args(Profile)

_DECLARED = "offsky option"
# The kernel's own numbers have 32 bits.
_LARGEST_COUNT = 2**31 - 1

Idle = Callable[[Any, Run, Any], str | None]

# Words that joined the choices of an option, by its name.
_JOINED: dict[str, tuple[str, ...]] = {}


def in_words(value: Any) -> str:
    """Return the value of an option as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _plain(value: Any) -> int | float | None:
    """Return a real number as Python's own, None where there is no such one."""
    try:
        number = int(value) if isinstance(value, Integral) else float(value)
        # A card has no room for more digits.
        return None if isnan(number) else number if abs(number) < 2**53 else float(number)
    except (ArithmeticError, ValueError):
        return None


class Declaration(NamedTuple):
    """One option: all that commands, steps, cards, tables and checks need to know of it.

    Attributes
    ----------
    name : str
        The field of `Options`.
    kind : str
        "choice", "number", "count", "flags" (a number, or names) or "switch".
    words : tuple of str
        The values of a "choice"; of a "number", the words that may stand for it.
    may_be_none : bool
        Whether None is a value.
    help : str
        What it does; other options are in backquotes.
    keyword, comment : str
        Its header card.
    always : bool
        Whether every product has that card; else where it is not the profile's value.
    expected : str
        What a value must be, in words.
    valid : callable or None
        Tells whether a number is in its range.
    idle : callable or None
        Returns why the option has no effect in a run, or None.
    of_subtraction : bool
        Whether it matters to the subtraction alone, not to the average.
    values : dict
        Its value in each profile.
    """

    name: str
    kind: str
    words: tuple[str, ...]
    may_be_none: bool
    help: str
    keyword: str
    comment: str
    always: bool
    expected: str
    valid: Callable[[Any], bool] | None
    idle: Idle | None
    of_subtraction: bool
    values: dict[str, Any]

    @property
    def defaults(self) -> str:
        """Its values in the profiles, in words; the first one's, and others that differ."""
        (_, usual), *others = self.values.items()
        words = [in_words(usual)]
        words += [f"{name}: {in_words(value)}" for name, value in others if value != usual]
        return "; ".join(words)

    def checked(self, value: Any) -> Any:
        """Return a value as it is stored, NumPy's numbers as Python's.

        Raises
        ------
        ParameterError
            For a value of another kind, or out of range.
        """
        if value is None and self.may_be_none:
            return None
        if isinstance(value, str):
            if value in self.words:
                return value
        elif self.kind == "switch":
            if isinstance(value, bool):
                return value
        elif self.kind != "choice" and isinstance(value, Real) and not isinstance(value, bool):
            number = _plain(value)
            whole = self.kind == "number" or isinstance(number, int)
            if number is not None and whole and (self.valid is None or self.valid(number)):
                return number
        raise ParameterError(f"{self.name} is {shown(value)}: give {self.expected}")


def option(
    default: Any,
    help: str,
    card: tuple[str, str],
    *,
    expected: str | None = None,
    valid: Callable[[Any], bool] | None = None,
    idle: Idle | None = None,
    always: bool = False,
    flags: bool = False,
    of_subtraction: bool = False,
    **profiles: Any,
) -> Any:
    """Declare an option: a field of `Options`, or of a class derived from it.

    Its kind, its choices and whether it may be None are those of the annotation.

    Parameters
    ----------
    default : Any
        Its value in the profile "jwst", and in all that are not named.
    help : str
        What it does, other options in backquotes.
    card : tuple of str
        Keyword and comment of its header card.
    expected : str or None
        What a value must be, in words; None for those of its kind.
    valid : callable or None
        Tells whether a number is in its range; None for any number, or a count from 0.
    idle : callable or None
        Called with the options, the run, and the profile's value; returns why the option
        has no effect, or None where it has one. None for an option that always has one.
    always : bool
        Whether every product has its card.
    flags : bool
        Whether it is a number of flags, which may be given by names.
    of_subtraction : bool
        Whether it matters to the subtraction alone.
    **profiles
        Its values in other profiles.
    """
    declared = {
        "help": help,
        "keyword": card[0],
        "comment": card[1],
        "always": always,
        "expected": expected,
        "valid": valid,
        "idle": effect.of_subtraction if of_subtraction and idle is None else idle,
        "of_subtraction": of_subtraction,
        "values": {"jwst": default, **profiles},
        "kind": "flags" if flags else None,
    }
    return field(default=default, metadata={_DECLARED: declared})


def declarations(options_class: type[Any]) -> tuple[Declaration, ...]:
    """Return every option of a class derived from `Options`, in order."""
    key: Any = options_class  # to mypy, a class whose instances have a hash has none
    return _declarations(key)


@cache
def _declarations(options_class: type[Any]) -> tuple[Declaration, ...]:
    hints = get_type_hints(options_class)
    return tuple(
        _declaration(each.name, hints[each.name], each.metadata[_DECLARED])
        for each in fields(options_class)
        if _DECLARED in each.metadata
    )


def join_choice(name: str, word: str) -> None:
    """Add a word to the choices of an option.

    Parameters
    ----------
    name : str
        The option, in every class that declares it.
    word : str
        The new choice. Commands and the step list their choices when they are imported.
    """
    _JOINED[name] = tuple(dict.fromkeys([*_JOINED.get(name, ()), word]))
    _declarations.cache_clear()


def _declaration(name: str, hint: Any, declared: Any) -> Declaration:
    """Return a declaration with what its annotation says."""
    # Literal[...] alone is a choice; beside a number its values are words for a number.
    hints = (hint,) if get_origin(hint) is Literal else get_args(hint) or (hint,)
    words = tuple(w for each in hints if get_origin(each) is Literal for w in get_args(each))
    words += _JOINED.get(name, ())
    may_be_none = type(None) in hints
    kinds: dict[Any, str] = {float: "number", int: "count", bool: "switch"}
    kind = declared["kind"] or next((kinds[each] for each in hints if each in kinds), "choice")
    expected, valid = declared["expected"], declared["valid"]
    if expected is None:
        expected = {
            "choice": f"one of {', '.join(words)}",
            "number": "a number",
            "count": "a whole number, 0 or more",
            "switch": "true or false",
        }[kind] + (", or None" if may_be_none else "")
    if kind == "count" and valid is None:
        valid = _is_count
    settled = {"kind": kind, "expected": expected, "valid": valid}
    values = {
        each: declared["values"].get(each, declared["values"]["jwst"]) for each in PROFILE_NAMES
    }
    return Declaration(
        **{**declared, "name": name, "words": words, "may_be_none": may_be_none, **settled}
        | {"values": values}
    )


def _is_count(value: int) -> bool:
    return 0 <= value <= _LARGEST_COUNT
