"""The clipped mean in plain NumPy: what the C kernel is judged by.

It serves in the kernel's place where offsky was installed without a compiler:
the same results, bit for bit, some forty times slower.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float64s = NDArray[np.float64]

# Bounds are found by adding n numbers, and every order of addition rounds in its
# own way.  Two orders differ by less than this, times n (1 + sigma) max|x| (Higham,
# Accuracy and Stability of Numerical Algorithms, section 4.2); a sample nearer to a
# bound is decided in astropy's own order.
_ROUNDING = 8 * 2.0**-53

# Doubles whose squares neither overflow nor vanish.
_LARGEST_PLAIN, _SMALLEST_PLAIN_RANGE = 1e150, 1e-140

_DOUBLE_MAX = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True, eq=False)
class ClippedMean:
    """The average of exposures, pixel by pixel.

    Attributes
    ----------
    sci : ndarray of float32
        Mean of the kept samples; NaN where none was kept.
    err : ndarray of float32 or None
        Uncertainty of that mean; None without ERR.
    dq : ndarray of uint32 or None
        Bitwise OR of the DQ of all exposures; None without DQ.
    n_kept : ndarray of uint16
        Samples kept.
    n_rejected : ndarray of int64, shape (n_exposures,)
        Finite samples of each exposure that were clipped.
    n_err_estimated : int
        Pixels at which a kept sample had no finite ERR and took the mean
        variance of the others.
    """

    sci: NDArray[np.floating]
    err: NDArray[np.floating] | None
    dq: NDArray[np.uint32] | None
    n_kept: NDArray[np.uint16]
    n_rejected: NDArray[np.int64]
    n_err_estimated: int = 0


def largest_deviation(n: int) -> float:
    """Return how far, in standard deviations, one of n samples can be from their median.

    Parameters
    ----------
    n : int
        Samples, at least 2.

    Returns
    -------
    float
        The least upper bound; it grows with n.

    Notes
    -----
    With m = n // 2 + 1 samples at the median 0, one at 1, and the rest where they make
    the scatter least, at the mean 1 / (m + 1), the variance is m / (n (m + 1)). The
    often quoted n / sqrt(n - 1) is the distance from the median where all other
    samples are equal, which is not the largest.
    """
    if n == 2:
        return 1.0
    m = n // 2 + 1
    return sqrt(n * (m + 1) / m)


def clip_mean(
    sci: Sequence[Array],
    err: Sequence[Array | None] | None,
    dq: Sequence[Array | None] | None,
    dq_flip: NDArray[np.uint32] | None,
    sigma: float,
    maxiters: int,
    first: int,
    last: int,
    out_sci: NDArray[np.floating],
    out_err: NDArray[np.floating] | None,
    out_dq: NDArray[np.uint32] | None,
    out_n_kept: NDArray[np.uint16],
    n_rejected: NDArray[np.int64],
    /,
) -> int:
    """Average pixels [first, last) of flat planes; the kernel's twin.

    Parameters
    ----------
    sci, err, dq : sequence of ndarray, each (n_pixels,)
        One plane an exposure: float32 or float64, DQ uint32, any byte order.
        ``err`` and ``dq`` may be None, as may be single planes of theirs.
    dq_flip : ndarray of uint32, shape (n_exposures,), or None
        What to XOR each exposure's DQ with (FITS inverts the top bit).
    sigma, maxiters
        As in `offsky.clipped_mean`, with -1 for "until nothing is rejected".
    first, last : int
        The pixels to work on.
    out_sci, out_err, out_dq, out_n_kept : ndarray, each (n_pixels,)
        Filled at [first, last).
    n_rejected : ndarray of int64, shape (n_exposures,)
        Added to.

    Returns
    -------
    int
        Pixels at which the ERR of a kept sample was estimated.
    """
    window = slice(first, last)
    samples = np.array([plane[window] for plane in sci], dtype=np.float64)
    finite = np.isfinite(samples)
    kept = finite if maxiters == 0 else finite & _inside_bounds(samples, finite, sigma, maxiters)
    n_rejected += (finite & ~kept).sum(axis=1)

    n_kept = kept.sum(axis=0)
    total = np.zeros(samples.shape[1:])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for sample, keep in zip(samples, kept, strict=True):
            total += np.where(keep, sample, 0.0)
        out_sci[window] = total / n_kept
    out_n_kept[window] = n_kept
    if dq is not None and out_dq is not None:
        out_dq[window] = 0
        for i, flags in enumerate(dq):
            if flags is not None:
                flip = np.uint32(0) if dq_flip is None else dq_flip[i]
                out_dq[window] |= flags[window].astype(np.uint32) ^ flip
    if err is None or out_err is None:
        return 0

    variance = np.zeros_like(total)
    n_known = np.zeros_like(n_kept)
    with np.errstate(over="ignore"):
        for plane, keep in zip(err, kept, strict=True):
            if plane is not None:
                error = plane[window].astype(np.float64)
                known = keep & np.isfinite(error)
                variance += np.where(known, error, 0.0) ** 2
                n_known += known
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        out_err[window] = np.sqrt(variance / (n_kept * n_known))
    return int(((n_known != n_kept) & (n_known > 0)).sum())


def _inside_bounds(
    samples: Float64s, finite: NDArray[np.bool_], sigma: float, maxiters: int
) -> NDArray[np.bool_]:
    """Tell which samples are inside the final bounds of their pixel."""
    low = np.full(samples.shape[1], -inf)
    high = np.full(samples.shape[1], inf)
    inside = finite.copy()
    changing = np.flatnonzero(finite.any(axis=0))
    n_passes = 0
    while changing.size:
        n_passes += 1
        x, window = samples[:, changing], inside[:, changing]
        below, above, unsure = _bounds_of(x, window, finite[:, changing], sigma)
        for i in np.flatnonzero(unsure):
            column = x[finite[:, changing[i]], i]
            below[i], above[i] = _bounds_in_reference_order(column.tolist(), sigma, maxiters)
        low[changing], high[changing] = below, above

        still = window & (x >= below) & (x <= above)
        n_inside = still.sum(axis=0)
        settled = unsure | (n_inside == window.sum(axis=0)) | (n_inside == 0)
        inside[:, changing] = still
        changing = changing[~settled] if n_passes != maxiters else changing[:0]
    return np.asarray((samples >= low) & (samples <= high))


def _bounds_of(
    x: Float64s, window: NDArray[np.bool_], finite: NDArray[np.bool_], sigma: float
) -> tuple[Float64s, Float64s, NDArray[np.bool_]]:
    """Bounds from the samples in `window`, and where rounding may decide."""
    count = window.sum(axis=0)
    with np.errstate(all="ignore"):
        ordered = np.sort(np.where(window, x, inf), axis=0)
        upper = np.take_along_axis(ordered, count[None] // 2, axis=0)[0]
        lower = np.take_along_axis(ordered, (count[None] - 1) // 2, axis=0)[0]
        centre = 0.5 * (upper + lower)
        mean = np.where(window, x, 0.0).sum(axis=0) / count
        square = (np.where(window, x - mean, 0.0) ** 2).sum(axis=0)
        reach = sigma * np.sqrt(square / count)
        low, high = centre - reach, centre + reach

        n_finite = finite.sum(axis=0)
        least = np.where(finite, x, inf).min(axis=0)
        most = np.where(finite, x, -inf).max(axis=0)
        largest = np.maximum(abs(least), abs(most))
        margin = _ROUNDING * n_finite * (1 + sigma) * largest
        close = finite & ((abs(x - low) <= margin) | (abs(x - high) <= margin))
        plain = (largest < _LARGEST_PLAIN) & (most - least > _SMALLEST_PLAIN_RANGE)
    # Equal samples are all kept, also where their sum overflows.
    equal = least == most
    low[equal], high[equal] = least[equal], most[equal]
    return low, high, (close.any(axis=0) | ~plain) & ~equal


def _bounds_in_reference_order(x: list[float], sigma: float, maxiters: int) -> tuple[float, float]:
    """Bounds as `astropy.stats.sigma_clip` finds them, rounding for rounding.

    It selects the median by exchanging samples in place and then adds them in the
    order that leaves; an exactly tied sample is in or out by that order.
    """
    n_passes = 0
    while True:
        n_passes += 1
        count = len(x)
        upper = _select(x, count // 2)
        centre = upper if count % 2 else 0.5 * (upper + _select(x, count // 2 - 1))
        # A loop, not sum(): that compensates for rounding since Python 3.12.
        total = square = 0.0
        for value in x:
            total += value
        mean = total / count
        for value in x:
            square += (value - mean) * (value - mean)
        reach = sigma * sqrt(square / count) if square == square else square
        low, high = centre - reach, centre + reach
        inside = [value for value in x if low <= value <= high]
        if len(inside) in (0, count) or n_passes == maxiters:
            # NaN, from overflow, excludes nothing; nor may infinity let infinities in.
            return (
                max(low, -_DOUBLE_MAX) if low == low else -_DOUBLE_MAX,
                min(high, _DOUBLE_MAX) if high == high else _DOUBLE_MAX,
            )
        x = inside


def _select(x: list[float], k: int) -> float:
    """Return the k-th smallest of x, reordering it by Hoare's method (FIND)."""
    left, right = 0, len(x) - 1
    while left < right:
        pivot, up, down = x[k], left, right
        while up <= down:
            while x[up] < pivot:
                up += 1
            while x[down] > pivot:
                down -= 1
            if up <= down:
                x[up], x[down] = x[down], x[up]
                up, down = up + 1, down - 1
        if down < k:
            left = up
        if up > k:
            right = down
    return x[k]
