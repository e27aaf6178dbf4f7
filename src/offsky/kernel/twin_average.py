"""The average by any options in plain NumPy: what the C kernel is judged by.

It serves in the kernel's place where offsky was installed without a compiler.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import DO_NOT_USE, Array, Float64s, Mask
from offsky.kernel.contract import ALL, KEPT, OR, Averages, Planes, Rule
from offsky.kernel.twin_reject import kept_samples, median_of


def average(
    planes: Planes,
    dq_flip: NDArray[np.uint32] | None,
    weights: Float64s | None,
    median_factors: Float64s | None,
    rule: Rule,
    first: int,
    last: int,
    out: Averages,
    /,
) -> int:
    """Average pixels [first, last) of flat planes; the kernel's twin.

    Parameters
    ----------
    planes : Planes
        What to average.
    dq_flip : ndarray of uint32, shape (n_exposures,), or None
        What to XOR each exposure's DQ with (FITS inverts the top bit).
    weights : ndarray of float64, shape (n_exposures,), or None
        Of each exposure in the mean, above zero; None for equal ones.
    median_factors : ndarray of float64, shape (n_exposures + 1,), or None
        Not None: the median is wanted, whose error is that of the mean times
        ``median_factors[n_kept]``.
    rule : Rule
        Which samples are kept, which flags they get.
    first, last : int
        The pixels to work on.
    out : Averages
        Filled at [first, last).

    Returns
    -------
    int
        Pixels at which the ERR of a kept sample was estimated.
    """
    window = slice(first, last)
    samples = np.array([plane[window] for plane in planes.sci], dtype=np.float64)
    samples[~np.isfinite(samples)] = np.nan
    flags = _flags(planes, dq_flip, window)
    if rule.flags != OR and flags is not None:
        samples[(flags & np.uint32(rule.bad_bits)) != 0] = np.nan
    errors = _reals(planes.err, samples.shape, window)
    kept = kept_samples(samples, errors, rule)
    out.n_rejected[:] += (np.isfinite(samples) & ~kept).sum(axis=1)
    n_kept = kept.sum(axis=0)
    out.n_kept[window] = n_kept
    if flags is not None and out.dq is not None:
        out.dq[window] = _combined_flags(flags, kept, _covering(planes, window), rule)

    weight = np.ones(len(samples)) if weights is None else weights
    total, total_weight = np.zeros(len(n_kept)), np.zeros(len(n_kept))
    with np.errstate(all="ignore"):
        for sample, keep, w in zip(samples, kept, weight, strict=True):
            total += np.where(keep, w * sample, 0.0)
            total_weight += np.where(keep, w, 0.0)
        if median_factors is None:
            out.sci[window] = total / total_weight
            factor = np.ones(len(n_kept))
        else:
            # Which of two zeros is in the middle depends on how they were sorted: + 0.0
            # makes both positive.
            out.sci[window] = median_of(np.where(kept, samples, np.inf), n_kept) + 0.0
            factor = median_factors[n_kept]

        n_estimated = 0
        if out.err is not None and errors is not None:
            variance, n_known = _variance(errors * errors, kept, weights, weight)
            out.err[window] = np.sqrt(variance) * factor
            n_estimated = int(((n_known != n_kept) & (n_known > 0)).sum())
        for kind, result in (
            (planes.var_poisson, out.var_poisson),
            (planes.var_rnoise, out.var_rnoise),
        ):
            variances = _reals(kind, samples.shape, window)
            if result is not None and variances is not None:
                result[window] = _variance(variances, kept, weights, weight)[0] * factor * factor
    return n_estimated


def _variance(
    variances: Float64s, kept: Mask, weights: Float64s | None, weight: Float64s
) -> tuple[Float64s, NDArray[np.int_]]:
    """Variance of the mean of the kept samples, and of how many theirs are known.

    A kept sample of unknown variance takes the mean of the others, weighted as they are.
    """
    known = kept & ~np.isnan(variances)
    n_known, n_kept = known.sum(axis=0), kept.sum(axis=0)
    total, known_square, square, total_weight = np.zeros((4, len(n_kept)))
    for variance, keep, know, w in zip(variances, kept, known, weight, strict=True):
        total += np.where(know, w * w * variance, 0.0)
        known_square += np.where(know, w * w, 0.0)
        square += np.where(keep, w * w, 0.0)
        total_weight += np.where(keep, w, 0.0)
    if weights is None:
        return total / (n_kept * n_known), n_known
    return total * square / (known_square * (total_weight * total_weight)), n_known


def _combined_flags(flags: Array, kept: Mask, covering: Mask, rule: Rule) -> Array:
    """Combine `flags`, shape (n_exposures, n_pixels), to those of the average."""
    combined: Array = np.bitwise_or.reduce(flags, axis=0)
    if rule.flags == KEPT:
        # Where nothing was kept, why not is in the flags of all.
        kept_flags = np.bitwise_or.reduce(np.where(kept, flags, np.uint32(0)), axis=0)
        combined = np.where(kept.any(axis=0), kept_flags, combined)
    elif rule.flags == ALL:
        every = np.where(covering, flags, ~np.uint32(0))
        combined = np.bitwise_and.reduce(every, axis=0)
        combined = np.where(covering.any(axis=0), combined, np.uint32(0))
    if rule.flags != OR and rule.bad_fraction >= 0:
        bad = covering & ((flags & np.uint32(rule.bad_bits)) != 0)
        too_many = bad.sum(axis=0) > rule.bad_fraction * covering.sum(axis=0)
        combined = combined | np.where(too_many, np.uint32(DO_NOT_USE), np.uint32(0))
    return combined


def _reals(
    planes: Sequence[Array | None] | None, shape: tuple[int, ...], window: slice
) -> Float64s | None:
    """Return planes as one array; NaN what is missing or not finite."""
    if planes is None:
        return None
    values = np.full(shape, np.nan)
    for row, plane in zip(values, planes, strict=True):
        if plane is not None:
            row[:] = plane[window]
    values[~np.isfinite(values)] = np.nan
    return values


def _flags(
    planes: Planes, dq_flip: NDArray[np.uint32] | None, window: slice
) -> NDArray[np.uint32] | None:
    """Return DQ as one array, turned back; 0 what is missing."""
    if planes.dq is None:
        return None
    flags = np.zeros((len(planes.sci), len(planes.sci[0][window])), dtype=np.uint32)
    for i, plane in enumerate(planes.dq):
        if plane is not None:
            flip = np.uint32(0) if dq_flip is None else dq_flip[i]
            flags[i] = plane[window].astype(np.uint32) ^ flip
    return flags


def _covering(planes: Planes, window: slice) -> Mask:
    """Tell which exposures reach a pixel."""
    covering = np.ones((len(planes.sci), len(planes.sci[0][window])), dtype=np.bool_)
    for i, plane in enumerate(planes.covers or ()):
        if plane is not None:
            covering[i] = plane[window]
    return covering
