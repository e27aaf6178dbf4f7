"""Target minus average, plane by plane, with errors and flags: pure arithmetic on rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offsky import kernel
from offsky.arrays import DO_NOT_USE, Array, Float64s
from offsky.options import Options
from offsky.values.average import ClippedMean


class TargetRows(NamedTuple):
    """The same rows of a target's images, in its own types and byte orders.

    Each (n_rows, nx) or (nints, n_rows, nx). ``dq`` is stored XORed with ``dq_flip``.
    What the target does not have, or is not to be looked at, is None.
    """

    sci: Array
    dq: Array
    dq_flip: int = 0
    err: Array | None = None
    var_poisson: Array | None = None
    var_rnoise: Array | None = None
    var_flat: Array | None = None

    @classmethod
    def of(cls, images: Mapping[str, Array], dq_flip: int = 0) -> "TargetRows":
        """Return rows given by the names of the fields, in capitals or not."""
        fields: dict[str, Any] = {name.lower(): image for name, image in images.items()}
        return cls(dq_flip=dq_flip, **fields)

    def image(self, name: str) -> Array:
        """Return one that there is, by its name in capitals or not."""
        found: Array = getattr(self, name.lower())
        return found


@dataclass(frozen=True, slots=True)
class Subtraction:
    """How an average is subtracted.

    Attributes
    ----------
    propagate : bool
        Add the average's variances to the target's.
    blank : bool
        Set to NaN what no background covers.
    scale : float
        Factor on the average.
    """

    propagate: bool = False
    blank: bool = False
    scale: float = 1.0

    @classmethod
    def of(cls, options: Options) -> "Subtraction":
        """Return what options ask for; a factor that is to be found is 1 so far."""
        scale = 1.0 if options.target_scale == "fit" else float(options.target_scale)
        return cls(options.errors == "propagate", options.uncovered == "nan", scale)

    @property
    def changes_errors(self) -> bool:
        """Whether ERR and VAR_* of the target change."""
        return self.propagate or self.blank


PLAIN = Subtraction()
"""SCI and DQ alone, as the JWST pipeline subtracts."""


@dataclass(frozen=True, slots=True)
class TargetScale:
    """A factor on the average at subtraction.

    Attributes
    ----------
    factor : float
        The factor.
    error : float
        Its standard error; 0 for one that was given.
    n_pixels : int
        Pixels that it was fitted to; 0 for one that was given.
    """

    factor: float
    error: float = 0.0
    n_pixels: int = 0


def subtract_rows(
    target: TargetRows,
    average: ClippedMean,
    how: Subtraction = PLAIN,
    *,
    in_place: bool = False,
) -> TargetRows:
    """Subtract the average from rows of the target.

    Parameters
    ----------
    target : TargetRows
        Not modified, unless that is allowed.
    average : ClippedMean
        The same rows of the average, (n_rows, nx).
    how : Subtraction
        What to do with the errors, and where there is no average.
    in_place : bool
        Whether the target's own arrays may be used for the result: in C that is several
        times faster.

    Returns
    -------
    TargetRows
        ``sci`` minus the average in each plane, as it was where the average has no
        sample; ``dq`` OR the average's; errors as they were, unless asked otherwise.

    Notes
    -----
    The difference is taken with the average as it is saved (float32), in the
    target's own precision: target minus saved average gives the saved result.

    To propagate errors, the average's VAR_POISSON and VAR_RNOISE, times ``scale**2``, are
    added to the target's, and ERR is the root of the sum of the target's VAR_* as they
    are stored. Where the average has no such variances, its ERR squared goes to
    VAR_RNOISE; where the target has none, to ERR alone. A pixel at which the average's
    error is not known keeps the target's.
    """
    if in_place and not how.changes_errors and _suits_kernel(target, average):
        kernel.subtract(
            target.sci,
            target.dq,
            target.dq_flip,
            average.sci,
            average.n_kept,
            average.dq,
            how.scale,
        )
        return target
    covered = average.n_kept > 0
    level: Array = np.where(covered, average.sci, np.float32(0))
    if how.scale != 1.0:
        level = how.scale * level.astype(np.float64)
    flags: Array = np.zeros_like(average.n_kept, np.uint32) if average.dq is None else average.dq
    if how.blank:
        flags = flags | np.where(covered, np.uint32(0), np.uint32(DO_NOT_USE))
    # Inverted bits: set the flags in the value, not in its stored form.
    flipped = np.uint32(target.dq_flip)
    dq = (((target.dq.astype(np.uint32) ^ flipped) | flags) ^ flipped).astype(target.dq.dtype)
    sci = np.empty_like(target.sci)
    with np.errstate(invalid="ignore", over="ignore"):
        np.subtract(target.sci, level, out=sci, casting="same_kind")
    result = target._replace(sci=sci, dq=dq)
    if how.propagate:
        result = _with_errors_of(result, average, how.scale)
    if how.blank:
        result = _blanked(result, ~covered)
    return result


def _suits_kernel(target: TargetRows, average: ClippedMean) -> bool:
    """Tell whether the kernel is there, and takes rows of such types and layouts."""
    changed, read = (target.sci, target.dq), (average.sci, average.n_kept, average.dq)
    return (
        kernel.subtract is not None
        and target.sci.dtype.kind == "f"
        and target.sci.dtype.itemsize in (4, 8)
        and target.dq.dtype.kind == "u"
        and target.dq.dtype.itemsize == 4
        and average.sci.dtype == np.float32
        and target.sci.shape == target.dq.shape == average.sci.shape
        and all(each.flags.carray for each in changed)
        and all(each is None or each.flags.c_contiguous for each in read)
    )


def count_unknown_errors(average: ClippedMean) -> int:
    """Return the number of pixels that have an average but no known error of it."""
    total = _variances_of(average, 1.0)[0]
    return int(np.count_nonzero((average.n_kept > 0) & ~np.isfinite(total)))


def _with_errors_of(target: TargetRows, average: ClippedMean, scale: float) -> TargetRows:
    """Return rows of a target whose variances have those of the average in them."""
    total, poisson, rnoise = _variances_of(average, scale)
    has_variances = target.var_poisson is not None or target.var_rnoise is not None
    if has_variances:
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


def _variances_of(average: ClippedMean, scale: float) -> tuple[Float64s, Float64s, Float64s]:
    """Return an average's whole variance, and its shares for VAR_POISSON and VAR_RNOISE."""
    assert average.err is not None
    with np.errstate(over="ignore", invalid="ignore"):
        whole = (scale * average.err.astype(np.float64)) ** 2
        if average.var_poisson is None or average.var_rnoise is None:
            return whole, np.zeros_like(whole), whole
        poisson = scale**2 * average.var_poisson.astype(np.float64)
        rnoise = scale**2 * average.var_rnoise.astype(np.float64)
        told = np.isfinite(poisson + rnoise)
        return (
            np.where(np.isfinite(whole), whole, poisson + rnoise),
            np.where(told, poisson, 0.0),
            np.where(told, rnoise, whole),
        )


def _blanked(rows: TargetRows, missing: NDArray[np.bool_]) -> TargetRows:
    """Return rows that are NaN where nothing was subtracted."""

    def blank(array: Array) -> Array:
        return np.where(missing, np.nan, array).astype(array.dtype)

    errors: dict[str, Any] = {
        name: blank(array)
        for name in ("err", "var_poisson", "var_rnoise", "var_flat")
        if (array := getattr(rows, name)) is not None
    }
    return rows._replace(sci=blank(rows.sci), **errors)
