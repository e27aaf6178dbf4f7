"""Write a file whole or not at all."""

import contextlib
import gzip
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from offsky.errors import OffskyError, OutputError, OutputExistsError


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
        If the output is an input, or its directory is missing or read-only.
    OutputExistsError
        If it exists and may not be replaced.
    """
    try:
        _check_output(path, inputs, overwrite)
    except OffskyError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); choose another name or directory"
        ) from error


def _check_output(path: Path, inputs: Sequence[Path], overwrite: bool) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: there is no directory {folder}; make it first")
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; name a file in it")
    if path.exists():
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


class Part:
    """A file that is written under another name beside its own; it appears whole or not at all.

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
        stem = f".{path.name.removesuffix('.gz')}.{secrets.token_hex(4)}"
        self.file = path.with_name(f"{stem}.part")
        self._zipped = path.with_name(f"{stem}.part.gz")
        self._sealed: Path | None = None
        with writing_told(path):
            self.file.touch(exist_ok=False)

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
                    finished.replace(self.path)
                else:
                    _rename_to_new(finished, self.path)
        finally:
            self.abandon()
        return self.path

    def abandon(self) -> None:
        """Remove what was written; what is at `path` stays."""
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._zipped.unlink(missing_ok=True)


@contextmanager
def writing_told(path: Path) -> Iterator[None]:
    """Turn an error of the system while `path` is written into one line."""
    try:
        yield
    except OffskyError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: writing failed ({error.strerror or error}); nothing was left behind"
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


def _rename_to_new(part: Path, path: Path) -> None:
    """Rename, but never over a file that appeared in the meantime."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise OutputExistsError(
            f"{path}: appeared while offsky was working; it was left alone"
        ) from None
    except OSError:
        # No hard links on this file system: the check made at the start must do.
        part.replace(path)
