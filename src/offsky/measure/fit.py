"""The factor on the average at which least of it is left in the target: plain numbers."""

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array
from offsky.combine.images import reduce_rows
from offsky.errors import ExposureMismatchError
from offsky.measure.levels import even_rows
from offsky.measure.sources import Finder, grown, noise_and_bad
from offsky.options import Options
from offsky.subtraction import TargetScale
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure, Scratch

# Pixels that the factor is fitted to: its error is far below what matters.
_MOST_PIXELS = 2**18
_LEAST_PIXELS = 25
_REACH = 3.0
_MAXITERS = 30
_SEGMENT = 256
_STRIP_ROWS = 64
_NOTHING = (
    "the average is zero within its errors: no factor can be fitted; give target_scale as a number"
)


def fit_scale(
    target: Array, target_err: Array, average: Array, average_err: Array | None
) -> TargetScale:
    """Fit the factor on the average that leaves least of it in the target.

    Parameters
    ----------
    target, target_err, average : ndarray, (n_rows, nx)
        SCI and ERR of the target, and SCI of the average; NaN at sources and bad pixels.
    average_err : ndarray or None
        ERR of the average; None where it is not known.

    Returns
    -------
    TargetScale

    Raises
    ------
    ExposureMismatchError
        Where too few pixels are finite in both, or the average is zero within its errors.

    Notes
    -----
    The factor is sum(w b t) / sum(w b b) over target t and average b, without the pixels
    whose residual is farther than 3 standard deviations from the median residual, found
    again until nothing changes. Its error is what noise makes of that, times the scatter
    of the residuals in units of their noise where that is above 1. One factor and no
    constant: a sky with little structure cannot tell the two apart (decision 0010).

    In the weight w b, w is the inverse of the squared ERR, and ERR and b are medians over
    `_SEGMENT` pixels along the row. With the pixel's own, which know of its noise, the
    factor would be too small: high counts have high ERR (by 1e-3 and more in bright
    skies), and noise in b adds to the sum of its squares.
    """
    t, sigma_t, b = (np.asarray(each, dtype=np.float64) for each in (target, target_err, average))
    variance_b = np.zeros_like(b)
    if average_err is not None:
        variance_b = np.where(np.isfinite(average_err), average_err, 0).astype(np.float64) ** 2
    usable = np.isfinite(t) & np.isfinite(b) & np.isfinite(sigma_t) & (sigma_t > 0)
    typical_err, typical_b = (_smoothed(np.where(usable, each, np.nan)) for each in (sigma_t, b))
    # A ramp that lost groups knows less than its like.
    with np.errstate(invalid="ignore"):
        usable &= sigma_t <= 1.5 * typical_err
    if np.count_nonzero(usable) < _LEAST_PIXELS:
        raise ExposureMismatchError(
            f"{np.count_nonzero(usable)} source-free pixels are known in target and average: the "
            "factor cannot be fitted; give target_scale as a number"
        )
    chosen = (each[usable] for each in (t, b, variance_b, typical_err, typical_b))
    t, b, variance_b, typical_err, typical_b = chosen
    # The variance of a median is pi/2 times that of the mean.
    if np.mean(typical_b**2) * _SEGMENT < 10 * (np.pi / 2) * np.mean(variance_b):
        raise ExposureMismatchError(_NOTHING)
    weight = typical_b / typical_err**2

    kept = np.ones(t.size, dtype=np.bool_)
    factor = float(np.median(t)) / float(np.median(b)) if np.median(b) else 0.0
    for _ in range(_MAXITERS):
        expected = np.sqrt(typical_err**2 + factor**2 * variance_b)
        off = (t - factor * b) / expected
        # The median of the residuals, not zero, else what is kept follows the first guess.
        # ERR may be too small, or the sky of another shape: then their scatter counts.
        middle = float(np.median(off[kept]))
        scatter = max(1.0, 1.4826 * float(np.median(abs(off[kept] - middle))))
        inside = abs(off - middle) <= _REACH * scatter
        w = weight[inside]
        below = float(np.sum(w * b[inside]))
        if not below > 0:
            raise ExposureMismatchError(_NOTHING)
        found = float(np.sum(w * t[inside])) / below
        settled = np.array_equal(inside, kept) and abs(found - factor) <= 1e-9 * abs(found)
        factor, kept = found, inside
        if settled:
            break
    error = scatter * float(np.sqrt(np.sum((w * expected[inside]) ** 2))) / below
    return TargetScale(factor, error, int(np.count_nonzero(kept)))


def _smoothed(image: Array) -> NDArray[np.float64]:
    """Return medians over pieces of rows, at every pixel; NaN where nothing is known."""
    n_rows, n_columns = image.shape
    n_pieces = max(1, n_columns // _SEGMENT)
    smoothed = np.empty(image.shape)
    for piece in np.array_split(np.arange(n_columns), n_pieces):
        columns = slice(piece[0], piece[-1] + 1)
        part = image[:, columns]
        known = np.isfinite(part).any(axis=1)
        medians = np.full(n_rows, np.nan)
        if known.any():
            medians[known] = np.nanmedian(part[known], axis=1)
        smoothed[:, columns] = medians[:, np.newaxis]
    return smoothed


def fit_target_scale(
    target: Exposure, average: ClippedMean, options: Options, finder: Finder | None = None
) -> TargetScale:
    """Fit the factor on a whole average for one target.

    Parameters
    ----------
    target : Exposure
        The target; a cube is averaged along its integrations first.
    average : ClippedMean
        The average, (ny, nx).
    options : Options
        How integrations are averaged.
    finder : callable or None
        Finds the sources of the target, which are then left out; None to leave them to
        the clipping of residuals.

    Returns
    -------
    TargetScale

    Notes
    -----
    Without a finder only rows in even steps are read; with one the target is read
    once, by strips, and SCI and noise of its image are in memory.
    """
    n_rows, n_columns = average.sci.shape
    chosen = even_rows(n_rows, n_columns, _MOST_PIXELS)
    if finder is None:
        parts = [_read_image(target, row, row + 1, options) for row in chosen]
    else:
        firsts = range(0, n_rows, _STRIP_ROWS)
        strips = [_read_image(target, i, min(i + _STRIP_ROWS, n_rows), options) for i in firsts]
        sci, noise, bad = (np.concatenate(each) for each in zip(*strips, strict=True))
        del strips
        difference = np.where(bad | (average.n_kept == 0), 0, sci - average.sci)
        lost = bad | ~np.isfinite(difference)
        difference[lost] = 0
        sources = grown(finder(difference.astype(np.float32), noise, lost))
        rows = list(chosen)
        parts = [(sci[rows], noise[rows], bad[rows] | sources[rows])]
    sci, noise, bad = (np.concatenate(each) for each in zip(*parts, strict=True))
    rows = list(chosen)
    bad = bad | (average.n_kept[rows] == 0)
    return fit_scale(
        np.where(bad, np.nan, sci),
        noise,
        average.sci[rows],
        None if average.err is None else average.err[rows],
    )


def _read_image(
    target: Exposure, first: int, last: int, options: Options
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Read rows of the target's image: SCI, noise, and what is not usable."""
    scratch = Scratch((last - first) * target.row_bytes)
    rows = reduce_rows(target.read_rows(first, last, scratch), options).rows
    noise, bad = noise_and_bad(rows)
    return np.array(rows.sci, dtype=np.float32), noise, bad
