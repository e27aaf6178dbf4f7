"""Write a file whole or not at all."""

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


@contextmanager
def atomic_output(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a file to write beside `path`; it takes its place if all goes well.

    The file is flushed to disk and renamed at the end of the block. On any error it
    is removed, and what was at `path` stays.

    Parameters
    ----------
    path : Path
        Where the finished file is to appear.
    overwrite : bool
        Whether it may replace one that is there by then.

    Yields
    ------
    Path
        An empty file under another name, to be filled unzipped: where `path` ends in
        ``.gz`` it is zipped afterwards.

    Raises
    ------
    OutputError
        If writing fails: a full disk, say.
    """
    stem = f".{path.name.removesuffix('.gz')}.{secrets.token_hex(4)}"
    plain = part = path.with_name(f"{stem}.part")
    try:
        try:
            plain.touch(exist_ok=False)
            yield plain
            if path.suffix == ".gz":
                part = path.with_name(f"{stem}.part.gz")
                with plain.open("rb") as unzipped, gzip.open(part, "xb") as zipped:
                    shutil.copyfileobj(unzipped, zipped, 2**20)
            with part.open("rb") as written:
                os.fsync(written.fileno())
            if overwrite:
                part.replace(path)
            else:
                _rename_to_new(part, path)
        except OSError as error:
            if isinstance(error, OffskyError):
                raise
            raise OutputError(
                f"{path}: writing failed ({error.strerror or error}); nothing was left behind"
            ) from error
    finally:
        plain.unlink(missing_ok=True)
        part.unlink(missing_ok=True)


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
