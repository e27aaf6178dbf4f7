"""An exposure whose arrays are in memory."""

import numpy as np

from offsky.arrays import Array, as_flags, as_samples
from offsky.values.exposure import Rows, Scratch
from offsky.values.metadata import Metadata


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
