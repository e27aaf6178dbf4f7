"""What both engines take: planes, a rule, and where results go."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array

# How outliers are told, and how flags are combined: the numbers that the kernel knows.
NONE, SIGMA, ERROR, MAD, MINMAX = range(5)


OR, KEPT, ALL = range(3)


class Rule(NamedTuple):
    """What is kept, and which flags it carries; as numbers, the kernel's argument.

    `method` and `flags` are numbers of above; `maxiters` -1 goes on until nothing is
    rejected; `bad_fraction` below 0 flags nothing. The others are those of
    `offsky.Options`.
    """

    method: int
    lower: float
    upper: float
    maxiters: int
    about_mean: int = 0
    n_extremes: int = 1
    min_keep: int = 0
    flags: int = OR
    bad_bits: int = 0
    bad_fraction: float = -1.0


class Planes(NamedTuple):
    """What to average: for each kind one flat plane an exposure, or None.

    SCI, ERR and variances are float32 or float64, DQ uint32, in any byte order; `covers`
    is bool. But for SCI, a kind may be None, as may single planes of it: no ERR, no
    variance, no flags, everything covered.
    """

    sci: Sequence[Array]
    err: Sequence[Array | None] | None = None
    dq: Sequence[Array | None] | None = None
    var_poisson: Sequence[Array | None] | None = None
    var_rnoise: Sequence[Array | None] | None = None
    covers: Sequence[Array | None] | None = None


class Averages(NamedTuple):
    """Where results go: flat planes, filled in the range asked for.

    `n_rejected` has one number an exposure and is added to. None is left out; all of
    the real ones are of one type.
    """

    sci: Array
    err: Array | None
    dq: NDArray[np.uint32] | None
    n_kept: NDArray[np.uint16]
    n_rejected: NDArray[np.int64]
    var_poisson: Array | None = None
    var_rnoise: Array | None = None
