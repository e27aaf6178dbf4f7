"""Target minus average, plane by plane, with errors and flags: pure arithmetic on rows."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from offsky import kernel
from offsky.arrays import Array
from offsky.kernel import twin_subtract
from offsky.kernel.contract import AverageRows, TargetRows
from offsky.options import Options
from offsky.values.average import ClippedMean

__all__ = [
    "PLAIN",
    "Subtracted",
    "Subtraction",
    "TargetRows",
    "TargetScale",
    "given_scale",
    "scaled",
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
    the target's. To subtract an average times a factor, subtract `scaled`.
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


def scaled(average: ClippedMean, factor: float) -> ClippedMean:
    """Return an average times a factor, in float64; the same average where that is 1.

    ERR is multiplied by the factor's magnitude, variances by its square.
    """
    if factor == 1:
        return average

    def times(array: Array | None, by: float) -> Array | None:
        with np.errstate(over="ignore", invalid="ignore"):
            return None if array is None else by * array.astype(np.float64)

    with np.errstate(over="ignore", invalid="ignore"):
        sci = factor * average.sci.astype(np.float64)
    return replace(
        average,
        sci=sci,
        err=times(average.err, abs(factor)),
        var_poisson=times(average.var_poisson, factor**2),
        var_rnoise=times(average.var_rnoise, factor**2),
    )


def given_scale(options: Options) -> float:
    """Return the factor on the average that options give; 1 where it is to be found."""
    return 1.0 if options.target_scale == "fit" else float(options.target_scale)
