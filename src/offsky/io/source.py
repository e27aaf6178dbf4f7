"""Input files read at given places by several threads, with few of them open at a time.

A thousand backgrounds need not be a thousand open files: those not read from for the
longest are closed, and opened again when they are wanted.
"""

import os
import resource
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO

from offsky.errors import ExposureError

# Of the files that the system lets a process open; the rest is for outputs, libraries,
# and whatever else the process does.
_SHARE = 0.5
_MOST = 512

Stamp = tuple[int, int, int, int]


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what tells that a file is still the same: device, number, size, time."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class InputFile:
    """An open file, which may be closed and opened again while it is not in use.

    Parameters
    ----------
    file : binary file
        Open for reading, unbuffered; taken over.
    path : Path or None
        Where to open it again; None for one without a name, which stays open.
    """

    def __init__(self, file: IO[bytes], path: Path | None) -> None:
        self._file: IO[bytes] | None = file
        self._path = path
        self._stamp = stamp_of(os.fstat(file.fileno()))
        self._n_users = 0
        self._closed = False
        if path is not None:
            _pool.admit(self)

    @contextmanager
    def lease(self) -> Iterator[int]:
        """Give the file's descriptor for the time of a block; it stays open that long.

        Raises
        ------
        ExposureError
            If the file had to be opened again and is another one by now.
        """
        with _pool.lock:
            self._n_users += 1
        try:
            if self._path is not None:
                _pool.use(self)
            assert self._file is not None
            yield self._file.fileno()
        finally:
            with _pool.lock:
                self._n_users -= 1
                if self._closed and self._n_users == 0:
                    self._shut()

    def close(self) -> None:
        """Close it for good, as soon as nobody reads from it."""
        with _pool.lock:
            self._closed = True
            if self._n_users == 0:
                self._shut()
        _pool.forget(self)

    # The following are for the pool, which holds its lock.

    @property
    def is_open(self) -> bool:
        """Whether it has a descriptor."""
        return self._file is not None

    @property
    def is_idle(self) -> bool:
        """Whether nobody reads from it now."""
        return self._n_users == 0

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def shelve(self) -> None:
        """Close it, to be opened again."""
        self._shut()

    def reopen(self) -> None:
        """Open it again, as the same file that it was."""
        assert self._path is not None
        try:
            file = self._path.open("rb", buffering=0)
        except OSError as error:
            raise ExposureError(
                f"{self._path}: cannot be opened again ({error.strerror}); was it moved?"
            ) from error
        if stamp_of(os.fstat(file.fileno())) != self._stamp:
            file.close()
            raise ExposureError(
                f"{self._path}: changed while it was in use; run again when it is finished"
            )
        self._file = file


class _Pool:
    """Keeps count of the open input files of this process."""

    def __init__(self) -> None:
        self.lock = Lock()
        # The longest unused first.  An exposure that nobody closed is not kept alive.
        self._open: OrderedDict[int, weakref.ref[InputFile]] = OrderedDict()

    def admit(self, file: InputFile) -> None:
        """Count a file that was just opened."""
        with self.lock:
            self._open[id(file)] = weakref.ref(file)
            self._make_room()

    def use(self, file: InputFile) -> None:
        """Make sure that a file in use is open."""
        with self.lock:
            if not file.is_open:
                self._make_room(1)
                file.reopen()
                self._open[id(file)] = weakref.ref(file)
            else:
                self._open.move_to_end(id(file))

    def forget(self, file: InputFile) -> None:
        """Count a file no more."""
        with self.lock:
            self._open.pop(id(file), None)

    def _make_room(self, n_more: int = 0) -> None:
        excess = len(self._open) + n_more - most_open_files()
        if excess <= 0:
            return
        for key, reference in list(self._open.items()):
            file = reference()
            if file is None or file.is_idle:
                if file is not None:
                    file.shelve()
                del self._open[key]
                excess -= 1
                if excess <= 0:
                    return


def most_open_files() -> int:
    """Return how many input files are kept open, from what the system allows."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return _MOST
    return max(8, min(_MOST, int(allowed * _SHARE)))


_pool = _Pool()
