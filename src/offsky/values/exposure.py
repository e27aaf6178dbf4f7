"""What an exposure is to the algorithms: a shape, and rows of SCI, ERR and DQ."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array
from offsky.values.metadata import Metadata


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
