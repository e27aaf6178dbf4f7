"""What was kept of a product while its rows went by: planes of block means, and samples."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array

COUNT = 0xF
"""Where the number of flagged pixels of a block is; of blocks of more than 15 its share of 15."""
TARGET, BACKGROUND, UNUSABLE, UNCOVERED = 0x10, 0x20, 0x40, 0x80
"""Causes of flags in a block: of the target, of a background, DO_NOT_USE, no background."""


@dataclass(frozen=True, slots=True, eq=False)
class MemberSamples:
    """What some rows show of one background.

    Attributes
    ----------
    level : float
        Median of SCI; NaN where there is none.
    scatter : float
        Robust standard deviation of a pixel, from pixels two columns apart.
    err_ratio : float
        That scatter over ERR; NaN where ERR was not read.
    """

    level: float
    scatter: float
    err_ratio: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Gathered:
    """A product as a report and its checks see it.

    Attributes
    ----------
    shape : tuple of int
        (ny, nx) of the product.
    bin : int
        Pixels on a side of a block. Blocks begin at the first pixel.
    after : ndarray of float32, shape (n_rows, n_columns)
        Means of the finite pixels of each block of the product, NaN where there is none; a
        cube is averaged along its integrations first.
    before, average, kept : ndarray or None
        The same of the target, the average subtracted, and the samples kept.
    flags : ndarray of uint16
        Of each block the number of flagged pixels (`COUNT`) and the causes.
    sampled_rows : range
        The rows of the product that follow.
    after_samples, err_samples : ndarray of float32 or None
        SCI and ERR of the product at these rows, (n, nx); of a cube its first integration.
    usable_samples : ndarray of bool
        Where they are without DO_NOT_USE.
    average_err_samples : ndarray of float32 or None
        ERR of the average at these rows.
    integration_levels : ndarray
        Level of each integration of a cube; empty for an image.
    n_flagged, n_unusable : int
        Pixels of the product that have any flag, and DO_NOT_USE.
    n_flagged_by_backgrounds, n_unusable_by_backgrounds : int
        Those of them for which the target has no flag, or no DO_NOT_USE.
    one_background, several_backgrounds, freed_by_kept : float or None
        Shares of all pixels with a flag of one background alone, of several; and without
        DO_NOT_USE in the average if only kept samples' flags counted. None where unknown.
    n_zero : int
        Pixels of the product that are exactly 0.
    n_finite : int
        Pixels of the product that are finite.
    n_no_value : int
        Pixels without a background sample that have no value in the target either.
    members : tuple of MemberSamples
        One for each background used; empty where their rows were not seen.
    """

    shape: tuple[int, int]
    bin: int
    after: Array
    before: Array | None = None
    average: Array | None = None
    kept: Array | None = None
    flags: NDArray[np.uint16] | None = None
    sampled_rows: range = range(0)
    after_samples: Array | None = None
    err_samples: Array | None = None
    usable_samples: NDArray[np.bool_] | None = None
    average_err_samples: Array | None = None
    integration_levels: Array = field(default_factory=lambda: np.empty(0))
    n_flagged: int = 0
    n_unusable: int = 0
    n_flagged_by_backgrounds: int = 0
    n_unusable_by_backgrounds: int = 0
    one_background: float | None = None
    several_backgrounds: float | None = None
    freed_by_kept: float | None = None
    n_zero: int = 0
    n_finite: int = 0
    n_no_value: int = 0
    members: tuple[MemberSamples, ...] = ()
