"""Find what one background shows and the others do not: stars and other sources."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array
from offsky.combine.images import Image, combine_images, reduce_rows
from offsky.measure.levels import unusable
from offsky.options import Options
from offsky.values.exposure import Exposure, Rows, Scratch
from offsky.values.mask import PackedMask

Finder = Callable[[Array, Array, NDArray[np.bool_]], NDArray[np.bool_]]
"""Called with an image, its noise (float32) and a mask of bad pixels, all (n_rows, nx);
returns True at every pixel of a source."""

# Sources are grown by a disk of this radius, to where their wings are in the noise.
GROWN_BY = 3
# All exposures' rows that are looked at together, and those that strips overlap by, so
# that a source on an edge is seen whole by one of them.
_STRIP_BYTES = 48 * 2**20
_OVERLAP = 8
_LEAST_ROWS = 64
# More others make their median hardly better, and take longer.
_MOST_OTHERS = 7
# Pixels of a strip that tell its scatter, to half a per cent.
_MOST_SAMPLED = 2**16
_MEDIAN = Options(reject="none", combine="median", dq="kept", bad_bits=1)


def find_sources(
    exposures: Sequence[Exposure], finder: Finder, *, options: Options, threads: int
) -> list[PackedMask]:
    """Find the sources in each exposure, by its difference from the others.

    Parameters
    ----------
    exposures : sequence of Exposure
        All of the same (ny, nx); cubes are averaged along their integrations first.
    finder : callable
        What tells sources from noise, see `Finder`.
    options : Options
        How the integrations of a cube are averaged.
    threads : int
        Threads to work on.

    Returns
    -------
    list of PackedMask
        One for each exposure, the sources grown by `GROWN_BY` pixels.

    Notes
    -----
    Each row of each exposure is read once (and a few twice), in strips of all exposures.
    From each exposure the median of the others (`_MOST_OTHERS` of many) is taken away:
    hot pixels, glow and other traits of the detector are the same in all and vanish; so
    does a source that all have at the same pixels, which cannot be told from them. Of a
    single exposure nothing is taken away. The noise is the exposure's ERR, times what
    makes it agree with the scatter of the difference.
    """
    shape = exposures[0].shape[-2], exposures[0].shape[-1]
    found = [PackedMask(shape) for _ in exposures]
    height = _strip_rows(exposures, threads)
    with ThreadPoolExecutor(threads) as pool:
        strips = [
            pool.submit(
                _find_in_strip, exposures, finder, options, first, min(first + height, shape[0])
            )
            for first in range(0, shape[0], height)
        ]
        for strip in strips:
            first, masks = strip.result()
            for packed, mask in zip(found, masks, strict=True):
                packed.put(first, mask)
        return list(pool.map(lambda packed: PackedMask.of(grown(packed.rows(0, shape[0]))), found))


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


def _strip_rows(exposures: Sequence[Exposure], threads: int) -> int:
    """Return the height of the strips: SCI, ERR, DQ, and the difference, of all."""
    ny, nx = exposures[0].shape[-2:]
    row_bytes = sum(exposure.row_bytes + 24 * nx for exposure in exposures)
    affordable = _STRIP_BYTES // threads // row_bytes
    return max(_LEAST_ROWS, min(affordable, -(-ny // threads)))


def _find_in_strip(
    exposures: Sequence[Exposure], finder: Finder, options: Options, first: int, last: int
) -> tuple[int, list[NDArray[np.bool_]]]:
    ny = exposures[0].shape[-2]
    begin, end = max(0, first - _OVERLAP), min(ny, last + _OVERLAP)
    scratch = Scratch((end - begin) * sum(exposure.row_bytes for exposure in exposures))
    images = [reduce_rows(each.read_rows(begin, end, scratch), options) for each in exposures]
    own = slice(first - begin, last - begin)
    return first, [_find_in_image(images, i, finder)[own] for i in range(len(images))]


def _find_in_image(images: Sequence[Image], i: int, finder: Finder) -> NDArray[np.bool_]:
    """Find what image `i` has and the median of others has not."""
    rows = images[i].rows
    n_others = min(len(images) - 1, _MOST_OTHERS)
    difference = np.array(rows.sci, dtype=np.float32)
    if n_others:
        # Those that follow, the first after the last.
        others = [images[(i + k) % len(images)] for k in range(1, n_others + 1)]
        with np.errstate(invalid="ignore"):
            difference -= combine_images(others, _MEDIAN).sci
    noise, bad = noise_and_bad(rows)
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


def noise_and_bad(rows: Rows) -> tuple[Array, NDArray[np.bool_]]:
    """Return the noise of an image's samples, and where they are not to be used.

    Parameters
    ----------
    rows : Rows
        (n_rows, nx).

    Returns
    -------
    noise : ndarray of float32
        ERR; 1 everywhere without one.
    bad : ndarray of bool
        Not finite, without an error above zero, or flagged DO_NOT_USE.
    """
    bad = ~np.isfinite(rows.sci)
    if rows.dq is not None:
        bad |= unusable(rows.dq, rows.dq_flip)
    if rows.err is None:
        return np.ones(bad.shape, dtype=np.float32), bad
    noise = rows.err.astype(np.float32)
    with np.errstate(invalid="ignore"):
        unknown = ~((noise > 0) & np.isfinite(noise))
    noise[unknown] = 1
    return noise, bad if unknown.all() else bad | unknown
