"""What an exposure is to the algorithms: a shape, and rows of SCI, ERR, DQ and variances."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from offsky.arrays import Array
from offsky.values.metadata import Metadata


class Wanted(NamedTuple):
    """Which planes are read beside SCI and DQ.

    Attributes
    ----------
    err : bool
        ERR.
    variances : bool
        VAR_POISSON and VAR_RNOISE, of exposures that have both.
    """

    err: bool = True
    variances: bool = False


class Rows(NamedTuple):
    """The same rows of an exposure's SCI, ERR, DQ and variances.

    Each is (n_rows, nx), or (nints, n_rows, nx) for a cube; SCI, ERR and variances are
    float32 or float64, DQ is uint32, in any byte order. What the exposure does not have, or
    what was not wanted, is None. ``dq_flip`` is to be XORed into each DQ.
    """

    sci: Array
    err: Array | None
    dq: Array | None
    dq_flip: int = 0
    var_poisson: Array | None = None
    var_rnoise: Array | None = None


def part_of(rows: Rows, first: int, last: int) -> Rows:
    """Return rows [first, last) of some rows, as views."""

    def part(array: Array | None) -> Array | None:
        return None if array is None else array[..., first:last, :]

    return Rows(
        rows.sci[..., first:last, :],
        part(rows.err),
        part(rows.dq),
        rows.dq_flip,
        part(rows.var_poisson),
        part(rows.var_rnoise),
    )


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

    def array(self, shape: tuple[int, ...], dtype: np.dtype | type) -> Array:
        """Return an uninitialised array in this memory."""
        kind = np.dtype(dtype)
        size = 1
        for n in shape:
            size *= n
        memory = self.take(size * kind.itemsize)
        return np.frombuffer(memory, dtype=kind, count=size).reshape(shape)


class Exposure(Protocol):
    """One exposure, read piece by piece, by several threads at a time."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(ny, nx), or (nints, ny, nx)."""

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
    def held_bytes(self) -> int:
        """Memory that it takes as long as it is open, of ours."""

    def row_bytes(self, wanted: Wanted) -> int:
        """Return the memory that reading one row takes (all integrations)."""

    def read_rows(self, first: int, last: int, scratch: Scratch, wanted: Wanted) -> Rows:
        """Return rows [first, last), valid until `scratch` is cleared."""

    def pick_rows(self, rows: Sequence[int], scratch: Scratch, wanted: Wanted) -> Rows:
        """Return some rows, valid as of `read_rows`."""

    def check_unchanged(self) -> None:
        """Raise ExposureError if the named input is not what it was when it was opened."""

    def close(self) -> None:
        """Let go of the file."""
