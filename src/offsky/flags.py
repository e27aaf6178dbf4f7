"""Data-quality flags by name: the table of `stdatamodels`."""

from numbers import Integral
from typing import Any

from offsky.errors import ParameterError


def flag_bits(flags: Any) -> Any:
    """Return flags as one number.

    Parameters
    ----------
    flags : int or str
        A number, or names and numbers joined by commas, such as
        "DO_NOT_USE,JUMP_DET". `stdatamodels` is imported where there is a name.

    Returns
    -------
    int
        The number; any other value as it is, for `Options` to refuse.

    Raises
    ------
    ParameterError
        For a name that is not a flag of a JWST pixel.
    """
    if not isinstance(flags, str):
        return int(flags) if isinstance(flags, Integral) and not isinstance(flags, bool) else flags
    bits = 0
    for word in filter(None, (each.strip() for each in flags.split(","))):
        bits |= int(word) if word.isdecimal() else _bit_of(word)
    return bits


def _bit_of(name: str) -> int:
    from stdatamodels.jwst.datamodels.dqflags import pixel

    if name.upper() not in pixel:
        raise ParameterError(
            f"bad_bits: {name!r} is no flag; expected numbers or names such as DO_NOT_USE, of "
            f"{', '.join(pixel)}"
        )
    return int(pixel[name.upper()])
