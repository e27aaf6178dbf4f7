"""Averages of arrays that people have: checks, then the engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offsky.arrays import DO_NOT_USE, Array, as_flags, as_samples
from offsky.combine.planes import MOST_EXPOSURES, average_planes, count_threads
from offsky.errors import ParameterError
from offsky.given import Given, plain_numbers, take_apart
from offsky.options import Options, as_options
from offsky.units import relation
from offsky.values.average import ClippedMean


def clipped_mean(
    sci: ArrayLike,
    err: ArrayLike | None = None,
    dq: ArrayLike | None = None,
    sigma: float = 3.0,
    maxiters: int | None = None,
    threads: int | None = None,
    *,
    options: Options | None = None,
    weights: ArrayLike | None = None,
    var_poisson: ArrayLike | None = None,
    var_rnoise: ArrayLike | None = None,
) -> ClippedMean:
    """Average a stack of images along its first axis, rejecting outliers.

    Parameters
    ----------
    sci : array_like, shape (n, ...)
        Samples of n exposures, of any dtype, byte order and layout; never modified. Masked
        samples (`numpy.ma`, astropy's `Masked` and `CCDData`) are left out; units are
        compared, and carried; the uncertainty of `NDData` is its `err`.
    err, dq : array_like, shape of `sci`, optional
        Their uncertainties and their data-quality flags.
    sigma : float
        Rejection threshold in standard deviations, above zero.
    maxiters : int or None
        Most clipping passes; None repeats until nothing is rejected, 0 clips
        nothing.
    threads : int or None
        Threads to use; None for one a core. The result does not depend on it.
    options : Options or None
        How to average, in every respect, instead of `sigma` and `maxiters`.
    weights : array_like, shape (n,), optional
        Of each exposure in the mean, above zero.
    var_poisson, var_rnoise : array_like, shape of `sci`, optional
        Variances, averaged too where ``options.errors`` is "propagate".

    Returns
    -------
    ClippedMean
        ``sci``, ``err`` and variances (float32), ``dq`` (uint32) and ``n_kept``
        (uint16), of shape ``sci.shape[1:]``.

    Raises
    ------
    ParameterError
        For a threshold, a number of passes or shapes that make no sense.

    Notes
    -----
    Kept are, unless `options` say otherwise, the samples that
    ``astropy.stats.sigma_clip(sci, sigma, maxiters=maxiters, axis=0)`` keeps: finite, and
    within `sigma` population standard deviations of the median of those still kept,
    bounds included. Where ``options.reject`` is "error", the typical ERR of each exposure, and
    the scatter of its samples if that is to be measured, are told from some of the pixels,
    with rows along the last axis.

    ``err = sqrt(sum(err_i**2)) / n_kept`` over the kept samples. A kept sample whose
    own ERR is not finite takes the mean variance of the others; where none of them is
    finite, the result's ERR is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> kept = clipped_mean(np.array([[1.0], [2.0], [np.nan]]))
    >>> float(kept.sci[0]), int(kept.n_kept[0])
    (1.5, 2)
    """
    if options is None:
        options = Options(sigma=sigma, maxiters=maxiters)
    options = as_options(options)
    stack, unit, errors, flags, variances = _planes(sci, err, dq, var_poisson, var_rnoise)
    if stack.ndim < 1 or not 1 <= len(stack) <= MOST_EXPOSURES:
        raise ParameterError(
            f"sci of shape {stack.shape}: the first axis holds the exposures, "
            f"1 to {MOST_EXPOSURES}; put them there"
        )
    average = average_planes(
        list(stack),
        None if errors is None else list(errors),
        None if flags is None else list(flags),
        options=options,
        threads=count_threads(threads),
        weights=None
        if weights is None
        else plain_numbers("weights", weights).astype(np.float64, copy=False),
        depths=_depths(stack, errors, flags, options),
        variances=[None if var is None else list(var) for var in variances],
    )
    return average if unit is None else replace(average, unit=unit)


def _depths(
    stack: Array, errors: Array | None, flags: Array | None, options: Options
) -> NDArray[np.float64] | None:
    """Tell the depths of exposures from some of their pixels, where they are rejected by it."""
    n, nx = len(stack), stack.shape[-1]
    if options.reject != "error" or errors is None or n < 2 or stack.size == 0:
        return None
    # What only an option needs is imported there: a cold run waits for less.
    from offsky.combine.depths import depth_columns, depth_rows, measure_depths

    sci, err = (each.reshape(n, -1, nx) for each in (stack, errors))
    rows = depth_rows(sci.shape[1])
    part = (slice(None), slice(rows.start, None, rows.step), depth_columns(nx, len(rows), n))
    samples = sci[part].astype(np.float64)
    if flags is not None:
        samples[(flags.reshape(n, -1, nx)[part] & np.uint32(DO_NOT_USE)) != 0] = np.nan
    return measure_depths(
        list(samples.reshape(n, -1)),
        list(err[part].reshape(n, -1)),
        ratios=options.err_scale == "measure",
    ).numbers


def _planes(
    sci: Any, err: Any, dq: Any, var_poisson: Any, var_rnoise: Any
) -> tuple[Array, str | None, Array | None, Array | None, list[Array | None]]:
    """Return the samples, their unit, ERR, DQ and variances; masked samples as NaN."""
    own = take_apart("sci", sci)
    given = {"err": err, "dq": dq, "var_poisson": var_poisson, "var_rnoise": var_rnoise}
    parts = {name: take_apart(name, each) for name, each in given.items() if each is not None}
    if own.err is not None:
        if err is not None:
            raise ParameterError("err is given, and sci has an uncertainty; give one of them")
        parts["err"] = Given(own.err)
    mask = own.mask
    for name, part in parts.items():
        if part.values.shape != own.values.shape:
            raise ParameterError(
                f"{name} of shape {part.values.shape} beside sci of shape {own.values.shape}: "
                "give one value a sample"
            )
        if part.err is not None:
            raise ParameterError(f"{name} has an uncertainty, which would be lost; give its data")
        _check_unit(name, part.unit, own.unit)
        if part.mask is not None:
            # What is masked in one of its planes is left out.
            mask = part.mask if mask is None else mask | part.mask
    flags = parts.get("dq")
    return (
        as_samples(own._replace(mask=mask).filled()),
        own.unit,
        None if "err" not in parts else as_samples(parts["err"].values),
        None if flags is None else as_flags(flags.values),
        [
            None if name not in parts else as_samples(parts[name].values)
            for name in ("var_poisson", "var_rnoise")
        ],
    )


def _check_unit(name: str, found: str | None, unit: str | None) -> None:
    """Raise ParameterError where the unit of a plane contradicts that of the samples."""
    if found is None:
        return
    power = 1 if name == "err" else 2
    if name == "dq" or unit is None or relation(found, unit, power) != "same":
        raise ParameterError(
            f"{name} has the unit {found!r} where sci has {unit or 'none'!r}; convert it, or give "
            "its numbers (.value)"
        )
