"""Means and counts of blocks of pixels: what a product is shown by."""

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array, Mask

MOST_BLOCKS = 1_100_000
"""Blocks of a plane: as many as a page shows of a full frame."""
SAMPLE_STEP = 8
"""Of so many rows one is kept in full."""


def bin_of(shape: tuple[int, int]) -> int:
    """Return the side of the blocks that a product of this (ny, nx) is shown by.

    Examples
    --------
    >>> bin_of((2048, 2048)), bin_of((1024, 1032)), bin_of((25, 341))
    (2, 1, 1)
    """
    side = 1
    while -(-shape[0] // side) * -(-shape[1] // side) > MOST_BLOCKS:
        side += 1
    return side


def block_means(rows: Array, side: int) -> Array:
    """Return the means of the finite values in blocks.

    Parameters
    ----------
    rows : ndarray, shape (n_rows, nx)
        Any type of float; blocks that are cut by its end are averaged as far as they go.
    side : int
        Rows and columns of a block.

    Returns
    -------
    ndarray of float32
        NaN where a block has no finite value.
    """
    values = np.asarray(rows, dtype=np.float32)
    if side == 1:
        return np.where(np.isfinite(values), values, np.float32(np.nan))
    n_rows, n_columns = values.shape
    more = -n_rows % side, -n_columns % side
    if any(more):
        values = np.pad(values, ((0, more[0]), (0, more[1])), constant_values=np.nan)
    # NaN and infinity reach the sum, and show where a closer look is needed.
    with np.errstate(invalid="ignore", over="ignore"):
        by_rows = values[0::side] + values[1::side]
        for i in range(2, side):
            by_rows += values[i::side]
        total = by_rows[:, 0::side] + by_rows[:, 1::side]
        for i in range(2, side):
            total += by_rows[:, i::side]
    total /= np.float32(side * side)
    # Among all pixels in turn: by rows and columns NumPy looks much longer.
    unknown = (~np.isfinite(total)).ravel().nonzero()[0]
    if unknown.size:
        row, column = np.divmod(unknown, total.shape[1])
        blocks = values.reshape(len(total), side, total.shape[1], side)[row, :, column]
        finite = np.isfinite(blocks)
        count = finite.sum(axis=(1, 2))
        sums = np.where(finite, blocks, 0).sum(axis=(1, 2), dtype=np.float64)
        with np.errstate(invalid="ignore"):
            total[row, column] = sums / count
    return total


def block_counts(mask: Mask, side: int) -> NDArray[np.uint16]:
    """Return how many pixels of each block are True."""
    return _folded(_padded(mask.view(np.uint8), side), side, np.add, np.uint16)


def block_union(bits: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return which bits are set anywhere in each block."""
    return _folded(_padded(bits, side), side, np.bitwise_or, np.uint8)


def block_sums(values: Array, side: int) -> NDArray[np.float64]:
    """Return the sums of whole blocks."""
    return _folded(values, side, np.add, np.float64)


def _padded(values: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return whole blocks, the last ones filled up with zeros."""
    more = -values.shape[0] % side, -values.shape[1] % side
    return np.pad(values, ((0, more[0]), (0, more[1]))) if any(more) else values


def _folded(values: Array, side: int, combine: np.ufunc, dtype: type) -> Array:
    """Combine the pixels of each block.

    Slices are combined: along the short axes of the blocks it takes ten times as long.
    """
    by_rows: Array = values[0::side].astype(dtype)
    for i in range(1, side):
        combine(by_rows, values[i::side], out=by_rows)
    total = by_rows[:, 0::side].copy()
    for i in range(1, side):
        combine(total, by_rows[:, i::side], out=total)
    return total


def mean_image(sci: Array) -> Array:
    """Return the mean of the finite values along the integrations of a cube; an image as it is."""
    if sci.ndim == 2:
        return sci
    total = np.zeros(sci.shape[1:], dtype=np.float64)
    count = np.zeros(sci.shape[1:], dtype=np.int32)
    for image in sci:
        finite = np.isfinite(image)
        total += np.where(finite, image, 0)
        count += finite
    with np.errstate(invalid="ignore"):
        mean: Array = total / count
    return mean.astype(np.float32)


def sampled_rows(n_rows: int, step: int = SAMPLE_STEP) -> range:
    """Return the rows of an image that are looked at in full, one of each `step`."""
    return range(min(step // 2, n_rows - 1), n_rows, step)


def within(rows: range, first: int, last: int) -> list[tuple[int, int]]:
    """Return those of some rows that are in [first, last): their place, and the row."""
    begin = max(0, -(-(first - rows.start) // rows.step))
    found = []
    for i in range(begin, len(rows)):
        if rows[i] >= last:
            break
        found.append((i, rows[i]))
    return found
