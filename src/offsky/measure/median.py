"""The median of values after those far from it are left out."""

from bisect import bisect_left, bisect_right

import numpy as np

from offsky.arrays import Array, Float64s


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
