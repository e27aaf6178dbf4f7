"""The average of exposures, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


def _no_counts() -> NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ClippedMean:
    """The average of exposures, pixel by pixel.

    Attributes
    ----------
    sci : ndarray of float32
        Mean of the kept samples; NaN where none was kept.
    err : ndarray of float32 or None
        Uncertainty of that mean; None without ERR.
    dq : ndarray of uint32 or None
        The DQ of the exposures combined, by OR unless asked otherwise; None without DQ.
    n_kept : ndarray of uint16
        Samples kept.
    n_rejected : ndarray of int64, shape (n_exposures,)
        Finite samples of each exposure that were clipped.
    n_err_estimated : int
        Pixels at which a kept sample had no finite ERR and took the mean
        variance of the others.
    var_poisson, var_rnoise : ndarray of float32 or None
        Variances of that mean by Poisson and by read noise; None unless every exposure
        has them and they were asked for.
    n_samples : int
        Finite samples of all exposures, without those left out by a mask.
    n_masked : ndarray of int64, shape (n_exposures,)
        Finite samples of each exposure that were left out by a mask.
    unit : str or None
        Unit of `sci` and `err`, where the samples were given with one.
    shares : tuple of ndarray of float32
        The share of each group of exposures in that mean, where it was asked for.
    """

    sci: NDArray[np.floating]
    err: NDArray[np.floating] | None
    dq: NDArray[np.uint32] | None
    n_kept: NDArray[np.uint16]
    n_rejected: NDArray[np.int64]
    n_err_estimated: int = 0
    var_poisson: NDArray[np.floating] | None = None
    var_rnoise: NDArray[np.floating] | None = None
    n_samples: int = 0
    n_masked: NDArray[np.int64] = field(default_factory=_no_counts)
    unit: str | None = None
    shares: tuple[NDArray[np.floating], ...] = ()

    def __repr__(self) -> str:
        """Return the size of the average, and what share of the samples was rejected."""
        size = f"{len(self.n_rejected)} x {self.sci.shape}"
        if not self.n_samples:
            return f"ClippedMean({size})"
        return (
            f"ClippedMean({size}, rejected {100 * self.n_rejected.sum() / self.n_samples:.1f} %)"
        )
