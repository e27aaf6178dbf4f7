"""The factor on the average, and the constant, that leave least in the target: plain numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array, Float64s, Mask
from offsky.combine.images import make_image
from offsky.errors import ExposureMismatchError
from offsky.measure.levels import even_rows
from offsky.measure.sources import Finder, grown, noise_and_bad
from offsky.options import Options
from offsky.subtraction import Coefficients
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure, Scratch, Wanted

# Pixels that the factor is fitted to: its error is far below what matters.
_MOST_PIXELS = 2**18
_LEAST_PIXELS = 25
_REACH = 3.0
_MAXITERS = 30
_SEGMENT = 256
_STRIP_ROWS = 64
_WANTED = Wanted()
_NOTHING = (
    "the average is zero within its errors: no factor can be fitted; give target_scale as a "
    "number, or fit target_offset"
)
_NO_STRUCTURE = (
    "the average is flat within its errors: a factor and a constant cannot be told apart; fit one "
    "of target_scale and target_offset, and give the other as a number"
)


def fit_coefficients(
    target: Array,
    target_err: Array,
    average: Array,
    average_err: Array | None,
    *,
    factor: float | None = None,
    offset: float | None = 0.0,
) -> Coefficients:
    """Fit the factor on the average, and the constant, that leave least in the target.

    Parameters
    ----------
    target, target_err, average : ndarray, (n_rows, nx)
        SCI and ERR of the target, and SCI of the average; NaN at sources and bad pixels.
    average_err : ndarray or None
        ERR of the average; None where it is not known.
    factor, offset : float or None
        None to fit it, at least one of the two.

    Returns
    -------
    Coefficients

    Raises
    ------
    ExposureMismatchError
        Where too few pixels are finite in both; where the average is zero within its errors
        and a factor is fitted; where it has no structure that would tell a factor from a
        constant and both are.

    Notes
    -----
    The residual t - a b - c of target t and average b is zero on average: its sums with the
    weights w b (where a factor is fitted) and w (a constant) are zero, without the pixels
    whose residual is farther than 3 standard deviations from the median residual, found
    again until nothing changes. The errors are what noise makes of those sums, times the
    scatter of the residuals in units of their noise where that is above 1 (decision 0010).

    In the weight w b, w is the inverse of the squared ERR, and ERR and b are medians over
    `_SEGMENT` pixels along the row. With the pixel's own, which know of its noise, the
    factor would be too small: high counts have high ERR (by 1e-3 and more in bright
    skies), and noise in b adds to the sum of its squares. With a constant beside it, what
    is left of that noise in the medians is taken out of the sum too.
    """
    found = _Pixels.of(target, target_err, average, average_err)
    if factor is None:
        _check_structure(found, alone=offset is not None)
    given_factor, given_offset = factor or 0.0, offset or 0.0
    rest = found.t - given_factor * found.b - given_offset
    weights = _Weights(found, factor=factor is None, offset=offset is None)
    kept = np.ones(rest.size, dtype=np.bool_)
    values = np.zeros(2)
    if factor is None and offset is not None and np.median(found.b):
        values[0] = float(np.median(rest)) / float(np.median(found.b))
    for _ in range(_MAXITERS):
        a = values[0] if factor is None else given_factor
        expected = np.sqrt(found.typical_err**2 + a**2 * found.variance_b)
        off = (rest - values[0] * found.b - values[1]) / expected
        # The median of the residuals, not zero, else what is kept follows the first guess.
        # ERR may be too small, or the sky of another shape: then their scatter counts.
        middle = float(np.median(off[kept]))
        scatter = max(1.0, 1.4826 * float(np.median(abs(off[kept] - middle))))
        inside = abs(off - middle) <= _REACH * scatter
        new = weights.solve(rest, inside)
        close = abs(new - values) <= 1e-9 * abs(new)
        settled = np.array_equal(inside, kept) and bool(close.all())
        values, kept = new, inside
        if settled:
            break
    covariance = scatter**2 * weights.covariance(expected, kept)
    sky, noise = (float(np.mean(each**2)) for each in (found.typical_b, found.typical_err))
    return Coefficients(
        float(values[0]) if factor is None else given_factor,
        float(values[1]) if offset is None else given_offset,
        float(covariance[0, 0]) ** 0.5,
        float(covariance[1, 1]) ** 0.5,
        float(covariance[0, 1]),
        int(np.count_nonzero(kept)),
        is_faint=factor is None and sky < noise,
    )


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Pixels that can be fitted to: target, average and its variance; typical ERR and average."""

    t: Float64s
    b: Float64s
    variance_b: Float64s
    typical_err: Float64s
    typical_b: Float64s
    n_segment: Float64s  # pixels that `typical_b` is the median of

    @classmethod
    def of(
        cls, target: Array, target_err: Array, average: Array, average_err: Array | None
    ) -> "_Pixels":
        """Return those that are usable; raise ExposureMismatchError where they are too few."""
        t, sigma_t, b = (
            np.asarray(each, dtype=np.float64) for each in (target, target_err, average)
        )
        variance_b = np.zeros_like(b)
        if average_err is not None:
            variance_b = np.where(np.isfinite(average_err), average_err, 0).astype(np.float64) ** 2
        usable = np.isfinite(t) & np.isfinite(b) & np.isfinite(sigma_t) & (sigma_t > 0)
        typical_err, typical_b = (
            _smoothed(np.where(usable, each, np.nan)) for each in (sigma_t, b)
        )
        n_segment = _counted(usable)
        # A ramp that lost groups knows less than its like.
        with np.errstate(invalid="ignore"):
            usable &= sigma_t <= 1.5 * typical_err
        if np.count_nonzero(usable) < _LEAST_PIXELS:
            raise ExposureMismatchError(
                f"{np.count_nonzero(usable)} source-free pixels are known in target and average: "
                "nothing can be fitted; give target_scale and target_offset as numbers"
            )
        parts = (t, b, variance_b, typical_err, typical_b, n_segment)
        return cls(*(each[usable] for each in parts))


class _Weights:
    """The weights of the sums that are to be zero, and the solution of these equations."""

    def __init__(self, found: _Pixels, *, factor: bool, offset: bool) -> None:
        self._columns = [i for i, fitted in enumerate((factor, offset)) if fitted]
        w = 1 / found.typical_err**2
        self._weights = [(found.typical_b / found.typical_err**2, w)[i] for i in self._columns]
        self._parts = [(found.b, np.ones_like(found.b))[i] for i in self._columns]
        # The median of a segment has its share of each pixel's noise.
        self._shared = w * found.variance_b / found.n_segment if factor and offset else None

    def solve(self, rest: Float64s, inside: Mask) -> Float64s:
        """Return factor and constant, 0 for what is not fitted."""
        right = np.array([np.sum(w[inside] * rest[inside]) for w in self._weights])
        values = np.zeros(2)
        values[self._columns] = _solved(self._matrix(inside), right[:, np.newaxis])[:, 0]
        return values

    def covariance(self, expected: Float64s, inside: Mask) -> Float64s:
        """Return the covariance of factor and constant, of residuals with such noise."""
        noise = np.array(
            [
                [np.sum((one * expected * other * expected)[inside]) for one in self._weights]
                for other in self._weights
            ]
        )
        matrix = self._matrix(inside)
        found = np.zeros((2, 2))
        found[np.ix_(self._columns, self._columns)] = _solved(matrix, _solved(matrix, noise).T)
        return found

    def _matrix(self, inside: Mask) -> Float64s:
        matrix = np.array(
            [[np.sum(w[inside] * part[inside]) for part in self._parts] for w in self._weights]
        )
        if self._shared is not None:
            matrix[0, 0] -= np.sum(self._shared[inside])
        return matrix


def _solved(matrix: Float64s, right: Float64s) -> Float64s:
    """Solve one or two equations; raise ExposureMismatchError where they say nothing."""
    if matrix.shape == (1, 1):
        if not matrix[0, 0] > 0:
            raise ExposureMismatchError(_NOTHING)
        return np.asarray(right / matrix[0, 0])
    below = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
    if not below > 0:
        raise ExposureMismatchError(_NO_STRUCTURE)
    inverse = np.array([[matrix[1, 1], -matrix[0, 1]], [-matrix[1, 0], matrix[0, 0]]]) / below
    return np.asarray(np.sum(inverse[:, :, np.newaxis] * right[np.newaxis], axis=1))


def _check_structure(found: _Pixels, *, alone: bool) -> None:
    """Raise ExposureMismatchError where noise alone would decide the factor."""
    typical_b, n_segment = found.typical_b, np.asarray(float(_SEGMENT))
    if not alone:
        w = 1 / found.typical_err**2
        typical_b = typical_b - np.sum(w * typical_b) / np.sum(w)
        n_segment = found.n_segment
    # The variance of a median is pi/2 times that of the mean.
    if np.mean(typical_b**2 * n_segment) < 10 * (np.pi / 2) * np.mean(found.variance_b):
        raise ExposureMismatchError(_NOTHING if alone else _NO_STRUCTURE)


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


def _counted(usable: Mask) -> NDArray[np.float64]:
    """Return the number of usable pixels in each pixel's piece of its row, at least 1."""
    counted = np.empty(usable.shape)
    n_columns = usable.shape[1]
    for piece in np.array_split(np.arange(n_columns), max(1, n_columns // _SEGMENT)):
        columns = slice(piece[0], piece[-1] + 1)
        counted[:, columns] = np.count_nonzero(usable[:, columns], axis=1)[:, np.newaxis]
    return np.maximum(counted, 1)


def fit_target(
    target: Exposure, average: ClippedMean, options: Options, finder: Finder | None = None
) -> Coefficients:
    """Fit what `options` ask for, a factor and a constant, to one target and a whole average.

    Parameters
    ----------
    target : Exposure
        The target; a cube is averaged along its integrations first.
    average : ClippedMean
        The average, (ny, nx).
    options : Options
        What is fitted, and how integrations are averaged.
    finder : callable or None
        Finds the sources of the target, which are then left out; None to leave them to
        the clipping of residuals.

    Returns
    -------
    Coefficients

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
    scale, offset = options.target_scale, options.target_offset
    return fit_coefficients(
        np.where(bad, np.nan, sci),
        noise,
        average.sci[rows],
        None if average.err is None else average.err[rows],
        factor=None if scale == "fit" else scale,
        offset=None if offset == "fit" else offset,
    )


def _read_image(
    target: Exposure, first: int, last: int, options: Options
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Read rows of the target's image: SCI, noise, and what is not usable."""
    scratch = Scratch((last - first) * target.row_bytes(_WANTED))
    image = make_image(target.read_rows(first, last, scratch, _WANTED), options)
    noise, bad = noise_and_bad(image)
    return np.array(image.rows.sci, dtype=np.float32), noise, bad
