"""What a run has done so far, kept beside its products so that the next one goes on.

In the output folder, ``.offsky/`` holds a lock and one small JSON file for each product:
what it was made from, and the file that came of it. See `Journal`.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import socket
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from offsky.errors import ExposureError, MissingFileError, OutputError, reason_of
from offsky.io.json_text import parse_json
from offsky.io.output import write_text
from offsky.io.parts import sweep
from offsky.io.regular import irregular, open_regular, read_text
from offsky.product_outcome import is_told

_FOLDER, _LOCK = ".offsky", "lock"
# Bytes of a record's name, and characters of a lock that are looked at.
_MOST_NAME, _MOST_HOLDER = 230, 200


def fingerprint(options: object, inputs: Sequence[Path], *, checksum: bool) -> str:
    """Return what changes when the inputs or options of a product change.

    Parameters
    ----------
    options : object
        Anything that JSON can write.
    inputs : sequence of Path
        The target and its backgrounds, in order.
    checksum : bool
        Go by the files' content instead of their size and time.

    Raises
    ------
    ExposureError
        If a file is not there, or cannot be read.
    """
    return _digest([options, [[str(path), *_mark(path, checksum)] for path in inputs]])


def _mark(path: Path, checksum: bool) -> list[int | str]:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file; check the name") from error
    except (OSError, ValueError) as error:
        raise ExposureError(f"{path}: cannot be read ({reason_of(error)})") from error
    if not checksum:
        return [status.st_size, status.st_mtime_ns]
    try:
        return [_sha256(path, status.st_size, status.st_mtime_ns)]
    except OSError as error:
        raise ExposureError(f"{path}: cannot be read ({reason_of(error)})") from error


def sha256(path: Path) -> str:
    """Return a file's checksum; once for all products of a process that use it."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, n_bytes: int, modified_ns: int) -> str:
    """Return a file's checksum; once for all products of a process that use it."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """The record of a folder's products.

    Parameters
    ----------
    folder : Path
        The output folder.
    """

    def __init__(self, folder: Path) -> None:
        self._outputs = folder
        self._folder = folder / _FOLDER

    def make_folders(self) -> None:
        """Make the folders."""
        try:
            if self._folder.is_symlink():
                raise OSError(errno.ELOOP, f"{_FOLDER} in it is a link; remove it")
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self._outputs}: cannot be made or written to ({reason_of(error)}); choose "
                "another folder"
            ) from error

    def finished(self, output: str, mark: str, *, checksum: bool) -> dict[str, Any] | None:
        """Return what was recorded of a product, if it is there as it should be.

        Parameters
        ----------
        output : str
            Name of its file.
        mark : str
            Its `fingerprint` now.
        checksum : bool
            How that was made.
        """
        record = self._read(output)
        if record is None or record.get("checksum" if checksum else "inputs") != mark:
            return None
        if record.get("file") is None or not self._untouched(record, output):
            return None
        outcome = record.get("outcome")
        return outcome if is_told(outcome) else None

    def may_replace(self, output: str) -> bool:
        """Tell whether a file that is there is ours, as we left it."""
        return self._may_replace(self._read(output), output)

    def _may_replace(self, record: dict[str, Any] | None, output: str) -> bool:
        if record is None:
            return False
        if record.get("state") == "begun" and not self._untouched(record, output):
            # It appeared, or was replaced, since: by us, who were killed then.
            return True
        return bool(record.get("ours")) and self._untouched(record, output)

    def appeared(self, output: str) -> bool:
        """Tell whether a product was made whose record its run had no time to complete."""
        record = self._read(output)
        if record is None or record.get("state") != "begun":
            return False
        return self._stamp(output) is not None and not self._untouched(record, output)

    def may_replace_average(self, output: str, average: str) -> bool:
        """Tell whether the average of a product, if it is there, was written by a run."""
        record = self._read(output)
        return record is not None and record.get("average") == average

    def begin(self, output: str, *, average: str | None = None) -> None:
        """Note that a product, and its average, are being made: if they appear, they are ours."""
        record = self._read(output)
        self._write(
            output,
            {
                "state": "begun",
                "file": self._stamp(output),
                "ours": self._may_replace(record, output),
                "average": average or (record or {}).get("average"),
            },
        )

    def finish(
        self, output: str, outcome: dict[str, Any], *, inputs: str, checksum: str | None
    ) -> None:
        """Note that a product was made, and from what."""
        begun = self._read(output) or {}
        self._write(
            output,
            {
                "state": "finished",
                "ours": True,
                "average": begun.get("average"),
                "inputs": inputs,
                "checksum": checksum,
                "file": self._stamp(output),
                "outcome": outcome,
            },
        )

    def _path(self, output: str) -> Path:
        name = f"{output}.json"
        raw = os.fsencode(name)
        if len(raw) > _MOST_NAME:
            short = raw[: _MOST_NAME // 2].decode(errors="ignore")
            name = f"{short}.{hashlib.sha256(raw).hexdigest()[:32]}.json"
        return self._folder / name

    def _stamp(self, output: str) -> list[int] | None:
        try:
            status = (self._outputs / output).stat()
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]

    def _untouched(self, record: dict[str, Any], output: str) -> bool:
        return bool(record.get("file") == self._stamp(output))

    def _read(self, output: str) -> dict[str, Any] | None:
        try:
            record = parse_json(read_text(self._path(output), follow=False))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def _write(self, output: str, record: dict[str, Any]) -> None:
        if not self._folder.is_dir() and self._outputs.is_dir():
            # Somebody removed the records; the products are still wanted.
            self.make_folders()
        write_text(self._path(output), json.dumps(record))

    def sweep(self, outputs: Iterable[str]) -> None:
        """Remove what a killed run left half-written of these products, and of records.

        What another run is writing just now is locked, and stays.
        """
        sweep(self._folder)
        sweep(self._outputs, outputs)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder for the time of a block.

        The system gives the lock back when the process ends, however it ends.

        Raises
        ------
        OutputError
            If another run is at work there.
        """
        self.make_folders()
        path = self._folder / _LOCK
        try:
            file = _open_lock(path)
        except OSError as error:
            raise OutputError(
                f"{self._outputs}: its {_FOLDER}/{_LOCK} cannot be used ({reason_of(error)}); "
                "remove it, or choose another folder"
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = "".join(filter(str.isprintable, file.read(_MOST_HOLDER))).strip()
                holder = text or "another process"
                raise OutputError(
                    f"{self._outputs}: {holder} is at work in this folder; wait for it, or choose "
                    "another folder"
                ) from None
            except OSError as error:
                raise OutputError(
                    f"{self._outputs}: cannot be locked ({reason_of(error)}); choose a folder on "
                    "another file system"
                ) from error
            # Only for whoever finds it locked: a full disk is no reason to stop.
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), 0)
                holder = f"offsky, process {os.getpid()} on {socket.gethostname()}"
                os.pwrite(file.fileno(), holder.encode(), 0)
            yield


def _open_lock(path: Path) -> TextIO:
    """Open the file that is locked; never another one through a link, nor a device."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        _check_lock(path.lstat())
    file = open(  # noqa: SIM115 (returned open)
        path, "r+", encoding="utf-8", errors="replace",
        opener=lambda name, _: os.open(name, flags, 0o666),
    )  # fmt: skip
    try:
        _check_lock(os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def _check_lock(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode) or status.st_nlink > 1:
        raise OSError(errno.ELOOP, "it is a link to another file")
    kind = irregular(status.st_mode)
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file")
