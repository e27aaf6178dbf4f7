"""An exposure whose arrays are in memory."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from offsky.arrays import Array, as_flags, as_samples
from offsky.values.exposure import Rows, Scratch, Wanted
from offsky.values.metadata import Metadata


def _never_changes() -> None:
    """Raise nothing: what is in memory is its owner's business."""


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
    variances : mapping of str to ndarray of the same shape
        Those of VAR_POISSON, VAR_RNOISE and VAR_FLAT that it has.
    held_bytes : int
        Memory of ours that it takes; 0 where the arrays are somebody else's.
    path : Path or None
        The file that it was read from.
    check : callable
        Raises ExposureError if the input has changed since it was read.
    """

    def __init__(
        self,
        name: str,
        sci: Array,
        err: Array | None,
        dq: Array | None,
        metadata: Metadata = Metadata(),  # noqa: B008 (frozen)
        same_as: object = None,
        variances: Mapping[str, Array] | None = None,
        *,
        held_bytes: int = 0,
        path: Path | None = None,
        check: Callable[[], None] = _never_changes,
    ) -> None:
        self.name = name
        self.shape = sci.shape
        self.metadata = metadata
        self.same_as = id(self) if same_as is None else same_as
        self.missing = [key for key, array in (("ERR", err), ("DQ", dq)) if array is None]
        self.held_bytes = held_bytes
        self.path = path
        self.check_unchanged = check
        self._sci = as_samples(sci)
        self._err = None if err is None else as_samples(err)
        self._dq = None if dq is None else as_flags(dq)
        self._variances = {key: as_samples(array) for key, array in (variances or {}).items()}

    @property
    def has_variances(self) -> bool:
        """Whether it has VAR_POISSON and VAR_RNOISE."""
        return {"VAR_POISSON", "VAR_RNOISE"} <= self._variances.keys()

    def row_bytes(self, wanted: Wanted) -> int:
        """Return 0: rows are views."""
        return 0

    def read_rows(self, first: int, last: int, scratch: Scratch, wanted: Wanted) -> Rows:
        """Return views of rows [first, last)."""
        return self._rows(slice(first, last), wanted)

    def pick_rows(self, rows: Sequence[int], scratch: Scratch, wanted: Wanted) -> Rows:
        """Return copies of some rows."""
        return self._rows(list(rows), wanted)

    def _rows(self, rows: slice | list[int], wanted: Wanted) -> Rows:
        variances = self._variances if wanted.variances and self.has_variances else {}

        def part(array: Array | None) -> Array | None:
            return None if array is None else array[..., rows, :]

        return Rows(
            self._sci[..., rows, :],
            part(self._err) if wanted.err else None,
            part(self._dq),
            0,
            part(variances.get("VAR_POISSON")),
            part(variances.get("VAR_RNOISE")),
        )

    def images(self, *, with_errors: bool) -> dict[str, Array]:
        """Return what a subtraction changes, by the extensions' names.

        Parameters
        ----------
        with_errors : bool
            ERR and VAR_* too, those that there are.
        """
        found = {"SCI": self._sci, "DQ": self._dq}
        if with_errors:
            found |= {"ERR": self._err, **self._variances}
        return {name: array for name, array in found.items() if array is not None}

    def in_memory(self, path: Path, same_as: object, check: Callable[[], None]) -> "ArrayExposure":
        """Return the same exposure with arrays of its own, none of them on disk."""
        sci = np.array(self._sci)
        err = None if self._err is None else np.array(self._err)
        dq = None if self._dq is None else np.array(self._dq)
        variances = {key: np.array(array) for key, array in self._variances.items()}
        held = [sci, *variances.values(), *(each for each in (err, dq) if each is not None)]
        return ArrayExposure(
            self.name,
            sci,
            err,
            dq,
            self.metadata,
            same_as,
            variances,
            held_bytes=sum(each.nbytes for each in held),
            path=path,
            check=check,
        )

    def close(self) -> None:
        """Do nothing: the arrays are their owner's."""
