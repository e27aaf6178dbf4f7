"""Write a subtracted target: its file's own bytes, but for what the step owns.

The step owns the pixels of SCI and DQ and a few keywords of the primary header.
Everything else (other extensions, tables, the ASDF extension with its WCS, unknown
keywords) is copied byte for byte, so that it arrives unchanged whatever it is.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
from astropy.io import fits

from offsky.clip import Array, ClippedMean
from offsky.difference import subtract_rows
from offsky.errors import ExposureError
from offsky.exposure import Scratch
from offsky.io.fits import FitsExposure, RawArray, read_exactly

# A header that changes would make these wrong.
_CHECKSUMS = ("CHECKSUM", "DATASUM")


class FitsCopy:
    """A new file that is the target's but for SCI, DQ and the primary header.

    Parameters
    ----------
    target : FitsExposure
        The target, SCI and DQ stored as plain arrays (`can_copy`).
    path : Path
        An existing file to fill.
    header : astropy.io.fits.Header
        The new primary header. Values may still change until `finish`, the number
        of cards may not.
    unchanged : bool
        Copy the pixels of SCI and DQ too.
    """

    def __init__(
        self, target: FitsExposure, path: Path, header: fits.Header, *, unchanged: bool = False
    ) -> None:
        self._target = target
        self._unchanged = unchanged
        self._header = header
        self._header_bytes = len(_card_bytes(header))
        self._file = path.open("r+b", buffering=0)
        self._spans: list[tuple[int, int, int]] = []  # source, destination, length
        self._headers: list[tuple[int, bytes]] = []
        self._arrays: dict[str, RawArray] = {}
        self._flusher = ThreadPoolExecutor(1)
        self._flushes: list[Future[None]] = []
        self._rows_missing = target.shape[-2]
        self._lock = Lock()
        self._plan()

    def _plan(self) -> None:
        """Lay out the new file: what is copied, from where to where."""
        position = 0
        for i, extent in enumerate(self._target.extents):
            owned = self._owned(extent.name)
            if i == 0:
                position += self._header_bytes
            elif owned and any(key in extent.header for key in _CHECKSUMS):
                header = extent.header.copy()
                for key in _CHECKSUMS:
                    header.remove(key, ignore_missing=True)
                cards = _card_bytes(header)
                self._headers.append((position, cards))
                position += len(cards)
            else:
                position = self._copy(extent.header_start, extent.data_start, position)
            if owned is None:
                position = self._copy(extent.data_start, extent.end, position)
            else:
                self._arrays[extent.name] = RawArray(
                    None, owned.name, position, owned.shape, owned.dtype.str, owned.flip
                )
                position = self._copy(
                    extent.data_start + owned.n_bytes, extent.end, position + owned.n_bytes
                )

    def _owned(self, name: str) -> RawArray | None:
        if self._unchanged:
            return None
        array = {"SCI": self._target.sci, "DQ": self._target.dq}.get(name)
        assert array is None or isinstance(array, RawArray)
        return array

    def _copy(self, start: int, end: int, position: int) -> int:
        """Note a span to be copied to `position`; return the position after it."""
        if self._spans:
            source, destination, length = self._spans[-1]
            if source + length == start and destination + length == position:
                self._spans[-1] = (source, destination, length + end - start)
                return position + end - start
        self._spans.append((start, position, end - start))
        return position + end - start

    def copy_rest(self) -> None:
        """Copy everything that does not change."""
        for position, cards in self._headers:
            _write_exactly(self._file.fileno(), cards, position)
        name = str(self._target.path)
        with self._target.file.lease() as fd:
            for source, destination, length in self._spans:
                _copy_span(fd, self._file.fileno(), source, destination, length, name)
        self._begin_flush()

    def subtract(self, first: int, last: int, average: ClippedMean) -> None:
        """Write rows [first, last) of the target minus the average."""
        target_sci, target_dq = self._target.sci, self._target.dq
        assert isinstance(target_sci, RawArray)
        assert isinstance(target_dq, RawArray)
        scratch = Scratch()
        for plane in range(target_sci.n_planes):
            scratch.clear()
            rows = subtract_rows(
                target_sci.read_plane_rows(plane, first, last, scratch),
                target_dq.read_plane_rows(plane, first, last, scratch),
                target_dq.flip,
                average,
            )
            self._write_rows("SCI", plane, first, rows.sci)
            self._write_rows("DQ", plane, first, rows.dq)
        with self._lock:
            self._rows_missing -= last - first
            is_last = self._rows_missing == 0
        if is_last:
            self._begin_flush()

    def _begin_flush(self) -> None:
        """Let the disk go ahead while there is other work: the flush at the end is short then."""
        self._flushes.append(self._flusher.submit(os.fsync, self._file.fileno()))

    def _write_rows(self, name: str, plane: int, first: int, rows: Array) -> None:
        array = self._arrays[name]
        _write_exactly(
            self._file.fileno(),
            rows.reshape(-1).view(np.uint8).data,
            array.offset_of(plane, first),
        )

    def finish(self) -> None:
        """Write the primary header and close the file."""
        cards = _card_bytes(self._header)
        if len(cards) != self._header_bytes:
            raise AssertionError("the primary header changed its length after it was laid out")
        _write_exactly(self._file.fileno(), cards, 0)
        for flush in self._flushes:
            # An error of the disk is told once, to whoever asks first.
            flush.result()
        self.close()

    def close(self) -> None:
        """Close the file as it is."""
        self._flusher.shutdown(cancel_futures=True)
        self._file.close()


def can_copy(target: FitsExposure) -> bool:
    """Tell whether SCI and DQ are plain arrays, so that `FitsCopy` can be used."""
    return isinstance(target.sci, RawArray) and isinstance(target.dq, RawArray)


def _card_bytes(header: fits.Header) -> bytes:
    """Return a header as it stands in a file, padded to whole blocks."""
    return bytes(header.tostring().encode("ascii"))


def _copy_span(
    source: int, destination: int, start: int, position: int, length: int, name: str
) -> None:
    """Copy bytes between files, inside the system where it can."""
    while length:
        try:
            n_copied = os.copy_file_range(source, destination, length, start, position)
        except (AttributeError, OSError):
            # Not on this system, or not between these file systems.
            break
        if n_copied == 0:
            raise ExposureError(f"{name}: the file ended while it was copied; fetch it again")
        start, position, length = start + n_copied, position + n_copied, length - n_copied
    memory = memoryview(bytearray(min(length, 2**20)))
    while length:
        piece = memory[: min(length, len(memory))]
        read_exactly(source, piece, start, name)
        _write_exactly(destination, piece, position)
        start, position, length = start + len(piece), position + len(piece), length - len(piece)


def _write_exactly(fd: int, data: bytes | memoryview, position: int) -> None:
    rest = memoryview(data)
    while rest:
        n_written = os.pwrite(fd, rest, position)
        rest = rest[n_written:]
        position += n_written
