"""What options mean to the kernel, and to the weights of exposures."""

from collections.abc import Sequence
from functools import cache
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from offsky.kernel import contract
from offsky.kernel.contract import Rule
from offsky.options import Options

_METHODS = {
    "none": contract.NONE,
    "sigma": contract.SIGMA,
    "error": contract.ERROR,
    "mad": contract.MAD,
    "minmax": contract.MINMAX,
}
_FLAGS = {"or": contract.OR, "kept": contract.KEPT, "all": contract.ALL}

# Variance of the median of 1, 2, ... Gaussian samples over that of their mean: the
# integrals of the order statistics, see tests/test_rule.py.
_MEDIAN_VARIANCES = (
    1.0, 1.0, 1.346013, 1.192798, 1.434168, 1.288456, 1.473128, 1.345447,
    1.494912, 1.383264, 1.508787, 1.410194, 1.518387, 1.430350, 1.525420, 1.446003,
    1.530792, 1.458513, 1.535029, 1.468741, 1.538455, 1.477258, 1.541283, 1.484463,
    1.543656, 1.490635, 1.545677, 1.495984, 1.547418, 1.500663, 1.548933, 1.504790,
)  # fmt: skip


def rule_of(options: Options) -> Rule:
    """Return what kernel and twin are to keep, and how to combine flags."""
    return Rule(
        _METHODS[options.reject],
        options.sigma if options.sigma_lower is None else options.sigma_lower,
        options.sigma if options.sigma_upper is None else options.sigma_upper,
        -1 if options.maxiters is None else options.maxiters,
        int(options.center == "mean"),
        options.n_extremes,
        options.min_keep,
        _FLAGS[options.dq],
        options.bad_bits,
        -1.0 if options.bad_fraction is None else options.bad_fraction,
    )


def grows(options: Options, n_exposures: int) -> bool:
    """Tell whether rejection grows to neighbours."""
    rejects = options.reject == "error" and options.maxiters != 0
    return options.grow is not None and rejects and n_exposures > 1


@cache
def median_factors(n: int) -> NDArray[np.float64]:
    """Return the error of the median of 0 to n Gaussian samples over that of their mean.

    Up to 32 samples by the exact variances, beyond by their expansion in 1 / n, good
    to a thousandth: the two in the middle of an even number tell more than one does.
    """
    variances = np.ones(n + 1)
    counts = np.arange(1, n + 1)
    odd = 0.5 * pi - 0.25 * pi * (4 - pi) / counts
    variances[1:] = np.where(counts % 2, odd, odd - 0.5 * pi / counts + 4 / counts**2)
    known = min(n, len(_MEDIAN_VARIANCES))
    variances[1 : known + 1] = _MEDIAN_VARIANCES[:known]
    factors = np.sqrt(variances)
    factors.flags.writeable = False
    return factors


def exposure_weights(
    options: Options,
    n_integrations: Sequence[int],
    median_errors: Sequence[float | None] = (),
) -> NDArray[np.float64] | None:
    """Return the weight of each exposure in the mean.

    Parameters
    ----------
    options : Options
        Of which `weight` counts.
    n_integrations : sequence of int
        Planes of each exposure, 1 for an image.
    median_errors : sequence of (float or None)
        The median ERR of each exposure's samples; for weights by "variance" only. None,
        or what is no number above zero, is unknown.

    Returns
    -------
    ndarray of float64, shape (n_exposures,), or None
        None for equal weights.

    Notes
    -----
    By "variance" it is the inverse variance of the exposure's mean,
    ``n_integrations / median_error**2``. An exposure of unknown ERR takes the mean
    variance of a sample of the others, as an unknown ERR of a sample does.
    """
    numbers = np.array(n_integrations, dtype=np.float64)
    if options.weight == "equal":
        return None
    if options.weight == "integrations":
        return numbers
    errors = np.array([np.nan if e is None else e for e in median_errors], dtype=np.float64)
    known = np.isfinite(errors) & (errors > 0)
    variances = np.where(known, errors, 1.0) ** 2
    if known.any():
        variances[~known] = variances[known].mean()
    return np.asarray(numbers / variances)


def largest_deviation(n: int) -> float:
    """Return how far, in standard deviations, one of n samples can be from their median.

    Parameters
    ----------
    n : int
        Samples, at least 2.

    Returns
    -------
    float
        The least upper bound; it grows with n.

    Notes
    -----
    With m = n // 2 + 1 samples at the median 0, one at 1, and the rest where they make
    the scatter least, at the mean 1 / (m + 1), the variance is m / (n (m + 1)). The
    often quoted n / sqrt(n - 1) is the distance from the median where all other
    samples are equal, which is not the largest.
    """
    if n == 2:
        return 1.0
    m = n // 2 + 1
    return sqrt(n * (m + 1) / m)
