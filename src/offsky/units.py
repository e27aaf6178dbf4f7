"""Units of samples, compared: by their texts, and by `astropy.units` where these differ."""

import re
import warnings
from functools import lru_cache
from typing import Any, Literal

Relation = Literal["same", "convertible", "different"]

# Spellings of headers that astropy does not read as what they mean.
_COUNTS = {"counts": "count", "dn": "DN", "adus": "adu", "electrons": "electron"}
_COUNTS |= {name: name for name in ("count", "electron", "adu")}


def relation(a: str, b: str, power: int = 1) -> Relation:
    """Tell how a unit is related to another one, or to a power of it.

    Returns
    -------
    str
        "same" for two spellings of one unit, "convertible" where samples differ by a factor,
        "different" for anything else. A text that is no unit is the same as itself alone.

    Notes
    -----
    The letters' case tells mJy from MJy. `astropy.units` is imported only for texts that
    differ.

    Examples
    --------
    >>> relation("DN/s", "DN / s"), relation("mJy", "MJy"), relation("DN/s", "MJy/sr")
    ('same', 'convertible', 'different')
    """
    a, b = " ".join(a.split()), " ".join(b.split())
    return "same" if a == b and power == 1 else _by_astropy(a, b, power)


_kinds: dict[str, str] = {}


def kind_of(unit: str) -> str:
    """Return a text that is the same for all spellings of a unit, in this process."""
    if unit not in _kinds:
        same = (kind for kind in set(_kinds.values()) if relation(kind, unit) == "same")
        _kinds[unit] = next(same, unit)
    return _kinds[unit]


@lru_cache(maxsize=256)
def _by_astropy(a: str, b: str, power: int) -> Relation:
    with warnings.catch_warnings():
        # Spellings that FITS does not recommend are not ours.
        warnings.simplefilter("ignore")
        one, other = (_unit(text) for text in (a, b))
    if one is None or other is None:
        # Texts that are no units, such as instruments' own: as people write them.
        alike = one is None and other is None and _bare(a) == _bare(b)
        return "same" if alike else "different"
    other = other**power
    if one == other:
        return "same"
    return "convertible" if one.is_equivalent(other) else "different"


def _bare(text: str) -> str:
    return text.replace(" ", "").upper()


def _unit(text: str) -> Any:
    """Return a text as a unit of astropy; None where it is none."""
    from astropy import units

    for word in (text, _spelled(text)):
        try:
            return units.Unit(word)
        except (ValueError, TypeError):
            continue
    return None


def _spelled(text: str) -> str:
    """Return a unit with the names of counts as astropy spells them."""
    return re.sub(r"[A-Za-z]+", lambda word: _COUNTS.get(word[0].lower(), word[0]), text)
