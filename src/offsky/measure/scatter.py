"""Scatter of pixels, told from differences: gradients and levels of rows cancel."""

import numpy as np

from offsky.arrays import Array

_MOST_PAIRS = 2**17


def pair_scatter(sci: Array, err: Array | None = None) -> float:
    """Return the robust scatter of pixels, from differences of those two columns apart.

    Parameters
    ----------
    sci : ndarray, shape (n_rows, nx)
        NaN where a pixel does not count.
    err : ndarray or None
        What a pixel's scatter is told in; None for the unit of `sci`.

    Returns
    -------
    float
        NaN where there are no two pixels to compare.

    Notes
    -----
    Slow gradients, levels of rows and odd-even patterns of columns cancel.
    """
    if sci.shape[-1] < 3:
        return float("nan")
    # Some rows tell it to half a per cent.
    step = max(1, sci.size // _MOST_PAIRS)
    sci = sci[::step]
    err = None if err is None else err[::step]
    difference = _differences(sci, err)
    values = difference[np.isfinite(difference)]
    if not values.size:
        return float("nan")
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def pair_scatters(sci: Array, err: Array | None = None) -> Array:
    """Return `pair_scatter` of each row; the arguments are float32."""
    difference = _differences(sci, err)
    with np.errstate(invalid="ignore", over="ignore"):
        difference -= row_medians(difference)[:, np.newaxis]
    scatters: Array = 1.4826 * row_medians(np.abs(difference)).astype(np.float64)
    return scatters


def _differences(sci: Array, err: Array | None) -> Array:
    """Return pixels minus those two columns before, scaled to the scatter of one."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        difference: Array = sci[:, 2:] - sci[:, :-2]
        if err is None:
            difference /= np.float32(np.sqrt(2))
        else:
            difference /= np.sqrt(err[:, 2:] ** 2 + err[:, :-2] ** 2)
    return difference


def row_medians(values: Array) -> Array:
    """Return the median of the finite values in each row; NaN where there is none."""
    if not values.shape[1]:
        return np.full(len(values), np.nan, dtype=values.dtype)
    # NaN is sorted to the end.
    ordered = np.where(np.isfinite(values), values, np.nan).astype(values.dtype, copy=False)
    ordered.sort(axis=1)
    n = values.shape[1] - np.count_nonzero(np.isnan(ordered), axis=1)
    row = np.arange(len(ordered))
    low, high = (ordered[row, np.maximum(i, 0)] for i in ((n - 1) // 2, n // 2))
    medians: Array = np.where(n > 0, (low + high) / 2, np.nan).astype(values.dtype)
    return medians


def finite_median(values: Array) -> Array:
    """Return the median of the finite values in each column; NaN where there is none."""
    found = []
    for column in values.T:
        finite = column[np.isfinite(column)]
        found.append(np.median(finite) if finite.size else np.nan)
    return np.array(found)
