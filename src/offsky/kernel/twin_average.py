"""The average in plain NumPy: what the C kernel is judged by.

It serves in the kernel's place where offsky was installed without a compiler: the same
results, bit for bit, some forty times slower.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import DO_NOT_USE, Array, Float64s, Mask
from offsky.kernel.contract import ALL, KEPT, OR, Averages, Marks, Planes, Rule
from offsky.kernel.twin_reject import kept_samples, median_of


def average(
    planes: Planes,
    dq_flip: NDArray[np.uint32] | None,
    offsets: Float64s | None,
    scales: Float64s | None,
    weights: Float64s | None,
    depths: Float64s | None,
    median_factors: Float64s | None,
    rule: Rule,
    first: int,
    last: int,
    out: Averages,
    /,
) -> tuple[int, int]:
    """Average pixels [first, last) of flat planes; the kernel's twin.

    Parameters
    ----------
    planes : Planes
        What to average.
    dq_flip : ndarray of uint32, shape (n_exposures,), or None
        What to XOR each exposure's DQ with (FITS inverts the top bit).
    offsets, scales : ndarray of float64, shape (n_exposures,), or None
        SCI is multiplied by the scale, then the offset is added, both rounded to the
        plane's own type; ERR is multiplied by the scale's magnitude, variances by its
        square. None for 0 and 1.
    weights : ndarray of float64, shape (n_exposures,), or None
        Of each exposure in the mean, above zero; None for equal ones.
    depths : ndarray of float64, shape (2, n_exposures), or None
        How rejection by ERROR compares exposures: what each one's ERR is multiplied by to
        compare it with that of the others, and the weight of its samples; all above zero.
        None for ones.
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
    n_err_estimated : int
        Pixels at which the ERR of a kept sample was estimated.
    n_samples : int
        Finite samples that were not skipped, whether kept or not.
    """
    window = slice(first, last)
    samples = samples_of(planes, offsets, scales, window)
    skipped = masks_of(planes.skip, samples.shape, window, missing=False)
    if out.n_masked is not None:
        out.n_masked[:] += (np.isfinite(samples) & skipped).sum(axis=1)
    samples[skipped] = np.nan
    n_samples = int(np.isfinite(samples).sum())
    flags = flags_of(planes, dq_flip, window)
    if rule.flags != OR and flags is not None:
        samples[(flags & np.uint32(rule.bad_bits)) != 0] = np.nan
    errors = reals_of(planes.err, samples.shape, window, factors_of(scales, abs))
    kept = kept_samples(samples, errors, rule, depths)
    rejected = np.isfinite(samples) & ~kept
    out.n_rejected[:] += rejected.sum(axis=1)
    if out.marks is not None:
        _mark(out.marks, rejected, first)
    n_kept = kept.sum(axis=0)
    out.n_kept[window] = n_kept
    if flags is not None and out.dq is not None:
        out.dq[window] = _combined_flags(
            flags, kept, masks_of(planes.covers, samples.shape, window, missing=True), rule
        )

    weight = np.ones(len(samples)) if weights is None else weights
    total, total_weight = np.zeros(len(n_kept)), np.zeros(len(n_kept))
    with np.errstate(all="ignore"):
        for sample, keep, w in zip(samples, kept, weight, strict=True):
            total += np.where(keep, w * sample, 0.0)
            total_weight += np.where(keep, w, 0.0)
        for g, plane in enumerate(() if out.shares is None else out.shares.planes):
            share = np.zeros(len(n_kept))
            for i in np.flatnonzero(out.shares.groups == g):  # type: ignore[union-attr]
                scale = 1.0 if scales is None else float(scales[i])
                share += np.where(kept[i], weight[i] * scale, 0.0)
            plane[window] = share / total_weight
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
            factors = factors_of(scales, lambda scale: scale**2)
            variances = reals_of(kind, samples.shape, window, factors)
            if result is not None and variances is not None:
                result[window] = _variance(variances, kept, weights, weight)[0] * factor * factor
    return n_estimated, n_samples


def _mark(marks: Marks, rejected: Mask, first: int) -> None:
    """Mark what is rejected of pixels from `first` on; the bounds bound nothing here."""
    nx = marks.shape[1]
    exposure, pixel = np.nonzero(rejected)
    row, column = np.divmod(pixel + first, nx)
    bit = np.uint64(1) << (column % 64).astype(np.uint64)
    np.bitwise_or.at(marks.bits[0], (exposure, row + marks.offset, column // 64), bit)
    own = slice(marks.offset * nx + first, marks.offset * nx + first + rejected.shape[1])
    marks.bounds.reshape(4, -1)[:, own] = np.array([[-np.inf], [0.0], [np.inf], [np.inf]])


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


def samples_of(
    planes: Planes, offsets: Float64s | None, scales: Float64s | None, window: slice
) -> Float64s:
    """Return SCI as one array, scaled and moved; NaN what is not finite."""
    samples = np.empty((len(planes.sci), len(planes.sci[0][window])))
    for i, plane in enumerate(planes.sci):
        sample = _times(plane[window], 1.0 if scales is None else float(scales[i]))
        offset = 0.0 if offsets is None else float(offsets[i])
        with np.errstate(invalid="ignore", over="ignore"):
            samples[i] = sample + _in_type(offset, sample) if offset != 0 else sample
    samples[~np.isfinite(samples)] = np.nan
    return samples


def factors_of(scales: Float64s | None, of: Callable[[float], float]) -> list[float] | None:
    """Return what a factor on SCI does to the images of errors."""
    return None if scales is None else [of(float(scale)) for scale in scales]


def _times(array: Array, factor: float) -> Array:
    """Return an array times a factor, in its own type and our byte order."""
    if factor == 1:
        return array
    # Signalling NaNs and overflows are no one's surprise here.
    with np.errstate(invalid="ignore", over="ignore"):
        product: Array = array * _in_type(factor, array)
    return product


def _in_type(value: float, array: Array) -> Array:
    """Return a number rounded to the type of an array."""
    with np.errstate(over="ignore"):
        return np.full((), value, dtype=array.dtype.newbyteorder("="))


def reals_of(
    planes: Sequence[Array | None] | None,
    shape: tuple[int, ...],
    window: slice,
    factors: list[float] | None,
) -> Float64s | None:
    """Return planes as one array, times factors; NaN what is missing or not finite."""
    if planes is None:
        return None
    values = np.full(shape, np.nan)
    for i, plane in enumerate(planes):
        if plane is not None:
            values[i] = _times(plane[window], 1.0 if factors is None else factors[i])
    values[~np.isfinite(values)] = np.nan
    return values


def flags_of(
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


def masks_of(
    planes: Sequence[Array | None] | None, shape: tuple[int, ...], window: slice, *, missing: bool
) -> Mask:
    """Return masks as one array; `missing` what is not there."""
    masks = np.full(shape, missing)
    for i, plane in enumerate(planes or ()):
        if plane is not None:
            masks[i] = plane[window]
    return masks
