"""Write a file whole or not at all."""

import contextlib
import errno
import gzip
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from offsky.errors import OffskyError, OutputError, OutputExistsError, reason_of
from offsky.io.parts import create_locked, lock, sweep_once
from offsky.io.regular import irregular
from offsky.io.source import write_exactly

_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


def check_output(path: Path, *, inputs: Sequence[Path], overwrite: bool) -> None:
    """Raise unless `path` may be written, before any work is done.

    Parameters
    ----------
    path : Path
        The output.
    inputs : sequence of Path
        Files that must never be written to.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    OutputError
        If the output is an input or no regular file, or its directory is missing or
        read-only.
    OutputExistsError
        If it exists and may not be replaced.
    """
    try:
        _check_output(path, inputs, overwrite)
    except OffskyError:
        raise
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path}: cannot be written ({reason_of(error)}); choose another name or directory"
        ) from error


def _check_output(path: Path, inputs: Sequence[Path], overwrite: bool) -> None:
    if b"\0" in os.fsencode(path):
        raise ValueError("a null byte, which no name can hold")
    folder = path.parent
    if not path.name:
        raise OutputError(f"{path}: is a directory; name a file in it")
    if path.name == "-":
        raise OutputError("-: standard output is no place for a product; name a file")
    if not folder.is_dir():
        raise OutputError(f"{path}: there is no directory {folder}; make it first")
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; name a file in it")
    if path.exists():
        check_replaceable(path)
        for source in inputs:
            if source.exists() and path.samefile(source):
                raise OutputError(
                    f"{path}: the output is also an input; inputs are never changed, "
                    "choose another name"
                )
        if not overwrite:
            raise OutputExistsError(
                f"{path}: exists already; choose another name or allow it with overwrite "
                "(--overwrite)"
            )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the directory {folder} cannot be written to; choose another")


def check_replaceable(path: Path) -> int | None:
    """Raise OutputError where something else than a file is there; return a file's mode."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    kind = irregular(mode)
    if kind is not None:
        raise OutputError(f"{path}: is {kind}, which is never replaced; choose another name")
    return stat.S_IMODE(mode)


class Part:
    """A file that is written under another name beside its own; it appears whole or not at all.

    It is locked as long as it is written: what a killed run leaves is told by that, and
    removed by the next run to its folder.

    Parameters
    ----------
    path : Path
        Where the finished file is to appear.
    overwrite : bool
        Whether it may replace one that is there by then.

    Attributes
    ----------
    file : Path
        An empty file, to be filled unzipped: where `path` ends in ``.gz`` it is zipped
        when it is published.

    Raises
    ------
    OutputError
        If it cannot be made.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path
        self._overwrite = overwrite
        self._sealed: Path | None = None
        self._lock: FileIO | None = None
        with writing_told(path):
            sweep_once(path.parent)
            self.file, self._lock = create_locked(path.parent, path.name)
        self._zipped = self.file.with_name(f"{self.file.name}.gz")

    @property
    def folder(self) -> Path:
        """A folder that may be made for what becomes the file by `adopt`."""
        return self.file.with_name(f"{self.file.name}.d")

    def adopt(self, other: Path) -> None:
        """Take another file of this file system as what was written."""
        with writing_told(self.path):
            locked = FileIO(other)
            try:
                lock(locked.fileno())
                other.replace(self.file)
            except BaseException:
                locked.close()
                raise
            self._close()
            self._lock = locked

    def seal(self) -> Path:
        """Zip the file where its name says so, and flush it to disk: a name is all it lacks.

        Raises
        ------
        OutputError
            If writing fails: a full disk, say.
        """
        with writing_told(self.path):
            finished = self.file
            if self.path.suffix == ".gz":
                finished = self._zipped
                with self.file.open("rb") as plain, gzip.open(finished, "xb") as zipped:
                    shutil.copyfileobj(plain, zipped, 2**20)
            with finished.open("rb") as written:
                os.fsync(written.fileno())
        self._sealed = finished
        return finished

    def publish(self) -> Path:
        """Give the file its name; flush it to disk before, where that is not done.

        A file that is replaced leaves its mode to the new one.

        Raises
        ------
        OutputError
            If writing fails: a full disk, say.
        OutputExistsError
            If a file appeared in its place meanwhile and may not be replaced.
        """
        try:
            finished = self.seal() if self._sealed is None else self._sealed
            with writing_told(self.path):
                if self._overwrite:
                    mode = check_replaceable(self.path)
                    if mode is not None:
                        with contextlib.suppress(OSError):
                            finished.chmod(mode & 0o777)
                    finished.replace(self.path)
                else:
                    _rename_to_new(finished, self.path)
        finally:
            self.abandon()
        return self.path

    def abandon(self) -> None:
        """Remove what was written; what is at `path` stays."""
        for path in (self.file, self._zipped):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        locked, self._lock = self._lock, None
        if locked is not None:
            locked.close()


@contextmanager
def writing_told(path: Path) -> Iterator[None]:
    """Turn an error of the system while `path` is written into one line."""
    try:
        yield
    except OffskyError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: writing failed ({reason_of(error)}); nothing was left behind"
        ) from error


@contextmanager
def atomic_output(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a file to write beside `path`; it takes its place if all goes well.

    Parameters
    ----------
    path, overwrite
        As for `Part`.

    Yields
    ------
    Path
        An empty file, to be filled.

    Raises
    ------
    OutputError
        If writing fails: a full disk, say.
    """
    part = Part(path, overwrite=overwrite)
    try:
        with writing_told(path):
            yield part.file
        part.publish()
    finally:
        part.abandon()


def write_text(path: Path, text: str) -> None:
    """Write a small text whole or not at all; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all, without a flush to disk.

    A file that is replaced leaves its mode to the new one.

    Raises
    ------
    OutputError
        If it cannot be written, or something else than a file is there.
    """
    try:
        mode = check_replaceable(path)
        part, file = create_locked(path.parent, path.name)
        try:
            with file:
                write_exactly(file.fileno(), content, 0)
                if mode is not None:
                    os.fchmod(file.fileno(), mode & 0o777)
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OutputError:
        raise
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: writing failed ({reason_of(error)})") from error


def _rename_to_new(part: Path, path: Path) -> None:
    """Rename, but never over a file that appeared in the meantime."""
    try:
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:
            # No hard links on this file system.
            if not _rename_exclusively(part, path):
                _rename_over_placeholder(part, path)
    except FileExistsError:
        raise OutputExistsError(
            f"{path}: appeared while offsky was working; it was left alone"
        ) from None


def _rename_exclusively(part: Path, path: Path) -> bool:
    """Rename by Linux's renameat2; return False where there is no such thing.

    Raises
    ------
    FileExistsError
        If there is a file by now.
    """
    import ctypes  # a millisecond, where hard links are not to be had

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    old, new = os.fsencode(part), os.fsencode(path)
    if rename(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number))


def _rename_over_placeholder(part: Path, path: Path) -> None:
    """Rename over an empty file that was made for that, as long as it is empty and ours.

    Raises
    ------
    FileExistsError
        If there is a file by now, or somebody has written to the empty one.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        made = os.fstat(fd)
        now = path.lstat()
        if (now.st_dev, now.st_ino) != (made.st_dev, made.st_ino) or now.st_size:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            part.replace(path)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    finally:
        os.close(fd)
