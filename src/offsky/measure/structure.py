"""Stripes and blotches: what is left in an image beside noise and sources."""

from dataclasses import dataclass

import numpy as np

from offsky.arrays import Array, Mask
from offsky.measure.blocks import block_counts, block_sums
from offsky.measure.scatter import pair_scatter
from offsky.measure.sources import grown

_RUNNING = 31
_MOST_OF_LINE = 512
# Rows that are worked on at a time.
_ROWS = 128
_LEAST_SAMPLE = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """What is left in an image beside noise and sources.

    Attributes
    ----------
    noise : float
        Scatter of a block, from those two columns apart.
    level : float
        Median of the blocks without sources.
    level_error : float
        Its standard error.
    rows, columns : ndarray
        Medians of the rows and columns of blocks, NaN where there are none.
    stripes : float
        Larger scatter of those about a running median, in the noise of a pixel; NaN where it
        cannot be told.
    stripes_along : str
        "rows" or "columns".
    blotches : float
        Scatter of means of 8 x 8 pixels over what the noise allows; NaN as well.
    free : ndarray of bool
        Blocks without sources.
    """

    noise: float
    level: float
    level_error: float
    rows: Array
    columns: Array
    stripes: float
    stripes_along: str
    blotches: float
    free: Mask


def source_free(image: Array, noise: float) -> Mask:
    """Return the blocks of an image that are finite and without sources.

    A block belongs to a source where it, or the mean of the 5 x 5 about it, is far above the
    median.
    """
    finite = np.isfinite(image)
    if not finite.any():
        return finite
    middle = quick_median(image[finite])
    sources = np.zeros(image.shape, dtype=np.bool_)
    # By rows: whole planes in between take much memory.
    for first in range(0, len(image), _ROWS):
        begin, last = max(0, first - 2), min(len(image), first + _ROWS)
        part = slice(begin, min(len(image), last + 2))
        flat = np.where(finite[part], image[part] - np.float32(middle), np.float32(0))
        found = flat > 5 * noise
        found |= _box_mean(flat, 5) > max(4 * noise / 5, 1e-30)
        sources[first:last] = found[first - begin : last - begin]
    return finite & ~grown(sources, 2)


def _box_mean(image: Array, side: int) -> Array:
    """Return the mean of the side x side about each pixel; zeros count beyond the edge."""
    half = side // 2
    padded = np.pad(image, half)
    rows = padded[: len(image)].copy()
    for i in range(1, side):
        rows += padded[i : i + len(image)]
    n = image.shape[1]
    found = rows[:, :n].copy()
    for i in range(1, side):
        found += rows[:, i : i + n]
    found /= np.float32(side**2)
    return found


def running_median(values: Array, width: int = _RUNNING) -> Array:
    """Return the median of the finite values about each; the ends are mirrored."""
    n = len(values)
    half = min(width, n) // 2
    if half < 1:
        return np.full(n, np.nan)
    padded = np.pad(values, half, mode="reflect" if n > half else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    if np.isfinite(padded).all():
        found: Array = np.median(windows, axis=1)
        return found
    with np.errstate(all="ignore"):
        known = np.isfinite(windows).any(axis=1)
        found = np.full(n, np.nan)
        found[known] = np.nanmedian(windows[known], axis=1)
    return found


def _some(values: Array, most: int = 2**18) -> Array:
    """Return at most `most` of many values, in even steps."""
    return values[:: max(1, -(-values.size // most))]


def quick_median(values: Array) -> float:
    """Return the median of some of the values, at least one: it is known to 0.3 % of noise."""
    return float(np.median(_some(values, 2**16)))


def _known(values: Array) -> Array:
    """Return values as float32, 0 where they are not known."""
    return np.where(np.isfinite(values), values, 0).astype(np.float32)


def _masked(image: Array, free: Mask) -> Array:
    return np.where(free, image, np.float32(np.nan))


def line_medians(image: Array, axis: int) -> Array:
    """Return the median of the finite pixels of each line; NaN with fewer than ten."""
    # NaN is sorted to the end; infinity is not there.
    ordered = np.array(image.T if axis == 0 else image, order="C")
    ordered.sort(axis=1)
    n = ordered.shape[1] - np.count_nonzero(np.isnan(ordered), axis=1)
    row = np.arange(len(ordered))
    low, high = (ordered[row, np.clip(i, 0, None)] for i in ((n - 1) // 2, n // 2 - (n == 0)))
    found: Array = np.where(n >= 10, (low.astype(np.float64) + high) / 2, np.nan)
    return found


def stripe_scatter(medians: Array, n_each: Array, noise: float) -> float:
    """Return the scatter of line medians about a running median, without what noise makes."""
    rest = medians - running_median(medians)
    good = np.isfinite(rest)
    if np.count_nonzero(good) < 16 or not noise > 0:
        return float("nan")
    rest = rest[good]
    low, high = np.percentile(rest, [1, 99])
    seen = float(np.mean(np.clip(rest, low, high) ** 2))
    expected = float(np.mean(1.57 * noise**2 / np.maximum(n_each[good], 1)))
    return float(np.sqrt(max(0.0, seen - expected)))


def blotch_ratio(
    image: Array, free: Mask, noise: float, bin_: int, rows: Array, columns: Array
) -> float:
    """Return the scatter of 8 x 8 pixel means over what noise allows.

    The levels of rows and columns are taken from the image first.
    """
    side = max(2, 8 // bin_)
    ny, nx = (n // side * side for n in image.shape)
    if ny // side * (nx // side) < 16 or not noise > 0:
        return float("nan")
    totals, counts = [], []
    for first in range(0, ny, _ROWS // side * side):
        part = slice(first, min(ny, first + _ROWS // side * side))
        flat = image[part, :nx] - rows[part, np.newaxis]
        flat -= columns[:nx]
        counted = free[part, :nx]
        counts.append(block_counts(counted, side))
        totals.append(block_sums(np.where(counted, flat, np.float32(0)), side))
    count = np.concatenate(counts)
    means = np.concatenate(totals) / np.maximum(count, 1)
    good = count >= side * side / 2
    if np.count_nonzero(good) < 16:
        return float("nan")
    scaled = (means[good] - np.median(means[good])) * np.sqrt(count[good]) / noise
    return 1.4826 * float(np.median(np.abs(scaled - np.median(scaled))))


def structure_of(
    image: Array, bin_: int, *, free: Mask | None = None, noise: float | None = None
) -> Structure:
    """Measure what is left in an image beside noise and sources.

    Parameters
    ----------
    image : ndarray
        Block means, NaN where there is none.
    bin_ : int
        Pixels on a side of a block.
    free : ndarray of bool or None
        Blocks without sources; None to find them.
    noise : float or None
        Scatter of a block where it is known already; None to measure it.
    """
    if noise is None:
        noise = pair_scatter(image)
    if free is None:
        free = source_free(image, noise)
    step = max(1, -(-image.size // 2**18)) | 1
    values = image.ravel()[::step][free.ravel()[::step]]
    if values.size < _LEAST_SAMPLE:
        values = _some(image[free])
    if not values.size:
        nothing = float("nan")
        empty = np.full(image.shape[0], nothing), np.full(image.shape[1], nothing)
        return Structure(noise, nothing, nothing, *empty, nothing, "rows", nothing, free)
    level = float(np.median(values))
    # Of long lines some blocks tell the median well enough.
    thin = [max(1, n // _MOST_OF_LINE) for n in image.shape]
    rows = line_medians(_masked(image[:, :: thin[1]], free[:, :: thin[1]]), 1)
    columns = line_medians(_masked(image[:: thin[0]], free[:: thin[0]]), 0)
    n_rows, n_columns = free.sum(axis=1) / thin[1], free.sum(axis=0) / thin[0]
    # In units of a pixel, not of a block.
    pixel = noise * bin_
    scatters = {
        "rows": stripe_scatter(rows, n_rows, noise) / pixel if pixel > 0 else float("nan"),
        "columns": stripe_scatter(columns, n_columns, noise) / pixel
        if pixel > 0
        else float("nan"),
    }
    along = max(scatters, key=lambda name: np.nan_to_num(scatters[name], nan=-1.0))
    blotches = blotch_ratio(
        image, free, noise, bin_, _known(rows - level), _known(columns - level)
    )
    return Structure(
        noise,
        level,
        1.2533 * noise / float(np.sqrt(values.size)),
        rows,
        columns,
        scatters[along],
        along,
        blotches,
        free,
    )
