"""The outcome of one product of a programme, and whether a record of it can be believed."""

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, get_args, get_origin, get_type_hints

from offsky.options import Options
from offsky.outcome import COMPLETE, SKIPPED, Outcome


@dataclass(frozen=True, slots=True)
class ProductOutcome:
    """The outcome of one product of a programme.

    Attributes
    ----------
    output : str
        Name of its file.
    target : str
        The target's file.
    status : str
        "COMPLETE", "SKIPPED" or "FAILED".
    reason : str or None
        Why it was skipped or failed.
    made : bool
        False where an earlier run had made it already.
    details : dict or None
        `Outcome` by name, where a file was written.
    """

    output: str
    target: str
    status: str
    reason: str | None = None
    made: bool = True
    details: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name, ready for JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def is_told(found: Any) -> bool:
    """Tell whether JSON holds what `Outcome.as_dict` gives.

    Parameters
    ----------
    found : object
        What was read of a file that anything may have happened to.
    """
    kinds = get_type_hints(Outcome) | {"not_finite": dict[str, str]}
    if not isinstance(found, dict) or found.get("status") not in (COMPLETE, SKIPPED):
        return False
    return found.keys() | {"not_finite"} == kinds.keys() and all(
        _is_of_kind(value, kinds[name]) for name, value in found.items()
    )


def _is_of_kind(value: Any, kind: Any) -> bool:
    """Tell whether a value of JSON is one of a Python type; lists are tuples there."""
    inner, origin = get_args(kind), get_origin(kind)
    if origin is tuple:
        if not isinstance(value, list):
            return False
        if inner[-1] is Ellipsis:
            return all(_is_of_kind(each, inner[0]) for each in value)
        return len(value) == len(inner) and all(map(_is_of_kind, value, inner))
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
    if inner:
        return any(_is_of_kind(value, each) for each in inner)
    if kind is Options:
        return isinstance(value, dict) and all(map(_is_simple, value.values()))
    if kind is int:
        return type(value) is int and abs(value) < 2**63
    if kind is float:
        # None is what is not finite.
        return value is None or (type(value) in (int, float) and isfinite(value))
    return isinstance(value, kind)


def _is_simple(value: Any) -> bool:
    if isinstance(value, list):
        return not any(isinstance(each, list) for each in value) and all(map(_is_simple, value))
    return _is_of_kind(value, str | bool | int | float)
