"""Inputs as bytes at given places: `Source`, and the files of this machine that are sources.

Several threads read from a source at a time.
"""

import errno
import gzip
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from offsky.errors import ExposureError, MissingFileError, first_line, reason_of
from offsky.io.open_files import OpenFiles
from offsky.io.regular import open_regular

# Buffers that one system call fills at most (IOV_MAX of Linux and macOS).
_MOST_BUFFERS = 1024
_COPY_BYTES = 2**20
_GZIP_MAGIC = b"\x1f\x8b"

Span = tuple[int, memoryview]
"""An offset in bytes, and the memory that is filled from there."""

Stamp = tuple[int, int, int, int]


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what tells that a file is still the same: device, number, size, time."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_stamp(path: Path, stamp: Stamp, subject: str) -> None:
    """Raise ExposureError if a file is no longer what it was when it had a stamp.

    The message begins with `subject`.
    """
    try:
        now = stamp_of(path.stat())
    except OSError:
        # It was removed or renamed.
        now = None
    if now != stamp:
        raise ExposureError(f"{subject} changed while it was read; run again when it is finished")


class Source(Protocol):
    """Bytes of one input, read at given places by several threads at a time."""

    @property
    def name(self) -> str:
        """What messages call it: the input as it was named."""

    @property
    def size(self) -> int:
        """Bytes that can be read: of a gzipped file, unzipped."""

    @property
    def stamp(self) -> Stamp:
        """Device, number, size and time of the named input when it was opened."""

    def read(self, spans: Sequence[Span]) -> None:
        """Fill the memory of all spans.

        Parameters
        ----------
        spans : sequence of (int, memoryview)
            Offsets and memory of bytes; in the order of offsets they cost least.

        Raises
        ------
        ExposureError
            If reading fails, or the file ends before.
        """

    def peek(self, start: int, n_bytes: int) -> bytes:
        """Return bytes from an offset on, fewer where the file ends before; for headers."""

    def copy(self, start: int, n_bytes: int, destination: int, position: int) -> None:
        """Copy bytes to a position of another file.

        Parameters
        ----------
        start, n_bytes : int
            The span.
        destination : int
            Descriptor of a file open for writing.
        position : int
            Where the span goes there.

        Raises
        ------
        ExposureError
            If reading fails, or the file ends before.
        OSError
            If writing fails.
        """

    def view(self) -> io.RawIOBase:
        """Return a file object to read from, with a position of its own."""

    def check_unchanged(self) -> None:
        """Raise ExposureError if the named input is no longer what was opened."""

    def close(self) -> None:
        """Close it, as soon as nobody reads from it."""


def open_source(path: Path) -> "LocalFile | TemporaryCopy":
    """Open a file of this machine; a gzipped one as an unzipped temporary copy.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ExposureError
        If it cannot be read or unzipped.
    """
    try:
        file = open_regular(path)
        try:
            stamp = stamp_of(os.fstat(file.fileno()))
            zipped = os.pread(file.fileno(), 2, 0) == _GZIP_MAGIC
        except BaseException:
            file.close()
            raise
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file; check the name") from error
    except (OSError, ValueError) as error:
        raise ExposureError(
            f"{path}: cannot be read ({reason_of(error)}); expected a FITS file"
        ) from error
    if not zipped:
        return LocalFile(file, path, stamp)
    with file:
        return TemporaryCopy(_unzipped(file, path), path, stamp)


def _unzipped(file: io.FileIO, path: Path) -> Any:
    """Return a gzipped file's content as a temporary file."""
    plain = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (returned open)
    try:
        with gzip.open(file) as unzipped:
            shutil.copyfileobj(unzipped, plain, _COPY_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        plain.close()
        remedy = "fetch it again"
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            remedy = f"make room in {tempfile.gettempdir()}, or set TMPDIR to another folder"
        raise ExposureError(
            f"{path}: cannot be unzipped ({first_line(error)}); {remedy}"
        ) from error
    except BaseException:
        plain.close()
        raise
    return plain


class _DiskFile:
    """What all sources have in common that read from a descriptor.

    Parameters
    ----------
    file : io.FileIO
        Open for reading, unbuffered; taken over.
    path : Path
        The input as it was named.
    stamp : Stamp
        The named input when it was opened.
    """

    def __init__(self, file: io.FileIO, path: Path, stamp: Stamp) -> None:
        self.name = str(path)
        self.stamp = stamp
        self.size = os.fstat(file.fileno()).st_size
        self._path = path
        self._file: io.FileIO | None = file
        self._n_users = 0
        self._closed = False

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
            self._make_open()
            if self._file is None:
                raise RuntimeError(f"{self.name}: read after it was closed")
            yield self._file.fileno()
        finally:
            with _pool.lock:
                self._n_users -= 1
                if self._closed and self._n_users == 0:
                    self._shut()

    def _make_open(self) -> None:
        """Open the file, if it is not open."""

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, spans: Sequence[Span]) -> None:
        """Fill the memory of all spans; neighbours are filled by one system call."""
        with self.lease() as fd:
            for start, buffers in _joined(spans):
                self._read_run(fd, start, buffers)

    def _read_run(self, fd: int, start: int, buffers: list[memoryview]) -> None:
        """Fill several buffers with bytes that follow each other in the file."""
        while buffers:
            try:
                n_read = os.preadv(fd, buffers, start)
            except OSError as error:
                raise ExposureError(f"{self.name}: reading failed ({reason_of(error)})") from error
            if n_read == 0:
                raise self._ended(f"at byte {start} while it was read; was it being written?")
            start += n_read
            while buffers and n_read >= buffers[0].nbytes:
                n_read -= buffers.pop(0).nbytes
            if n_read:
                buffers[0] = buffers[0][n_read:]

    def peek(self, start: int, n_bytes: int) -> bytes:
        """Return bytes from an offset on, fewer where the file ends before."""
        with self.lease() as fd:
            found = os.pread(fd, n_bytes, start)
            while 0 < len(found) < n_bytes:
                more = os.pread(fd, n_bytes - len(found), start + len(found))
                if not more:
                    break
                found += more
        return found

    def copy(self, start: int, n_bytes: int, destination: int, position: int) -> None:
        """Copy bytes to another file, inside the system where it can."""
        with self.lease() as fd:
            while n_bytes:
                try:
                    n_copied = os.copy_file_range(fd, destination, n_bytes, start, position)
                except (AttributeError, OSError):
                    # Not on this system, or not between these file systems.
                    break
                if n_copied == 0:
                    raise self._ended("while it was copied;")
                start, position, n_bytes = (
                    start + n_copied,
                    position + n_copied,
                    n_bytes - n_copied,
                )
            if n_bytes:
                self._copy_by_hand(fd, start, n_bytes, destination, position)

    def _copy_by_hand(
        self, fd: int, start: int, n_bytes: int, destination: int, position: int
    ) -> None:
        memory = memoryview(bytearray(min(n_bytes, _COPY_BYTES)))
        while n_bytes:
            piece = memory[: min(n_bytes, len(memory))]
            self._read_run(fd, start, [piece])
            write_exactly(destination, piece, position)
            start, position, n_bytes = (
                start + len(piece),
                position + len(piece),
                n_bytes - len(piece),
            )

    def _ended(self, when: str) -> ExposureError:
        fetch = "Fetch" if when.endswith("?") else "fetch"
        return ExposureError(f"{self.name}: the file ended {when} {fetch} it again")

    def view(self) -> io.RawIOBase:
        """Return a file object to read from, with a position of its own."""
        return _View(self)

    def check_unchanged(self) -> None:
        """Raise ExposureError if the named input is no longer what was opened."""
        check_stamp(self._path, self.stamp, f"{self.name}:")

    def close(self) -> None:
        """Close it for good, as soon as nobody reads from it."""
        with _pool.lock:
            self._closed = True
            if self._n_users == 0:
                self._shut()


class TemporaryCopy(_DiskFile):
    """A gzipped input, unzipped into a file without a name, which stays open.

    Its stamp is that of the gzipped file.
    """


class LocalFile(_DiskFile):
    """An open file, which may be closed and opened again while it is not in use."""

    def __init__(self, file: io.FileIO, path: Path, stamp: Stamp) -> None:
        super().__init__(file, path, stamp)
        _pool.admit(self)

    def _make_open(self) -> None:
        _pool.use(self)

    def close(self) -> None:
        """Close it for good, as soon as nobody reads from it."""
        super().close()
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

    def shelve(self) -> None:
        """Close it, to be opened again."""
        self._shut()

    def reopen(self) -> None:
        """Open it again, as the same file that it was."""
        try:
            file = open_regular(self._path)
        except OSError as error:
            raise ExposureError(
                f"{self.name}: cannot be opened again ({reason_of(error)}); was it moved?"
            ) from error
        if stamp_of(os.fstat(file.fileno())) != self.stamp:
            file.close()
            raise ExposureError(
                f"{self.name}: changed while it was in use; run again when it is finished"
            )
        self._file = file


class _View(io.RawIOBase):
    """A source as a file object, for libraries that read one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._source.size}
        position = base[whence] + offset
        if position < 0:
            raise OSError(errno.EINVAL, "negative position")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        memory = memoryview(buffer).cast("B")
        found = self._source.peek(self._position, len(memory))
        memory[: len(found)] = found
        self._position += len(found)
        return len(found)


def _joined(spans: Sequence[Span]) -> Iterator[tuple[int, list[memoryview]]]:
    """Yield spans that follow each other as one: its offset and its pieces of memory."""
    first, end, buffers = 0, 0, list[memoryview]()
    for start, memory in spans:
        if buffers and (start != end or len(buffers) == _MOST_BUFFERS):
            yield first, buffers
            buffers = []
        if not memory.nbytes:
            continue
        if not buffers:
            first = start
        buffers.append(memory)
        end = start + memory.nbytes
    if buffers:
        yield first, buffers


def write_exactly(fd: int, data: bytes | memoryview, position: int) -> None:
    """Write all bytes to a position of an open file."""
    rest = memoryview(data)
    while rest:
        n_written = os.pwrite(fd, rest, position)
        rest = rest[n_written:]
        position += n_written


_pool = OpenFiles()
