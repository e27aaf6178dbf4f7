"""Numbers of bytes as people write them."""

import re

from offsky.errors import ParameterError, shown

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def as_bytes(size: int | str) -> int:
    """Return a number of bytes.

    Parameters
    ----------
    size : int or str
        The number, or a text such as "250M" or "4G"; M is 2**20.

    Raises
    ------
    ParameterError
        If it is neither, or below 1.

    Examples
    --------
    >>> as_bytes("2K")
    2048
    """
    if isinstance(size, str):
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)i?B?", size.strip(), re.IGNORECASE)
        if found is None:
            raise ParameterError(
                f"memory is {shown(size)}: give a number of bytes, such as 512M or 4G"
            )
        size = int(float(found[1]) * 2 ** _UNITS[found[2].upper()])
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ParameterError(
            f"memory is {shown(size)}: give a number of bytes, such as 512M or 4G"
        )
    return size
