"""The subtraction in plain NumPy: what the C kernel is judged by.

It serves in the kernel's place where offsky was installed without a compiler, and for rows
of layouts that the kernel does not take.
"""

from typing import Any

import numpy as np

from offsky.arrays import DO_NOT_USE, Array, Float64s, Mask
from offsky.kernel.contract import AverageRows, TargetRows


def subtract(
    target: TargetRows,
    average: AverageRows,
    propagate: bool,
    blank: bool,
    out: TargetRows,
    /,
) -> tuple[int, int]:
    """Subtract an average from rows of a target; the kernel's twin.

    Parameters
    ----------
    target : TargetRows
        Not modified, unless `out` has its own arrays.
    average : AverageRows
        The same rows of the average, of the shape of the target's planes.
    propagate : bool
        Add the average's variances to the target's.
    blank : bool
        Set to NaN, and flag, where the average has no sample.
    out : TargetRows
        Filled: every image that the target has, of the same shape and type. Each may be
        the target's own.

    Returns
    -------
    n_err_unknown : int
        Pixels that have an average but no known error of it, where errors are propagated.
    n_no_value : int
        Pixels without an average at which no plane of the target is finite either.
    """
    covered = average.n_kept > 0
    level: Array = np.where(covered, average.sci, average.sci.dtype.type(0))
    flags: Array = np.zeros_like(average.n_kept, np.uint32) if average.dq is None else average.dq
    if blank:
        flags = flags | np.where(covered, np.uint32(0), np.uint32(DO_NOT_USE))
    # Inverted bits: set the flags in the value, not in its stored form.
    flipped = np.uint32(target.dq_flip)
    dq = (((target.dq.astype(np.uint32) ^ flipped) | flags) ^ flipped).astype(target.dq.dtype)
    sci = np.empty(target.sci.shape, target.sci.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        np.subtract(target.sci, level, out=sci, casting="same_kind")
    has_value: Mask = np.isfinite(target.sci)
    if has_value.ndim > covered.ndim:
        has_value = np.logical_or.reduce(has_value, axis=0)
    n_no_value = int(np.count_nonzero(~covered & ~has_value))
    n_unknown = 0

    result = target._replace(sci=sci, dq=dq)
    if propagate:
        whole = _variances_of(average)[0]
        n_unknown = int(np.count_nonzero(covered & ~np.isfinite(whole)))
        result = _with_errors_of(result, average)
    if blank:
        result = _blanked(result, ~covered)
    for name in ("sci", "dq", "err", "var_poisson", "var_rnoise", "var_flat"):
        image, place = getattr(result, name), getattr(out, name)
        if image is not None and image is not place:
            place[...] = image
    return n_unknown, n_no_value


def _with_errors_of(target: TargetRows, average: AverageRows) -> TargetRows:
    """Return rows of a target whose variances have those of the average in them."""
    total, poisson, rnoise = _variances_of(average)
    has_variances = target.var_poisson is not None or target.var_rnoise is not None
    if has_variances:
        with np.errstate(over="ignore", invalid="ignore"):
            total = poisson + rnoise
    # Where the target has but one of the two, that takes all.
    if target.var_rnoise is None:
        poisson = total
    elif target.var_poisson is None:
        rnoise = total
    known = (average.n_kept > 0) & np.isfinite(total)

    def add(array: Array | None, variance: Float64s) -> Array | None:
        if array is None:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            return np.where(known, array + variance, array).astype(array.dtype)

    result = target._replace(
        var_poisson=add(target.var_poisson, poisson), var_rnoise=add(target.var_rnoise, rnoise)
    )
    if target.err is None:
        return result
    old = target.err.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.sqrt(old**2 + total)
        if has_variances:
            of_sum = np.sqrt(_sum_of_variances(result))
            error = np.where(np.isfinite(of_sum), of_sum, error)
        err = np.where(known & np.isfinite(old), error, old).astype(target.err.dtype)
    return result._replace(err=err)


def _sum_of_variances(rows: TargetRows) -> Float64s:
    """Return the sum of the VAR_* that there are."""
    total = np.zeros(rows.sci.shape)
    for each in (rows.var_poisson, rows.var_rnoise, rows.var_flat):
        if each is not None:
            total += each
    return total


def _variances_of(average: AverageRows) -> tuple[Float64s, Float64s, Float64s]:
    """Return an average's whole variance, and its shares for VAR_POISSON and VAR_RNOISE."""
    if average.err is None:
        raise TypeError("an average without ERR has no errors to propagate")
    with np.errstate(over="ignore", invalid="ignore"):
        whole = average.err.astype(np.float64) ** 2
        if average.var_poisson is None or average.var_rnoise is None:
            return whole, np.zeros_like(whole), whole
        poisson = average.var_poisson.astype(np.float64)
        rnoise = average.var_rnoise.astype(np.float64)
        told = np.isfinite(poisson + rnoise)
        return (
            np.where(np.isfinite(whole), whole, poisson + rnoise),
            np.where(told, poisson, 0.0),
            np.where(told, rnoise, whole),
        )


def _blanked(rows: TargetRows, missing: Mask) -> TargetRows:
    """Return rows that are NaN where nothing was subtracted."""

    def blank(array: Array) -> Array:
        return np.where(missing, np.nan, array).astype(array.dtype)

    errors: dict[str, Any] = {
        name: blank(array)
        for name in ("err", "var_poisson", "var_rnoise", "var_flat")
        if (array := getattr(rows, name)) is not None
    }
    return rows._replace(sci=blank(rows.sci), **errors)
