"""An exposure with samples left out, and its level moved: what averaging gets to see."""

from typing import Any

import numpy as np

from offsky.arrays import Array
from offsky.values.exposure import Exposure, Rows, Scratch
from offsky.values.mask import PackedMask


class AdjustedExposure:
    """An exposure times a factor plus an offset, with masked samples missing.

    SCI is NaN where the mask is True, in every integration; ERR and DQ are not masked.

    Parameters
    ----------
    exposure : Exposure
        The exposure as it is.
    offset : float
        Added to SCI, in its unit.
    scale : float
        SCI and ERR are multiplied by it, variances by its square.
    mask : PackedMask or None
        What to leave out, of the exposure's (ny, nx).
    """

    def __init__(
        self,
        exposure: Exposure,
        *,
        offset: float = 0.0,
        scale: float = 1.0,
        mask: PackedMask | None = None,
    ) -> None:
        assert mask is None or mask.shape == exposure.shape[-2:]
        self._exposure = exposure
        self._offset = offset
        self._scale = scale
        self._mask = mask
        # Changed copies beside what is read: SCI, and what a factor changes with it.
        n_copies = 1 if scale == 1 else 4
        n_samples = int(np.prod(exposure.shape)) // exposure.shape[-2]
        self.row_bytes = exposure.row_bytes + 8 * n_samples * n_copies

    def __getattr__(self, name: str) -> Any:
        """Be the exposure itself in everything else."""
        return getattr(self._exposure, name)

    def read_rows(self, first: int, last: int, scratch: Scratch, *, errors: bool = True) -> Rows:
        """Return rows [first, last), adjusted."""
        rows = self._exposure.read_rows(first, last, scratch, errors=errors)
        sci = _copied(rows.sci, self._scale, scratch)
        if self._offset != 0:
            sci += sci.dtype.type(self._offset)
        if self._mask is not None:
            np.copyto(sci, np.nan, where=self._mask.rows(first, last))
        if self._scale == 1:
            return rows._replace(sci=sci)
        changed: dict[str, Any] = {
            name: _copied(array, factor, scratch)
            for name, factor in _error_factors(self._scale)
            if (array := getattr(rows, name)) is not None
        }
        return rows._replace(sci=sci, **changed)


def _error_factors(scale: float) -> tuple[tuple[str, float], ...]:
    """Return what a factor on SCI does to the images of errors."""
    return ("err", abs(scale)), ("var_poisson", scale**2), ("var_rnoise", scale**2)


def _copied(array: Array, factor: float, scratch: Scratch) -> Array:
    """Return `array` times a factor, in the block's memory and our byte order."""
    dtype = array.dtype.newbyteorder("=")
    memory = scratch.take(array.size * dtype.itemsize)
    copy = np.frombuffer(memory, dtype=dtype, count=array.size).reshape(array.shape)
    # Signalling NaNs and overflows are no one's surprise here.
    with np.errstate(invalid="ignore", over="ignore"):
        np.multiply(array, dtype.type(factor), out=copy)
    return copy
