"""Rows of one array of a FITS file: as they are on disk, or through astropy."""

from collections.abc import Sequence
from math import prod
from threading import Lock
from typing import Any, Protocol

import numpy as np

from offsky.arrays import Array, as_flags, as_samples
from offsky.errors import ExposureError, first_line
from offsky.io.source import Source, Span
from offsky.values.exposure import Scratch


class ArrayReader(Protocol):
    """Reads rows of one array."""

    shape: tuple[int, ...]
    row_bytes: int
    flip: int

    @property
    def n_bytes(self) -> int:
        """Bytes of all pixels."""

    def read_rows(self, first: int, last: int, scratch: Scratch) -> Array:
        """Return rows [first, last) of every plane."""


class RawArray:
    """Pixels that can be read as they are on disk: big-endian, unscaled.

    Parameters
    ----------
    source : Source or None
        The file; None for one that is only written to.
    offset : int
        First byte in the file.
    shape : tuple of int
        (ny, nx) or (nints, ny, nx).
    dtype : str
        Big-endian float32, float64 or uint32.
    flip : int
        What the stored values are to be XORed with.

    Attributes
    ----------
    offset, shape, flip
        As given.
    dtype : numpy.dtype
        As given.
    row_bytes : int
        Bytes of one row of every plane.
    """

    def __init__(
        self,
        source: Source | None,
        offset: int,
        shape: tuple[int, ...],
        dtype: str,
        flip: int,
    ) -> None:
        self.offset = offset
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.flip = flip
        self.row_bytes = self.dtype.itemsize * prod(shape[:-2] + shape[-1:])
        self._source = source

    def offset_of(self, plane: int, row: int) -> int:
        """Return the byte at which a row of a plane begins."""
        n_rows, n_columns = self.shape[-2:]
        return self.offset + (plane * n_rows + row) * n_columns * self.dtype.itemsize

    @property
    def n_planes(self) -> int:
        """Integrations, 1 for an image."""
        return self.shape[0] if len(self.shape) == 3 else 1

    @property
    def n_bytes(self) -> int:
        """Bytes of all pixels."""
        return self.row_bytes * self.shape[-2]

    def spans(self, first: int, last: int, scratch: Scratch) -> tuple[list[Span], Array]:
        """Return the bytes of rows [first, last) of every plane, and the array that they fill."""
        n_columns = self.shape[-1]
        plane_bytes = (last - first) * n_columns * self.dtype.itemsize
        memory = scratch.take(plane_bytes * self.n_planes)
        spans = [
            (
                self.offset_of(plane, first),
                memory[plane * plane_bytes : (plane + 1) * plane_bytes],
            )
            for plane in range(self.n_planes)
        ]
        rows = np.frombuffer(memory, dtype=self.dtype)
        return spans, rows.reshape(*self.shape[:-2], last - first, n_columns)

    def spans_of_rows(self, rows: Sequence[int], scratch: Scratch) -> tuple[list[Span], Array]:
        """Return the bytes of some rows of every plane, and the array that they fill."""
        n_columns = self.shape[-1]
        n_bytes = n_columns * self.dtype.itemsize
        memory = scratch.take(n_bytes * len(rows) * self.n_planes)
        places = [(plane, row) for plane in range(self.n_planes) for row in rows]
        spans = [
            (self.offset_of(plane, row), memory[i * n_bytes : (i + 1) * n_bytes])
            for i, (plane, row) in enumerate(places)
        ]
        picked = np.frombuffer(memory, dtype=self.dtype)
        return spans, picked.reshape(*self.shape[:-2], len(rows), n_columns)

    def read_rows(self, first: int, last: int, scratch: Scratch) -> Array:
        """Read rows [first, last) of every plane into `scratch`."""
        spans, rows = self.spans(first, last, scratch)
        if self._source is None:
            raise RuntimeError("an array that is only written to")
        self._source.read(spans)
        return rows


class SectionArray:
    """An array that astropy has to decompress, scale or convert."""

    flip = 0

    def __init__(self, hdu: Any, name: str, lock: Lock, dq: bool) -> None:
        self.shape = tuple(hdu.shape)
        self.row_bytes = 8 * prod(self.shape[:-2] + self.shape[-1:])
        self.n_bytes = self.row_bytes * self.shape[-2]
        self._hdu = hdu
        self._name = name
        self._lock = lock
        self._dq = dq

    def read_rows(self, first: int, last: int, scratch: Scratch) -> Array:
        """Return rows [first, last) of every plane."""
        lead = (slice(None),) * (len(self.shape) - 2)
        with self._lock:  # astropy's file objects know one position
            try:
                rows = np.asarray(self._hdu.section[(*lead, slice(first, last), slice(None))])
            except Exception as error:
                # Each compression has errors of its own.
                raise ExposureError(
                    f"{self._name}: rows {first} to {last} cannot be read ({first_line(error)}); "
                    "fetch the file again"
                ) from error
        return as_flags(rows) if self._dq else as_samples(rows)
