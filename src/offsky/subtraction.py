"""Target minus average, plane by plane, with errors and flags: pure arithmetic on rows."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from offsky import kernel
from offsky.arrays import Array, Float64s
from offsky.kernel import twin_subtract
from offsky.kernel.contract import AverageRows, TargetRows
from offsky.options import Options
from offsky.values.average import ClippedMean

__all__ = [
    "PLAIN",
    "Coefficients",
    "Subtracted",
    "Subtraction",
    "TargetRows",
    "as_subtracted",
    "subtract_rows",
]


@dataclass(frozen=True, slots=True)
class Subtraction:
    """How an average is subtracted.

    Attributes
    ----------
    propagate : bool
        Add the average's variances to the target's.
    blank : bool
        Set to NaN, and flag, what no background covers.
    """

    propagate: bool = False
    blank: bool = False

    @classmethod
    def of(cls, options: Options) -> "Subtraction":
        """Return what options ask for."""
        return cls(options.errors == "propagate", options.uncovered == "nan")

    @property
    def changes_errors(self) -> bool:
        """Whether ERR and VAR_* of the target change."""
        return self.propagate or self.blank


PLAIN = Subtraction()
"""SCI and DQ alone, as the JWST pipeline subtracts."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What is subtracted from a target: the factor times the average, plus the constant.

    Attributes
    ----------
    factor, offset : float
        The factor, and the constant in the unit of SCI.
    factor_error, offset_error : float
        Their standard errors; 0 for what was given.
    covariance : float
        Their covariance where both were fitted.
    n_pixels : int
        Pixels that they were fitted to; 0 where both were given.
    is_faint : bool
        Whether a factor was fitted to an average below the noise of a sample.
    """

    factor: float = 1.0
    offset: float = 0.0
    factor_error: float = 0.0
    offset_error: float = 0.0
    covariance: float = 0.0
    n_pixels: int = 0
    is_faint: bool = False

    @classmethod
    def given(cls, options: Options) -> "Coefficients":
        """Return those that options give; 1 and 0 for what is to be fitted."""
        scale, offset = options.target_scale, options.target_offset
        return cls(
            1.0 if scale == "fit" else float(scale), 0.0 if offset == "fit" else float(offset)
        )

    def variance(self, average: Array) -> Float64s:
        """Return the variance that the errors of both give what is subtracted, in float64.

        It is common to all pixels: it does not average out over them.
        """
        b = average.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(
                b**2 * self.factor_error**2 + self.offset_error**2 + 2 * b * self.covariance
            )


class Subtracted(NamedTuple):
    """Rows of a target after subtraction.

    Attributes
    ----------
    rows : TargetRows
        The target's images, changed.
    n_err_unknown : int
        Pixels that have an average but no known error of it; 0 unless errors are
        propagated.
    n_no_value : int
        Pixels without an average at which no plane of the target is finite either.
    """

    rows: TargetRows
    n_err_unknown: int
    n_no_value: int


def subtract_rows(
    target: TargetRows,
    average: ClippedMean,
    how: Subtraction = PLAIN,
    out: TargetRows | None = None,
) -> Subtracted:
    """Subtract an average from rows of a target.

    Parameters
    ----------
    target : TargetRows
        Rows of the target, (n_rows, nx) or (nints, n_rows, nx); only read, unless `out`
        has its arrays.
    average : ClippedMean
        The same rows of the average, (n_rows, nx).
    how : Subtraction
        What to do with the errors, and where there is no average.
    out : TargetRows or None
        Arrays for the result, one for each of the target's, of its shape and type. They
        may be the target's own: then it is changed in place. None for new ones; what a
        subtraction of this kind never changes is then the target's own array.

    Returns
    -------
    Subtracted
        ``sci`` minus the average in each plane, as it was where the average has no
        sample; ``dq`` OR the average's; errors as they were, unless asked otherwise.

    Notes
    -----
    The difference is taken with the average as it is saved (float32), in the
    target's own precision: target minus saved average gives the saved result.

    To propagate errors, the average's VAR_POISSON and VAR_RNOISE are added to the
    target's, and ERR is the root of the sum of the target's VAR_* as they are stored.
    Where the average has no such variances, its ERR squared goes to VAR_RNOISE; where the
    target has none, to ERR alone. A pixel at which the average's error is not known keeps
    the target's. To subtract an average times a factor, subtract
    `as_subtracted`.
    """
    if out is None:
        out = _new_rows(target, how)
    parts: dict[str, Any] = {
        name: np.require(part, requirements=["C", "A"])
        for name in AverageRows._fields
        if (part := getattr(average, name)) is not None
    }
    rows = AverageRows(**parts)
    engine = kernel.subtract if _suits_kernel(target, rows, out) else twin_subtract.subtract
    n_unknown, n_no_value = engine(target, rows, how.propagate, how.blank, out)
    return Subtracted(out._replace(dq_flip=target.dq_flip), n_unknown, n_no_value)


def _new_rows(target: TargetRows, how: Subtraction) -> TargetRows:
    """Return arrays for what a subtraction changes; the target's own for the rest."""
    changed = {"sci", "dq"}
    if how.changes_errors:
        changed |= {"err", "var_poisson", "var_rnoise"}
    if how.blank:
        changed.add("var_flat")
    new: dict[str, Any] = {
        name: np.empty(array.shape, array.dtype)
        for name in changed
        if (array := getattr(target, name)) is not None
    }
    return target._replace(**new)


def _suits_kernel(target: TargetRows, average: AverageRows, out: TargetRows) -> bool:
    """Tell whether the kernel is there, and takes rows of such types and layouts."""
    return kernel.subtract is not None and all(
        array is None
        or (
            array.dtype.kind == kind
            and array.dtype.itemsize in sizes
            and array.flags.aligned
            and (array.flags.c_contiguous or (array.ndim == 3 and array[0].flags.c_contiguous))
        )
        for rows in (target, out)
        for array, kind, sizes in (
            (rows.dq, "u", (4,)),
            *((each, "f", (4, 8)) for each in (rows.sci, rows.err, *rows[4:])),
        )
    )


def as_subtracted(average: ClippedMean, found: Coefficients) -> ClippedMean:
    """Return what is subtracted, in float64; the average itself where that is it.

    ERR is multiplied by the factor's magnitude, variances by its square. The variance of the
    coefficients is added to ERR squared, and to VAR_RNOISE.
    """
    if found == Coefficients(n_pixels=found.n_pixels, is_faint=found.is_faint):
        return average
    factor = found.factor
    common = None
    if found.n_pixels:
        common = found.variance(average.sci)

    def times(array: Array | None, by: float) -> Array | None:
        with np.errstate(over="ignore", invalid="ignore"):
            return None if array is None else by * array.astype(np.float64)

    with np.errstate(over="ignore", invalid="ignore"):
        sci = factor * average.sci.astype(np.float64)
        if found.offset:
            sci += found.offset
    err, var_rnoise = times(average.err, abs(factor)), times(average.var_rnoise, factor**2)
    if common is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            err = None if err is None else np.sqrt(err**2 + common)
            var_rnoise = None if var_rnoise is None else var_rnoise + common
    return replace(
        average,
        sci=sci,
        err=err,
        var_poisson=times(average.var_poisson, factor**2),
        var_rnoise=var_rnoise,
    )
