"""Arrays as people have them: with masks, units and uncertainties, none of which is lost.

`numpy.ma`, `astropy.units.Quantity`, `astropy.utils.masked.Masked`, `astropy.nddata` (also
`CCDData` and lists of any of these) are known by their attributes; astropy is not imported.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from offsky.arrays import Array, Mask
from offsky.errors import ParameterError
from offsky.units import relation


class Given(NamedTuple):
    """An array that somebody gave, taken apart.

    Attributes
    ----------
    values : ndarray
        The numbers; they may be the giver's own memory.
    mask : ndarray of bool or None
        True where a sample is left out; None for nowhere.
    unit : str or None
        The unit of the values.
    err : ndarray or None
        Their standard deviations, NaN where they are not known.
    """

    values: Array
    mask: Mask | None = None
    unit: str | None = None
    err: Array | None = None

    def filled(self) -> Array:
        """Return the values, NaN where the mask leaves them out; never the giver's memory then."""
        if self.mask is None:
            return self.values
        real = self.values.dtype.kind == "f" and self.values.dtype.itemsize in (4, 8)
        values = np.array(self.values, dtype=None if real else np.float64)
        values[self.mask] = np.nan
        return values


def take_apart(name: str, given: Any) -> Given:
    """Take an array apart into numbers, mask, unit and errors.

    Parameters
    ----------
    name : str
        What messages call it.
    given : array_like
        An array, an object of astropy with one, or a list of them, one for each exposure.

    Raises
    ------
    ParameterError
        If it holds no real numbers, or something that would be lost.
    """
    if isinstance(given, list | tuple) and any(_is_special(each) for each in given):
        return _stacked(name, [take_apart(f"{name}[{i}]", each) for i, each in enumerate(given)])
    if hasattr(given, "uncertainty") and hasattr(given, "data"):
        return _of_nddata(name, given)
    mask = getattr(given, "mask", None) if _has_mask(given) else None
    values = given
    if mask is not None:
        values = given.unmasked if hasattr(given, "unmasked") else np.ma.getdata(given)
        mask = np.broadcast_to(
            np.ma.getmaskarray(given) if mask is np.ma.nomask else mask, np.shape(values)
        )
    unit = _unit_text(values)
    numbers = _numbers(name, values.value if unit is not None else values)
    return Given(numbers, _any(name, mask, numbers), unit)


def plain_numbers(name: str, given: Any) -> Array:
    """Return an array that has neither mask nor unit; raise ParameterError for any other."""
    found = take_apart(name, given)
    for what, part, remedy in (
        ("a mask", found.mask, "fill it"),
        ("a unit", found.unit, "give its numbers (.value)"),
        ("an uncertainty", found.err, "give its data"),
    ):
        if part is not None:
            raise ParameterError(f"{name} has {what}, which would be lost; {remedy}")
    return found.values


def _is_special(given: Any) -> bool:
    if isinstance(given, list | tuple):
        return any(_is_special(each) for each in given)
    return _has_mask(given) or hasattr(given, "uncertainty") or _unit_text(given) is not None


def _has_mask(given: Any) -> bool:
    return isinstance(given, np.ma.MaskedArray) or hasattr(given, "unmasked")


def _unit_text(given: Any) -> str | None:
    """Return the unit of a Quantity, "" for one without dimension; None for any other array."""
    if not hasattr(given, "to_value"):
        return None
    unit = getattr(given, "unit", None)
    return None if unit is None else str(unit)


def _of_nddata(name: str, given: Any) -> Given:
    if getattr(given, "flags", None) is not None:
        raise ParameterError(f"{name} has flags, which would be lost; give them as dq")
    values = _numbers(name, given.data)
    mask, unit, uncertainty = given.mask, given.unit, given.uncertainty
    err = None
    if uncertainty is not None:
        err = _deviations(name, uncertainty, None if unit is None else str(unit))
        if err.shape != values.shape:
            raise ParameterError(
                f"{name}: the uncertainty has the shape {err.shape}, the data {values.shape}; "
                "expected the same"
            )
    return Given(values, _any(name, mask, values), None if unit is None else str(unit), err)


def _deviations(name: str, uncertainty: Any, unit: str | None) -> Array:
    """Return the standard deviations of an `NDUncertainty`."""
    kind = uncertainty.uncertainty_type
    values = _numbers(name, uncertainty.array)
    own = None if uncertainty.unit is None else str(uncertainty.unit)
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "std":
            errors, power = values, 1
        elif kind == "var":
            errors, power = np.sqrt(values), 2
        elif kind == "ivar":
            errors, power = 1 / np.sqrt(values), -2
        else:
            raise ParameterError(
                f"{name} has an uncertainty of the kind {kind!r}; expected std, var or ivar"
            )
    if unit is not None and own is not None and relation(own, unit, power) != "same":
        raise ParameterError(
            f"{name}: the uncertainty has the unit {own!r} beside data in {unit!r}; convert it"
        )
    return errors


def _numbers(name: str, values: Any) -> Array:
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ParameterError(f"{name} is no array ({error}); give one of numbers") from error
    if array.dtype.kind == "c":
        raise ParameterError(f"{name} holds complex numbers; give real ones")
    if array.dtype.kind not in "biuf":
        raise ParameterError(f"{name} holds {array.dtype} values; give numbers")
    return array


def _any(name: str, mask: Any, values: Array) -> Mask | None:
    """Return a mask in the values' shape; None where it leaves nothing out."""
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        mask = mask != 0
    try:
        mask = np.broadcast_to(mask, values.shape)
    except ValueError as error:
        raise ParameterError(
            f"{name}: the mask has the shape {mask.shape}, the data {values.shape}; expected "
            "the same"
        ) from error
    return mask if mask.any() else None


def _stacked(name: str, parts: Sequence[Given]) -> Given:
    """Return arrays of one shape as one array, with one axis more."""
    shapes = {part.values.shape for part in parts}
    if len(shapes) != 1:
        raise ParameterError(f"{name}: arrays of the shapes {sorted(shapes)}; expected one shape")
    unit = parts[0].unit
    for i, part in enumerate(parts):
        if part.unit is not unit and (
            part.unit is None or unit is None or relation(part.unit, unit) != "same"
        ):
            raise ParameterError(
                f"{name}[{i}]: unit {part.unit!r} differs from the first one's {unit!r}; convert "
                "them to one unit"
            )
    shape = parts[0].values.shape
    mask = err = None
    if any(part.mask is not None for part in parts):
        none = np.zeros(shape, dtype=np.bool_)
        mask = np.stack([none if part.mask is None else part.mask for part in parts])
    if any(part.err is not None for part in parts):
        # An error that is not given is not known.
        unknown = np.full(shape, np.nan)
        err = np.stack([unknown if part.err is None else part.err for part in parts])
    return Given(np.stack([part.values for part in parts]), mask, unit, err)
