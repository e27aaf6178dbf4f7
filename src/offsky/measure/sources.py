"""Find what one background shows and the others do not: stars and other sources."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array, Mask
from offsky.combine.images import Image, combine_images
from offsky.measure.levels import unusable
from offsky.options import Options

Finder = Callable[[Array, Array, NDArray[np.bool_]], NDArray[np.bool_]]
"""Called with an image, its noise (float32) and a mask of bad pixels, all (n_rows, nx);
returns True at every pixel of a source."""

# Sources are grown by a disk of this radius, to where their wings are in the noise.
GROWN_BY = 3
# All exposures' rows that are looked at together, and those that strips overlap by, so
# that a source on an edge is seen whole by one of them.
STRIP_BYTES = 48 * 2**20
"""Memory of the strips of two threads."""
OVERLAP = 8
"""Rows that strips overlap by."""
_LEAST_ROWS = 64
# More others make their median hardly better, and take longer.
_MOST_OTHERS = 7
# Pixels of a strip that tell its scatter, to half a per cent.
_MOST_SAMPLED = 2**16
_MEDIAN = Options(reject="none", combine="median", dq="kept", bad_bits=1)


def grown(mask: NDArray[np.bool_], radius: int = GROWN_BY) -> NDArray[np.bool_]:
    """Return a mask, (ny, nx), grown by a disk of `radius` pixels."""
    ny, nx = mask.shape
    result = mask.copy()
    for dy in range(-radius, radius + 1):
        reach = int(np.sqrt((radius + 0.5) ** 2 - dy**2))
        wide = mask.copy()
        for dx in range(1, min(reach, nx - 1) + 1):
            wide[:, dx:] |= mask[:, :-dx]
            wide[:, :-dx] |= mask[:, dx:]
        if abs(dy) < ny:
            result[max(0, dy) : ny + min(0, dy)] |= wide[max(0, -dy) : ny + min(0, -dy)]
    return result


def strip_rows(n_rows: int, row_bytes: int) -> int:
    """Return the height of the strips that sources are looked for in.

    Parameters
    ----------
    n_rows : int
        Rows of the image.
    row_bytes : int
        Memory for one row of every exposure of a list, and of its differences. Only the list
        decides, so that the sources do not depend on the run.
    """
    return max(_LEAST_ROWS, min(STRIP_BYTES // 2 // row_bytes, n_rows))


def find_in_images(images: Sequence[Image], i: int, finder: Finder) -> Mask:
    """Find what image `i` has and the median of the others has not.

    Parameters
    ----------
    images : sequence of Image
        The same rows of all exposures of a list, (n_rows, nx).
    i : int
        The one to look at.
    finder : callable
        What tells sources from noise, see `Finder`.

    Returns
    -------
    ndarray of bool, shape (n_rows, nx)
        True at pixels of a source, not grown yet.

    Notes
    -----
    From the image the median of the others (`_MOST_OTHERS` of many) is taken away:
    hot pixels, glow and other traits of the detector are the same in all and vanish; so
    does a source that all have at the same pixels, which cannot be told from them. Of a
    single exposure nothing is taken away. The noise is the exposure's ERR, times what
    makes it agree with the scatter of the difference.
    """
    rows = images[i].rows
    n_others = min(len(images) - 1, _MOST_OTHERS)
    difference = np.array(rows.sci, dtype=np.float32)
    if n_others:
        # Those that follow, the first after the last.
        others = [images[(i + k) % len(images)] for k in range(1, n_others + 1)]
        with np.errstate(invalid="ignore"):
            difference -= combine_images(others, _MEDIAN).sci
    noise, bad = noise_and_bad(images[i])
    bad |= ~np.isfinite(difference)
    if bad.all():
        return np.zeros(bad.shape, dtype=np.bool_)
    difference[bad] = 0
    good = np.flatnonzero(~bad)
    some = good[:: max(1, good.size // _MOST_SAMPLED)]
    scatter, expected = difference.flat[some], noise.flat[some]
    ratio = np.median(abs(scatter - np.median(scatter)) / expected)
    # Half the values equal, as in a made-up image: there is no noise to tell.
    noise *= 1.4826 * ratio if ratio > 0 else 1.0
    return finder(difference, noise, bad)


def noise_and_bad(image: Image) -> tuple[Array, Mask]:
    """Return the noise of an image's samples, and where they are not to be used.

    Parameters
    ----------
    image : Image
        (n_rows, nx).

    Returns
    -------
    noise : ndarray of float32
        ERR; 1 everywhere without one.
    bad : ndarray of bool
        Not finite, left out by a mask, without an error above zero, or flagged DO_NOT_USE.
    """
    rows = image.rows
    bad = ~np.isfinite(rows.sci)
    if image.skip is not None:
        bad |= image.skip
    if rows.dq is not None:
        bad |= unusable(rows.dq, rows.dq_flip)
    if rows.err is None:
        return np.ones(bad.shape, dtype=np.float32), bad
    noise = rows.err.astype(np.float32)
    with np.errstate(invalid="ignore"):
        unknown = ~((noise > 0) & np.isfinite(noise))
    noise[unknown] = 1
    return noise, bad if unknown.all() else bad | unknown
