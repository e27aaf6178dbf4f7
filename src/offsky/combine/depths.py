"""How deep exposures are, and how far the scatter of their samples is from what ERR says."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array, Float64s, Mask
from offsky.kernel.twin_reject import typical_errors

# Samples of all exposures together that depths are told from, and of each at least: the ratio
# of one of 10 is then known to 1.5 %.
_MOST_SAMPLES, _LEAST_SAMPLES = 2**16, 2**12
# With fewer pixels in common, or fewer different values, ERR is taken as it is.
_LEAST_PIXELS, _LEAST_VALUES = 256, 32
# With fewer pixels a hit that inflates its own ERR would make its exposure a shallow one.
_LEAST_FOR_TYPICAL = 25
# Rows that they are on: more rows, with fewer pixels of each, see more of the detector.
_ROWS = 24
# The standard deviation of Gaussian noise in median absolute deviations, of all samples and of
# those within 3 standard deviations: 1 / Phi^-1(3/4), 1 / Phi^-1(1/2 + (2 Phi(3) - 1) / 4).
_OF_ALL, _WITHIN_3 = 1.482602, 1.487174
_FARTHEST, _MOST_PASSES, _STEADY = 3.0, 10, 0.003


@dataclass(frozen=True, slots=True)
class Depths:
    """The typical ERR of exposures, and the scatter of their samples in units of it.

    Attributes
    ----------
    typical : ndarray of float64, shape (n_exposures,)
        Median ERR of each, relative to that of them all; 1 where it is not known.
    ratios : ndarray of float64, shape (n_exposures,)
        Scatter over ERR; 1 where it is not measured.
    is_measured : bool
        Whether the ratios were measured.
    """

    typical: Float64s
    ratios: Float64s
    is_measured: bool

    @property
    def numbers(self) -> Float64s:
        """As the kernel takes them: what ERR is multiplied by to be compared, and weights."""
        return np.stack([1 / self.typical, (self.typical * self.ratios) ** -2.0])


def depth_rows(ny: int) -> range:
    """Return the rows that depths are told from."""
    step = max(1, ny // _ROWS)
    return range(step // 2, ny, step)


def depth_columns(nx: int, n_rows: int, n_exposures: int) -> slice:
    """Return the columns of those rows: in odd steps, to see every output of a detector."""
    n_pixels = max(_MOST_SAMPLES // n_exposures, _LEAST_SAMPLES)
    return slice(0, nx, max(1, -(-n_rows * nx // n_pixels)) | 1)


def depth_bytes(n_exposures: int, n_lists: int, n_members: int) -> int:
    """Return the memory of the samples of exposures, and of telling the depths of lists.

    Two lists are worked on at a time, each with some ten arrays of float64.
    """
    n_pixels = max(_MOST_SAMPLES // n_members, _LEAST_SAMPLES)
    return 8 * n_pixels * n_exposures + min(n_lists, 2) * 100 * n_pixels * n_members


def measure_depths(
    samples: Sequence[Array], errors: Sequence[Array | None], *, ratios: bool
) -> Depths:
    """Tell the depths of exposures from some of their samples.

    Parameters
    ----------
    samples : sequence of ndarray, shape (n_pixels,)
        SCI of each exposure at the same pixels, NaN where it is missing; more than one.
    errors : sequence of (ndarray or None)
        Their ERR.
    ratios : bool
        Whether to measure the ratios of scatter to ERR.
    """
    x = np.stack([each.astype(np.float64) for each in samples])
    e = np.stack([
        np.full(len(each), np.nan) if error is None else error.astype(np.float64)
        for each, error in zip(samples, errors, strict=True)
    ])  # fmt: skip
    x[~np.isfinite(x)] = np.nan
    e[~(np.isfinite(e) & (e > 0) & np.isfinite(x))] = np.nan
    typical = np.array([_median(row[np.isfinite(row)]) for row in e])
    known = np.isfinite(typical)
    if not known.any() or x.shape[1] < _LEAST_FOR_TYPICAL:
        return Depths(np.ones(len(x)), np.ones(len(x)), is_measured=False)
    typical[~known] = np.median(typical[known])
    typical /= np.median(typical[known])
    ones = np.ones(len(x))
    if not ratios:
        return Depths(typical, ones, is_measured=False)
    found = _ratios(x, e, typical)
    return Depths(typical, ones if found is None else found, is_measured=found is not None)


def _median(values: Float64s) -> float:
    return float(np.median(values)) if values.size else np.nan


def _ratios(x: Float64s, e: Float64s, typical: Float64s) -> Float64s | None:
    """Return the ratio of scatter to ERR of each exposure; None where nothing tells it.

    What is measured is the scatter about the mean of all, weighted by what is known of the
    ratios so far; an exposure has a part in that mean, and in its scatter. Of two exposures
    only the difference is seen: they get a ratio in common.
    """
    there = np.isfinite(x)
    error = typical_errors(x, e, np.stack([1 / typical, typical]))
    pixels = (there.sum(axis=0) >= 2) & np.isfinite(error)
    x, there, error = x[:, pixels], there[:, pixels], error[pixels]
    n = len(x)
    if any(_tells_nothing(x[i][there[i]]) for i in range(n)):
        return None
    ratios, inside = np.ones(n), np.ones(error.size, dtype=np.bool_)
    unit, to_sigma = _OF_ALL, _OF_ALL
    for _ in range(1 if n == 2 else _MOST_PASSES):
        off, shrinks = _about_mean(x, there, typical * ratios)
        relative = off / (error * typical[:, np.newaxis]) / np.sqrt(shrinks)
        if n == 2:
            return _checked(np.full(2, _scatter(relative[0], there[0], inside, to_sigma)))
        new = _checked(
            np.array([_scatter(relative[i], there[i], inside, to_sigma) for i in range(n)])
        )
        change, ratios = float(np.max(abs(new / ratios - 1))), new
        middle = np.array([_median(relative[i][there[i]]) for i in range(n)])[:, np.newaxis]
        far = there & (abs(relative - middle) > _FARTHEST * ratios[:, np.newaxis])
        settled = change < _STEADY and to_sigma != unit
        inside, to_sigma = ~far.any(axis=0), _WITHIN_3
        if settled or np.count_nonzero(inside) < _LEAST_PIXELS:
            break
    return ratios


def _tells_nothing(values: Float64s) -> bool:
    return values.size < _LEAST_PIXELS or len(np.unique(values[:4096])) < _LEAST_VALUES


def _checked(ratios: Float64s) -> Float64s:
    """Return ratios, 1 in place of what is none: nothing scatters by 0."""
    return np.where(np.isfinite(ratios) & (ratios > 0), ratios, 1.0)


def _about_mean(x: Float64s, there: Mask, depths: Float64s) -> tuple[Float64s, Float64s]:
    """Return samples minus the weighted mean, and how much less this makes their variance."""
    weights = depths[:, np.newaxis] ** -2.0 * there
    total = weights.sum(axis=0)
    mean = np.where(there, weights * x, 0.0).sum(axis=0) / total
    shrinks: NDArray[np.float64] = np.maximum(1 - weights / total, 1e-12)
    return x - mean, shrinks


def _scatter(values: Float64s, there: Mask, inside: Mask, to_sigma: float) -> float:
    """Return the scatter of one exposure's samples about their median."""
    chosen = values[there & inside]
    if chosen.size < _LEAST_PIXELS:
        return 1.0
    return to_sigma * float(np.median(abs(chosen - np.median(chosen))))
