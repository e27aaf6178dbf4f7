"""What a run has done so far, kept beside its products so that the next one goes on.

In the output folder, ``.offsky/`` holds a lock and one small JSON file for each product:
what it was made from, and the file that came of it. See `Journal`.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from offsky.errors import MissingFileError, OutputError

_FOLDER, _LOCK = ".offsky", "lock"
_PART = re.compile(r"^\.(?P<name>.+)\.[0-9a-f]{8}\.part(?:\.gz)?$")


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
    MissingFileError
        If a file is not there.
    """
    return _digest([options, [[str(path), *_mark(path, checksum)] for path in inputs]])


def _mark(path: Path, checksum: bool) -> list[int | str]:
    try:
        status = path.stat()
    except OSError as error:
        raise MissingFileError(f"{path}: no such file; check the name") from error
    if not checksum:
        return [status.st_size, status.st_mtime_ns]
    return [_sha256(path, status.st_size, status.st_mtime_ns)]


@lru_cache(maxsize=4096)
def _sha256(path: Path, n_bytes: int, modified_ns: int) -> str:
    """Return a file's checksum; once for all products of a process that use it."""
    with path.open("rb") as file:
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
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self._outputs}: cannot be made or written to ({error.strerror}); choose "
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
        return outcome if isinstance(outcome, dict) else None

    def may_replace(self, output: str) -> bool:
        """Tell whether a file that is there is ours, as we left it."""
        record = self._read(output)
        if record is None:
            return False
        if record.get("state") == "begun" and not self._untouched(record, output):
            # It appeared, or was replaced, since: by us, who were killed then.
            return True
        return bool(record.get("ours")) and self._untouched(record, output)

    def may_replace_average(self, output: str, average: str) -> bool:
        """Tell whether the average of a product, if it is there, was written by a run."""
        record = self._read(output)
        return record is not None and record.get("average") == average

    def begin(self, output: str, *, average: str | None = None) -> None:
        """Note that a product, and its average, are being made: if they appear, they are ours."""
        record = self._read(output) or {}
        self._write(
            output,
            {
                "state": "begun",
                "file": self._stamp(output),
                "ours": self.may_replace(output),
                "average": average or record.get("average"),
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
        return self._folder / f"{output}.json"

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
            record = json.loads(self._path(output).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def _write(self, output: str, record: dict[str, Any]) -> None:
        write_text(self._path(output), json.dumps(record))

    def sweep(self, outputs: Iterable[str]) -> None:
        """Remove what a killed run left half-written of these products."""
        stems = {name.removesuffix(".gz") for name in outputs}
        # The folder of records is ours alone.
        records = [path for path in self._folder.iterdir() if _PART.match(path.name)]
        products = [
            path
            for path in self._outputs.iterdir()
            if (found := _PART.match(path.name)) is not None and found["name"] in stems
        ]
        for path in (*records, *products):
            path.unlink(missing_ok=True)

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
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"{self._outputs}: cannot be written to ({error.strerror}); choose another folder"
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise OutputError(
                    f"{self._outputs}: {holder} is at work in this folder; wait for it, or choose "
                    "another folder"
                ) from None
            except OSError as error:
                raise OutputError(
                    f"{self._outputs}: cannot be locked ({error.strerror}); choose a folder on "
                    "another file system"
                ) from error
            file.truncate(0)
            file.write(f"offsky, process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: writing failed ({error.strerror or error})") from error
