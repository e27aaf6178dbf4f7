"""The levels of exposures, and what brings them to a common one: plain numbers."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array, Float64s
from offsky.errors import ExposureMismatchError

# Samples that levels are told from: of each exposure a quarter of a million, fewer of
# many exposures, so that all are within 16 MB.  The level of one is then known to 0.3 %
# of the noise of a pixel.
_MOST_SAMPLES, _ALL_SAMPLES, _LEAST_SAMPLES = 2**18, 2**22, 2**14
# With fewer pixels in common there is nothing to match by.
_LEAST_COMMON = 25
_DO_NOT_USE = np.uint32(1)


@dataclass(frozen=True, slots=True)
class LevelMatch:
    """The levels of exposures, and what moves each to their mean.

    Attributes
    ----------
    levels : tuple of float
        Robust level of each, in the unit of SCI.
    offsets, scales : tuple of float
        What to add to each, and to multiply it by; 0 and 1 for nothing.
    n_common : int
        Pixels that they were told from.
    """

    levels: tuple[float, ...]
    offsets: tuple[float, ...]
    scales: tuple[float, ...]
    n_common: int


def clipped_median(values: Array, sigma: float = 3.0, maxiters: int = 20) -> float:
    """Return the median of values after those far from it are left out.

    Parameters
    ----------
    values : ndarray
        One-dimensional and finite, at least one; not modified.
    sigma : float
        Threshold in scaled median absolute deviations.
    maxiters : int
        Most passes.

    Returns
    -------
    float
        NaN where a small threshold leaves nothing.

    Notes
    -----
    What is kept is a run of the sorted values: one sort serves all passes.
    """
    ordered = np.sort(values).astype(np.float64)
    first, last = 0, len(ordered)
    for _ in range(maxiters):
        middle = _middle(ordered, first, last)
        reach = sigma * 1.4826 * _median_distance(ordered, first, last, middle)
        split = bisect_left(ordered, middle, first, last)
        left = bisect_left(range(first, split), -reach, key=lambda i: ordered[i] - middle)
        right = bisect_right(range(split, last), reach, key=lambda i: ordered[i] - middle)
        inside = first + left, split + right
        if reach == 0 or inside == (first, last):
            return middle
        first, last = inside
        if first == last:
            return float("nan")
    return _middle(ordered, first, last)


def _middle(ordered: Float64s, first: int, last: int) -> float:
    """Return the median of a run [first, last) of sorted values."""
    low, high = ordered[(first + last - 1) // 2], ordered[(first + last) // 2]
    return float((low + high) / 2)


def _median_distance(ordered: Float64s, first: int, last: int, middle: float) -> float:
    """Return the median distance of a run of sorted values from their middle."""
    n = last - first
    low, high = (_kth_distance(ordered, first, last, middle, k) for k in ((n - 1) // 2, n // 2))
    return (low + high) / 2


def _kth_distance(ordered: Float64s, first: int, last: int, middle: float, k: int) -> float:
    """Return the k-th smallest distance, from 0.

    The k + 1 values nearest to the middle are next to each other, and the farther end of
    those is sought. From one such group to the next its left end comes nearer to the
    middle and its right end goes away.
    """
    groups = range(first, last - k)

    def farther_end(i: int) -> float:
        return float(max(middle - ordered[i], ordered[i + k] - middle))

    split = bisect_left(
        groups, True, key=lambda i: bool(ordered[i + k] - middle >= middle - ordered[i])
    )
    return min(farther_end(i) for i in groups[max(split - 1, 0) : split + 1])


def match_levels(samples: Array, how: str) -> LevelMatch:
    """Find the level of each exposure, and what brings it to the mean of all levels.

    Parameters
    ----------
    samples : ndarray, shape (n_exposures, n_pixels)
        SCI at the same pixels; NaN where a sample is not to be used. Not modified.
    how : str
        "offset" or "scale".

    Returns
    -------
    LevelMatch

    Raises
    ------
    ExposureMismatchError
        Where too few pixels are usable in all exposures, or a level to be scaled is not
        above zero.

    Notes
    -----
    A level is the clipped median, over the pixels common to all, of the exposure's
    difference from the mean of all; plus the clipped median of that mean, the same for
    all. What the exposures share (response, gradients, hot pixels) does not blur the
    difference as it blurs the median of the exposure itself (decision 0009).

    Whether levels are matched to that of the first or to another makes no difference once
    the matching is put back: each is moved to the mean of the levels.
    """
    common = samples[:, np.isfinite(samples).all(axis=0)]
    n_exposures, n_common = common.shape
    if n_common < _LEAST_COMMON:
        raise ExposureMismatchError(
            f"{n_common} of the {samples.shape[1]} pixels looked at are usable in all "
            f"{n_exposures} backgrounds: their levels cannot be matched; use the option level none"
        )
    shared = np.asarray(np.mean(common, axis=0, dtype=np.float64))
    base = clipped_median(shared)
    levels = [base + clipped_median(each - shared) for each in common]
    mean = float(np.mean(levels))
    zeros, ones = (0.0,) * n_exposures, (1.0,) * n_exposures
    if how == "offset":
        offsets = tuple(mean - level for level in levels)
        return LevelMatch(tuple(levels), offsets, ones, n_common)
    if min(levels) <= 0:
        raise ExposureMismatchError(
            f"a background has the level {min(levels):g}: only levels above zero can be matched "
            "by a factor; use the option level offset"
        )
    return LevelMatch(tuple(levels), zeros, tuple(mean / level for level in levels), n_common)


def level_rows(n_rows: int, n_columns: int, n_exposures: int) -> range:
    """Return the rows of an image that the levels of some exposures are told from."""
    n_each = min(_MOST_SAMPLES, max(_LEAST_SAMPLES, _ALL_SAMPLES // n_exposures))
    return even_rows(n_rows, n_columns, n_each)


def sampled_pixels(n_rows: int, n_columns: int, n_exposures: int) -> int:
    """Return the number of pixels in `level_rows`."""
    return len(level_rows(n_rows, n_columns, n_exposures)) * n_columns


def unusable(dq: Array, dq_flip: int) -> NDArray[np.bool_]:
    """Tell where stored flags say DO_NOT_USE."""
    return np.asarray(((dq.astype(np.uint32) ^ np.uint32(dq_flip)) & _DO_NOT_USE) != 0)


def even_rows(n_rows: int, n_columns: int, n_samples: int) -> range:
    """Return rows in even steps that together have about `n_samples` samples.

    The step is odd, so that detectors which read even and odd rows apart show both.
    """
    step = max(1, n_rows * n_columns // n_samples)
    step += step % 2 == 0
    return range((n_rows - 1) % step // 2, n_rows, step)
