"""Averages of arrays that people have: checks, then the engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from offsky.arrays import as_flags, as_samples
from offsky.combine.planes import MOST_EXPOSURES, average_planes, count_threads
from offsky.errors import ParameterError
from offsky.options import Options, as_options
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
        Samples of n exposures, of any dtype, byte order and layout; never modified.
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
    bounds included.

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
    stack = as_samples(np.asarray(sci))
    if stack.ndim < 1 or not 1 <= len(stack) <= MOST_EXPOSURES:
        raise ParameterError(
            f"sci of shape {stack.shape}: the first axis holds the exposures, "
            f"1 to {MOST_EXPOSURES}; put them there"
        )
    errors = None if err is None else as_samples(np.asarray(err))
    flags = None if dq is None else as_flags(np.asarray(dq))
    variances = [
        None if var is None else as_samples(np.asarray(var)) for var in (var_poisson, var_rnoise)
    ]
    for name, array in (
        ("err", errors),
        ("dq", flags),
        ("var_poisson", variances[0]),
        ("var_rnoise", variances[1]),
    ):
        if array is not None and array.shape != stack.shape:
            raise ParameterError(
                f"{name} of shape {array.shape} beside sci of shape {stack.shape}: "
                "give one value a sample"
            )
    return average_planes(
        list(stack),
        None if errors is None else list(errors),
        None if flags is None else list(flags),
        options=options,
        threads=count_threads(threads),
        weights=None if weights is None else np.asarray(weights, dtype=np.float64),
        variances=[None if var is None else list(var) for var in variances],
    )
