"""What an exposure is to the algorithms: a shape, and rows of SCI, ERR and DQ."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from offsky.clip import Array
from offsky.metadata import Metadata


class Rows(NamedTuple):
    """The same rows of an exposure's SCI, ERR and DQ.

    ``sci``, ``err`` and ``dq`` are (n_rows, nx), or (nints, n_rows, nx) for a cube;
    SCI and ERR float32 or float64, DQ uint32, in any byte order. ERR or DQ is None
    where the exposure has none. ``dq_flip`` is to be XORed into each DQ.
    ``var_poisson`` and ``var_rnoise`` are as SCI; None where the exposure has none or
    they are not wanted. ``covers`` (bool, (n_rows, nx)) is False where the exposure does
    not reach, its samples there being NaN and its DQ 0; None where it reaches everything.
    """

    sci: Array
    err: Array | None
    dq: Array | None
    dq_flip: int = 0
    var_poisson: Array | None = None
    var_rnoise: Array | None = None
    covers: NDArray[np.bool_] | None = None


class Scratch:
    """Memory that the reads of one block of rows share, used again for the next.

    Parameters
    ----------
    n_bytes : int
        What a block is expected to take; it grows where that is too little.
    """

    def __init__(self, n_bytes: int = 0) -> None:
        self._memory = np.empty(n_bytes, dtype=np.uint8)
        self._used = self._wanted = 0

    def clear(self) -> None:
        """Give everything back; grow to what the last block would have needed."""
        if self._wanted > self._memory.size:
            self._memory = np.empty(self._wanted, dtype=np.uint8)
        self._used = self._wanted = 0

    def take(self, n_bytes: int) -> memoryview:
        """Return `n_bytes` of memory, aligned for any sample."""
        n_taken = -(-n_bytes // 64) * 64
        self._wanted += n_taken
        if self._used + n_taken > self._memory.size:
            return np.empty(n_bytes, dtype=np.uint8).data
        start, self._used = self._used, self._used + n_taken
        return self._memory[start : start + n_bytes].data


class Exposure(Protocol):
    """One exposure, read piece by piece, by several threads at a time."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(ny, nx), or (nints, ny, nx)."""

    @property
    def row_bytes(self) -> int:
        """Memory that reading one row takes (all integrations; SCI, ERR and DQ)."""

    def read_rows(self, first: int, last: int, scratch: Scratch, *, errors: bool = True) -> Rows:
        """Return rows [first, last), valid until `scratch` is cleared; ERR only if wanted."""

    @property
    def metadata(self) -> Metadata:
        """What its header says."""

    @property
    def same_as(self) -> object:
        """Equal for two that are one and the same file or model."""

    @property
    def missing(self) -> list[str]:
        """Those of ERR and DQ that the exposure does not have."""

    @property
    def has_variances(self) -> bool:
        """Whether it has VAR_POISSON and VAR_RNOISE."""

    @property
    def variance_row_bytes(self) -> int:
        """Memory that reading one row of these takes."""

    def read_variances(self, first: int, last: int, scratch: Scratch) -> tuple[Array, Array]:
        """Return rows [first, last) of VAR_POISSON and VAR_RNOISE, as `read_rows` does."""

    def close(self) -> None:
        """Let go of the file."""


class ArrayExposure:
    """An exposure whose arrays are in memory; they are never written to.

    Parameters
    ----------
    name : str
        What messages call it.
    sci : ndarray, shape (ny, nx) or (nints, ny, nx)
        SCI.
    err, dq : ndarray of the same shape, or None
        ERR and DQ.
    metadata : Metadata
        What its header says.
    same_as : object
        Equal for two that are the same; None for this object alone.
    variances : tuple of ndarray of the same shape, or None
        VAR_POISSON and VAR_RNOISE.
    """

    row_bytes = variance_row_bytes = 0

    def __init__(
        self,
        name: str,
        sci: Array,
        err: Array | None,
        dq: Array | None,
        metadata: Metadata = Metadata(),  # noqa: B008 (frozen)
        same_as: object = None,
        variances: tuple[Array, Array] | None = None,
    ) -> None:
        self.name = name
        self.shape = sci.shape
        self.metadata = metadata
        self.same_as = id(self) if same_as is None else same_as
        self.missing = [key for key, array in (("ERR", err), ("DQ", dq)) if array is None]
        self._sci = as_samples(sci)
        self._err = None if err is None else as_samples(err)
        self._dq = None if dq is None else as_flags(dq)
        self.has_variances = variances is not None
        self._variances = None if variances is None else tuple(map(as_samples, variances))

    def read_rows(self, first: int, last: int, scratch: Scratch, *, errors: bool = True) -> Rows:
        """Return views of rows [first, last)."""
        rows = (..., slice(first, last), slice(None))
        return Rows(
            self._sci[rows],
            None if self._err is None or not errors else self._err[rows],
            None if self._dq is None else self._dq[rows],
        )

    def read_variances(self, first: int, last: int, scratch: Scratch) -> tuple[Array, Array]:
        """Return views of rows [first, last)."""
        assert self._variances is not None
        poisson, rnoise = (array[..., first:last, :] for array in self._variances)
        return poisson, rnoise

    def in_memory(self, same_as: object) -> "ArrayExposure":
        """Return the same exposure with arrays of its own, none of them on disk."""
        err = None if self._err is None else np.array(self._err)
        dq = None if self._dq is None else np.array(self._dq)
        variances = None
        if self._variances is not None:
            variances = np.array(self._variances[0]), np.array(self._variances[1])
        return ArrayExposure(
            self.name, np.array(self._sci), err, dq, self.metadata, same_as, variances
        )

    def close(self) -> None:
        """Do nothing: the arrays are their owner's."""


def as_samples(array: Array) -> Array:
    """Return SCI or ERR as the float32 or float64 it is, other types as float64."""
    if array.dtype.kind == "f" and array.dtype.itemsize in (4, 8):
        return array
    return array.astype(np.float64)


def as_flags(array: Array) -> Array:
    """Return DQ as uint32; flags of other integer types keep their bits."""
    if array.dtype.kind == "i":
        array = array.view(array.dtype.str.replace("i", "u"))
    if array.dtype.kind == "u" and array.dtype.itemsize == 4:
        return array
    return array.astype(np.uint32)
