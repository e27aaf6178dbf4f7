"""Types of arrays, and arrays as averaging takes them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float64s = NDArray[np.float64]
Mask = NDArray[np.bool_]

DO_NOT_USE = 1
"""The JWST flag of a pixel without a measurement."""


def as_samples(array: Array) -> Array:
    """Return SCI or ERR as the float32 or float64 it is, other types as float64."""
    if array.dtype.kind == "f" and array.dtype.itemsize in (4, 8):
        return array
    return array.astype(np.float64)


def as_flags(array: Array) -> Array:
    """Return DQ as uint32; flags of other integer types keep their bits.

    Of floats, which some tools write, a value that is no flag counts as DO_NOT_USE.
    """
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            known = (abs(array) < 2**32) & (array == np.trunc(array))
        array = np.where(known, array, DO_NOT_USE).astype(np.int64)
    if array.dtype.kind == "i":
        array = array.view(array.dtype.str.replace("i", "u"))
    if array.dtype.kind == "u" and array.dtype.itemsize == 4:
        return array
    return array.astype(np.uint32)
