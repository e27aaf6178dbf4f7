"""An exposure seen through the window of another."""

from typing import Any

import numpy as np

from offsky.arrays import Array
from offsky.values.exposure import Exposure, Rows, Scratch
from offsky.values.window import Window


class PlacedExposure:
    """An exposure with the rows and columns of a window of the detector.

    Where it does not cover the window its samples are missing: SCI, ERR and variances
    NaN, DQ 0; ``covers`` of its rows tells where.

    Parameters
    ----------
    exposure : Exposure
        The exposure as it is.
    window : Window
        Where it lies.
    frame : Window
        The window to see; the two overlap.
    """

    def __init__(self, exposure: Exposure, window: Window, frame: Window) -> None:
        overlap = window.overlap(frame)
        assert overlap is not None
        self._exposure = exposure
        self._from = overlap.slices_within(window)
        self._to = overlap.slices_within(frame)
        self.shape = (*exposure.shape[:-2], frame.ny, frame.nx)
        # Read whole, then cut out.
        self.row_bytes = exposure.row_bytes * 2

    def __getattr__(self, name: str) -> Any:
        """Be the exposure itself in everything else."""
        return getattr(self._exposure, name)

    def read_rows(self, first: int, last: int, scratch: Scratch, *, errors: bool = True) -> Rows:
        """Return rows [first, last) of the frame."""
        rows_to, columns_to = self._to
        rows_from, columns_from = self._from
        begin, end = max(first, rows_to.start), min(last, rows_to.stop)
        shape = (*self.shape[:-2], last - first, self.shape[-1])
        covers = np.zeros(shape[-2:], dtype=np.bool_)
        if begin >= end:
            return Rows(np.full(shape, np.nan, dtype=np.float32), None, None, covers=covers)
        covers[begin - first : end - first, columns_to] = True
        shift = rows_from.start - rows_to.start
        rows = self._exposure.read_rows(begin + shift, end + shift, scratch, errors=errors)

        def fit(array: Array | None, missing: float) -> Array | None:
            if array is None:
                return None
            fitted = np.full(shape, missing, dtype=array.dtype)
            fitted[..., begin - first : end - first, columns_to] = array[..., columns_from]
            return fitted

        sci = fit(rows.sci, np.nan)
        assert sci is not None
        # What is stored is XORed with dq_flip, no flags too.
        return Rows(
            sci,
            fit(rows.err, np.nan),
            fit(rows.dq, rows.dq_flip),
            rows.dq_flip,
            fit(rows.var_poisson, np.nan),
            fit(rows.var_rnoise, np.nan),
            covers,
        )


def place_exposure(exposure: Exposure, window: Window, frame: Window) -> Exposure | None:
    """Return an exposure as seen through `frame`; None where they do not overlap."""
    if window.overlap(frame) is None:
        return None
    if window == frame:
        return exposure
    return PlacedExposure(exposure, window, frame)
