"""Data-quality flags by name: the table of `stdatamodels`."""

from offsky.errors import ParameterError


def flag_bits(flags: int | str) -> int:
    """Return flags as one number.

    Parameters
    ----------
    flags : int or str
        A number, or names and numbers joined by commas, such as
        "DO_NOT_USE,JUMP_DET". `stdatamodels` is imported where there is a name.

    Raises
    ------
    ParameterError
        For a name that is no flag of a JWST pixel.
    """
    if isinstance(flags, int):
        return int(flags)
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
