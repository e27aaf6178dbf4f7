"""Write a subtracted target: its file's own bytes, but for what the step owns.

The step owns the pixels of SCI and DQ and a few keywords of the primary header; those of
ERR and VAR_* too, where errors are propagated or uncovered pixels set to NaN. Everything
else (other extensions, tables, the ASDF extension with its WCS, unknown keywords) is
copied byte for byte, so that it arrives unchanged whatever it is.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock, local

import numpy as np

from offsky.arrays import Array
from offsky.io.fits import FitsExposure
from offsky.io.fits_arrays import RawArray
from offsky.io.fits_header import BLOCK
from offsky.io.fits_verbatim import CHECKSUMS, NewHeader
from offsky.io.source import write_exactly
from offsky.subtraction import PLAIN, Subtracted, Subtraction, TargetRows, subtract_rows
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows, Scratch


class _Own(local):
    """What each thread has for itself, however many files it writes to."""

    def __init__(self) -> None:
        self.scratch = Scratch()


_own = _Own()

# A smaller file is flushed once, at the end: to begin a thread would take longer.
_LEAST_FLUSH = 2**22


class FitsCopy:
    """A new file that is the target's but for what is subtracted and the primary header.

    Parameters
    ----------
    target : FitsExposure
        The target, what changes stored as plain arrays (`can_copy`).
    path : Path
        An existing file to fill.
    header : NewHeader
        The new primary header. Values may still change until `finish`, the number
        of cards may not.
    how : Subtraction or None
        How the average will be subtracted; None to copy all pixels unchanged.
    """

    def __init__(
        self, target: FitsExposure, path: Path, header: NewHeader, how: Subtraction | None
    ) -> None:
        self._target = target
        self._how = how or PLAIN
        self._owned = {} if how is None else _owned_by(target, how)
        self._header = header
        self._header_bytes = len(header.tobytes())
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
            owned = self._owned.get(extent.name)
            if i == 0:
                position += self._header_bytes
            elif owned is not None and any(key in extent.cards for key in CHECKSUMS):
                header = NewHeader(self._target.raw_header(i))
                header.remove(*CHECKSUMS)
                cards = header.tobytes()
                self._headers.append((position, cards))
                position += len(cards)
            else:
                position = self._copy(extent.header_start, extent.data_start, position)
            if owned is None:
                position = self._copy(extent.data_start, extent.end, position)
            else:
                self._arrays[extent.name] = RawArray(
                    None, position, owned.shape, owned.dtype.str, owned.flip
                )
                position = self._copy(
                    extent.data_start + owned.n_bytes, extent.end, position + owned.n_bytes
                )
        if position % BLOCK:
            # The target's last block is not filled; the product's is.
            self._headers.append((position, bytes(-position % BLOCK)))

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
            write_exactly(self._file.fileno(), cards, position)
        for start, destination, length in self._spans:
            self._target.source.copy(start, length, self._file.fileno(), destination)
        self._begin_flush()

    def subtract(
        self, first: int, last: int, average: ClippedMean, rows: Rows | None = None
    ) -> Subtracted:
        """Write rows [first, last) of the target minus the average.

        Parameters
        ----------
        first, last : int
            The rows.
        average : ClippedMean
            These rows of the average.
        rows : Rows or None
            These rows of the target, where they have been read; not modified.

        Returns
        -------
        Subtracted
            Valid until this thread subtracts again.
        """
        scratch = _own.scratch
        scratch.clear()
        before: dict[str, Array] = {}
        after: dict[str, Array] = {}
        for name, array in self._owned.items():
            given = None if rows is None else getattr(rows, name.lower(), None)
            if given is not None:
                before[name] = given
                after[name] = scratch.array(given.shape, array.dtype)
        rest = {name: array for name, array in self._owned.items() if name not in before}
        # Ours alone: they become the result.
        own = self._target.read_arrays(rest, first, last, scratch)
        flip = self._owned["DQ"].flip
        subtracted = subtract_rows(
            TargetRows.of({**before, **own}, flip),
            average,
            self._how,
            out=TargetRows.of({**after, **own}, flip),
        )
        for name in self._owned:
            self._write_rows(name, first, subtracted.rows.image(name))
        with self._lock:
            self._rows_missing -= last - first
            is_last = self._rows_missing == 0
        if is_last:
            self._begin_flush()
        return subtracted

    def _begin_flush(self) -> None:
        """Let the disk go ahead while there is other work: the flush at the end is short then."""
        if self._target.source.size >= _LEAST_FLUSH:
            self._flushes.append(self._flusher.submit(os.fsync, self._file.fileno()))

    def _write_rows(self, name: str, first: int, rows: Array) -> None:
        array = self._arrays[name]
        planes = rows if rows.ndim == 3 else rows[np.newaxis]
        for plane, image in enumerate(planes):
            memory = image.reshape(-1).view(np.uint8).data
            write_exactly(self._file.fileno(), memory, array.offset_of(plane, first))

    def finish(self) -> None:
        """Write the primary header and close the file."""
        cards = self._header.tobytes()
        if len(cards) != self._header_bytes:
            raise AssertionError("the primary header changed its length after it was laid out")
        write_exactly(self._file.fileno(), cards, 0)
        for flush in self._flushes:
            # An error of the disk is told once, to whoever asks first.
            flush.result()
        self.close()

    def close(self) -> None:
        """Close the file as it is."""
        self._flusher.shutdown(cancel_futures=True)
        self._file.close()


def can_copy(target: FitsExposure, how: Subtraction = PLAIN) -> bool:
    """Tell whether what is subtracted from are plain arrays, so that `FitsCopy` can be used."""
    images = target.images(with_errors=how.changes_errors)
    return "DQ" in images and all(isinstance(each, RawArray) for each in images.values())


def _owned_by(target: FitsExposure, how: Subtraction) -> dict[str, RawArray]:
    """Return the arrays that a subtraction changes, by the extensions' names."""
    images = target.images(with_errors=how.changes_errors)
    return {name: each for name, each in images.items() if isinstance(each, RawArray)}
