"""What both engines take: planes, a rule, rows of a target, and where results go."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array, Mask

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
    and `skip` are bool. Except for SCI, a kind may be None, and so may single planes of
    it: no ERR, no variance, no flags, everything covered, nothing skipped.

    `skip` is True where the sample is left out: SCI is missing there. ERR and DQ are not
    masked; they count as those of a NaN do.
    """

    sci: Sequence[Array]
    err: Sequence[Array | None] | None = None
    dq: Sequence[Array | None] | None = None
    var_poisson: Sequence[Array | None] | None = None
    var_rnoise: Sequence[Array | None] | None = None
    covers: Sequence[Array | None] | None = None
    skip: Sequence[Array | None] | None = None


class Shares(NamedTuple):
    """Where the shares of groups of exposures in a mean go.

    `groups` has the number of each exposure's group, -1 for none. The plane of a group gets
    the sum of weight times scale over its kept samples, divided by the sum of the weights of
    all kept samples: how much of something that the whole group has in common is in the mean.
    """

    groups: NDArray[np.int32]
    planes: Sequence[Array]


class Marks(NamedTuple):
    """Which samples are rejected, in some rows, for rejection that grows to neighbours.

    Attributes
    ----------
    bits : ndarray of uint64, shape (1 + n_passes, n_exposures, n_rows, n_words)
        Bit b of word w is 1 where a pass rejected the sample of pixel 64 w + b: pass 0 is
        rejection by the others of a pixel, the passes from 1 are growing. Cleared by the caller.
    bounds : ndarray of float32, shape (4, n_rows, nx)
        Bounds from below of the mean of a pixel's kept samples and of its typical ERR, and
        such from above; both before growing.
    offset : int
        The row of these that row 0 of the planes is.
    """

    bits: NDArray[np.uint64]
    bounds: NDArray[np.float32]
    offset: int = 0

    @classmethod
    def empty(cls, n_passes: int, n: int, n_rows: int, nx: int) -> "Marks":
        """Return marks that reject nothing."""
        bits = np.zeros((1 + n_passes, n, n_rows, -(-nx // 64)), dtype=np.uint64)
        return cls(bits, np.empty((4, n_rows, nx), dtype=np.float32))

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, nx)."""
        return self.bounds.shape[1], self.bounds.shape[2]

    def rejected(self, first: int, last: int) -> Mask:
        """Tell which samples of rows [first, last) are rejected, (n_exposures, n_rows, nx)."""
        words = np.bitwise_or.reduce(self.bits[:, :, first:last], axis=0)
        octets = words.astype("<u8", copy=False).view(np.uint8)
        nx = self.shape[1]
        return np.unpackbits(octets, axis=-1, count=nx, bitorder="little").view(np.bool_)


class Averages(NamedTuple):
    """Where results go: flat planes, filled in the range asked for.

    `n_rejected` and `n_masked` have one number an exposure and are added to: finite
    samples that were rejected, and that were skipped. None is left out; all reals are of
    one type. ``err``, ``dq`` and variances are left alone where the input has none.
    `marks` is there where rejection grows: the planes are whole rows of them.
    """

    sci: Array
    err: Array | None
    dq: NDArray[np.uint32] | None
    n_kept: NDArray[np.uint16]
    n_rejected: NDArray[np.int64]
    var_poisson: Array | None = None
    var_rnoise: Array | None = None
    n_masked: NDArray[np.int64] | None = None
    shares: Shares | None = None
    marks: Marks | None = None


class TargetRows(NamedTuple):
    """The same rows of a target's images, in its own types and byte orders.

    Each (n_rows, nx) or (nints, n_rows, nx). ``dq`` is stored XORed with ``dq_flip``.
    An image that the target does not have, or that is not wanted, is None.
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
        """Return an image by its name, in capitals or not."""
        found: Array = getattr(self, name.lower())
        return found


class AverageRows(NamedTuple):
    """The same rows of an average, (n_rows, nx): what is subtracted.

    SCI, ERR and variances are float32 or float64 in the machine's byte order. ERR must be
    there where errors are propagated.
    """

    sci: Array
    n_kept: NDArray[np.uint16]
    dq: NDArray[np.uint32] | None = None
    err: Array | None = None
    var_poisson: Array | None = None
    var_rnoise: Array | None = None
