"""Differences of level between two exposures, and the blocks of pixels that tell them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import NamedTuple

import numpy as np

from offsky.arrays import Array
from offsky.measure.median import clipped_median

# A block of 16 x 16 pixels tells its level to a sixteenth of the noise of one, so that the
# wings of a galaxy stand out of the noise which hide in single pixels.
_SIZE = 16
# The median of 256 blocks is known to 0.6 % of the noise of a pixel, and takes a third of a
# millisecond a pair. Samples of many exposures are bounded to 16 MB.
_MOST_BLOCKS, _LEAST_BLOCKS = 256, 32
_ALL_SAMPLES = 2**22
# Small images have blocks so small that there are about so many.
_ENOUGH_BLOCKS = 64
# Samples of an exposure that the rows with its blocks have at most.
_MOST_READ = 2**18
# Pixels farther than this from the typical difference are outliers: cosmic rays and stars,
# which would blur the means of blocks. In median deviations of pixels.
_REACH = 4.0
_SAMPLED = 4096
# With fewer pixels in common there is nothing to match by.
_LEAST_COMMON = 25
# Of more exposures than this, each is compared with some of the others.
_ALL_PAIRS = 16


@dataclass(frozen=True)
class Grid:
    """Blocks of an image, spread over it in strips of rows.

    Attributes
    ----------
    n_rows, n_columns : int
        Size of the image.
    height, width : int
        Rows and columns of a block.
    n_strips, n_each : int
        Strips that are looked at, and blocks in each of them.
    """

    n_rows: int
    n_columns: int
    height: int
    width: int
    n_strips: int
    n_each: int

    @property
    def n_pixels(self) -> int:
        """Number of pixels in blocks."""
        return self.height * self.width * self.n_strips * self.n_each

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """The rows of all strips, ascending."""
        n_down, rest = divmod(self.n_rows, self.height)
        firsts = [
            rest // 2 + (2 * k + 1) * n_down // (2 * self.n_strips) * self.height
            for k in range(self.n_strips)
        ]
        return tuple(row for first in firsts for row in range(first, first + self.height))

    @cached_property
    def columns(self) -> tuple[tuple[int, ...], ...]:
        """For each strip, the first columns of its blocks."""
        n_across, rest = divmod(self.n_columns, self.width)
        # Blocks of one strip do not lie above those of the next.
        return tuple(
            tuple(
                rest // 2 + (8 * j + 5 * k % 8) * n_across // (8 * self.n_each) * self.width
                for j in range(self.n_each)
            )
            for k in range(self.n_strips)
        )

    def pick(self, image: Array) -> Array:
        """Return the blocks, (n_blocks, height * width), of `image`, its rows alone."""
        shape = self.n_strips * self.n_each, self.height, self.width
        picked = np.empty(shape, image.dtype)
        number = 0
        for k, columns in enumerate(self.columns):
            strip = image[k * self.height : (k + 1) * self.height]
            for column in columns:
                picked[number] = strip[:, column : column + self.width]
                number += 1
        return picked.reshape(shape[0], -1)


def block_grid(n_rows: int, n_columns: int, n_exposures: int) -> Grid:
    """Return the blocks of an image that the levels of some exposures are told from.

    They depend on the size of the image and the number of exposures in a list.
    """
    size = max(1, min(_SIZE, isqrt(n_rows * n_columns // _ENOUGH_BLOCKS)))
    height, width = min(size, n_rows), min(size, n_columns)
    most = _ALL_SAMPLES // (n_exposures * height * width)
    n_blocks = max(_LEAST_BLOCKS, min(_MOST_BLOCKS, most))
    n_down, n_across = n_rows // height, n_columns // width
    n_strips = max(1, min(n_down, n_blocks, _MOST_READ // (height * n_columns)))
    n_each = max(1, min(n_across, n_blocks // n_strips))
    return Grid(n_rows, n_columns, height, width, n_strips, n_each)


def block_level(blocks: Array) -> float:
    """Return the clipped median of the means of blocks; NaN where nothing is known."""
    known = np.isfinite(blocks)
    n_known = np.count_nonzero(known, axis=1)
    sums = np.asarray(np.sum(blocks, axis=1, where=known, dtype=np.float64))
    chosen = n_known >= max(1, n_known.max(initial=0) / 2)
    return clipped_median(sums[chosen] / n_known[chosen]) if chosen.any() else float("nan")


class Difference(NamedTuple):
    """How much the level of one exposure is above that of another.

    Attributes
    ----------
    value : float
        The difference, in the unit of SCI.
    error : float
        Its standard error.
    noise : float
        The noise of a sample of one of them.
    n_blocks : int
        Blocks that it was told from.
    """

    value: float
    error: float
    noise: float
    n_blocks: int


def difference(blocks: Array, others: Array) -> Difference | None:
    """Find how much the level of one exposure is above that of another.

    Parameters
    ----------
    blocks, others : ndarray of float32, (n_blocks, n_pixels)
        SCI of both at the same pixels; NaN where a sample is not to be used.

    Returns
    -------
    Difference or None
        None where they have too few pixels in common.

    Notes
    -----
    The clipped median of the means of blocks of the difference, without pixels far from the
    typical one, and without blocks that have less than half as many pixels as the fullest.
    What both exposures share (response, gradients, hot pixels) vanishes pixel by pixel; an
    extended source that one of them has makes its blocks stand out (decision 0009).
    Exchanged, the value has the other sign and is the same to the last bit.
    """
    with np.errstate(invalid="ignore"):  # of two that are infinite
        pixels = blocks - others
    known = pixels[np.isfinite(pixels)]
    if known.size < _LEAST_COMMON:
        return None
    some = known[:: max(1, known.size // _SAMPLED) | 1]
    middle = np.median(some)
    scatter = 1.4826 * float(np.median(abs(some - middle)))
    pixels -= middle
    with np.errstate(invalid="ignore"):
        inside = abs(pixels) <= np.float32(_REACH * scatter)
    n_inside = np.count_nonzero(inside, axis=1)
    np.copyto(pixels, 0, where=~inside)
    sums = np.asarray(np.sum(pixels, axis=1, dtype=np.float64))
    chosen = n_inside >= max(1, n_inside.max() / 2)
    means = sums[chosen] / n_inside[chosen]
    value = clipped_median(means)
    n_blocks = len(means)
    # The variance of a median is pi/2 times that of the mean.
    error = 1.4826 * float(np.median(abs(means - value))) * (np.pi / 2 / n_blocks) ** 0.5
    return Difference(float(middle) + value, error, scatter / 2**0.5, n_blocks)


def compared(n_exposures: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of a list whose levels are compared.

    All of few exposures; of many, those whose distance in the list is a power of 2, so that
    the pairs grow little faster than the list.
    """
    for i in range(n_exposures):
        for j in range(i + 1, n_exposures):
            apart = j - i
            if n_exposures <= _ALL_PAIRS or apart & (apart - 1) == 0:
                yield i, j
