"""Unfinished files: locked by who writes them, swept by the next run where nobody does.

The system gives a lock back when a process ends, however it ends. So a part file without a
lock is what a killed run left behind.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

from offsky.io.regular import open_regular

# Those of earlier versions do not name offsky: they are removed only where their file is wanted.
_PART = re.compile(
    r"(?s)\.(?P<stem>(?P<name>.+?)\.[0-9a-f]{8}(?P<ours>\.offsky)?\.part)(?:\.gz|\.d)?"
)
_RUN = re.compile(rb"OFFRUN[^A-Za-z0-9]+(r[0-9a-f]{16})")
# Read one after the other: a header, then a long tree of ASDF.
_HEAD_BYTES = 2**16, 2**20
# A name may have so many bytes; what a part's name has beside that of its file.
_MOST_NAME, _MORE_NAME = 255, len("..12345678.offsky.part.gz")
# A folder that was swept just now is not looked through again.
_SWEPT_S = 10.0
_swept: dict[str, float] = {}


def _short(name: str) -> str:
    """Return a name as part files have it: without .gz, and cut where it is long."""
    raw = os.fsencode(name.removesuffix(".gz"))
    room = _MOST_NAME - _MORE_NAME
    # Not in the midst of a letter.
    return os.fsdecode(raw) if len(raw) <= room else raw[:room].decode(errors="ignore")


def create_locked(folder: Path, name: str) -> tuple[Path, FileIO]:
    """Make an empty file beside the one that it will be, locked.

    Parameters
    ----------
    folder : Path
        Where the file will be.
    name : str
        What it will be called.

    Returns
    -------
    path : Path
        The unfinished file.
    file : FileIO
        The same, open; it holds the lock until it is closed.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    while True:
        path = folder / f".{_short(name)}.{secrets.token_hex(4)}.offsky.part"
        # A file, not a descriptor: Ctrl-C at any moment closes it, and with that unlocks it.
        file = FileIO(path, "x+", opener=_open_new)
        try:
            # Where somebody sweeps just now, another name is taken.
            if lock(file.fileno()) and _is_same(path, file.fileno()):
                return path, file
        except BaseException:
            file.close()
            raise
        file.close()
        with contextlib.suppress(OSError):
            path.unlink()


def _open_new(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o666)


def lock(fd: int) -> bool:
    """Lock a file, if nobody has; True also where the file system knows no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
    return True


def sweep_once(folder: Path) -> None:
    """Sweep a folder, if that was not done within the last seconds."""
    key, now = os.fspath(folder.absolute()), time.monotonic()
    if now - _swept.get(key, -_SWEPT_S) >= _SWEPT_S:
        _swept[key] = now
        sweep(folder)


def sweep(folder: Path, names: Iterable[str] = ()) -> None:
    """Remove the unfinished files of a folder that nobody is writing.

    Parameters
    ----------
    folder : Path
        The folder; nothing is done where it cannot be read.
    names : iterable of str
        What those of earlier versions, which do not name offsky, would have been called.
    """
    wanted = {_short(name) for name in names}
    for path in _parts_of(folder):
        found = _PART.fullmatch(path.name)
        if found is None:
            continue
        if found["ours"] or found["name"] in wanted:
            with contextlib.suppress(OSError):
                _remove_stale(path)


def left_by_killed_run(average: Path) -> bool:
    """Tell whether an average is half of what a killed run wrote: its product is unfinished.

    Both carry the identifier of their run.
    """
    run = run_of(average)
    if run is None:
        return False
    for path in _parts_of(average.parent):
        with contextlib.suppress(OSError):
            if path.suffix == ".part" and run_of(path) == run and _is_stale(path):
                return True
    return False


def _parts_of(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [folder / each.name for each in entries if _PART.fullmatch(each.name)]
    except OSError:
        return []


def run_of(path: Path) -> bytes | None:
    """Return the identifier of the run that wrote a file; None where it has none."""
    head = b""
    try:
        with open_regular(path) as file:
            for n_bytes in _HEAD_BYTES:
                head += file.read(n_bytes)
                found = _RUN.search(head)
                if found is not None:
                    return found[1]
    except OSError:
        pass
    return None


def _is_stale(path: Path) -> bool:
    """Tell whether nobody holds the lock of a part file."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return _try_lock(fd)
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    """Lock a file; False where somebody has, or where the file system knows no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_stale(path: Path) -> None:
    found = _PART.fullmatch(path.name)
    if found is None:
        return
    main = path.with_name(f".{found['stem']}")
    if path != main:
        # What goes with a part file that somebody may be writing.
        if not main.exists() or _is_stale(main):
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                shutil.rmtree(path, ignore_errors=True)
            elif stat.S_ISREG(mode):
                path.unlink()
        return
    if not stat.S_ISREG(path.lstat().st_mode):
        return
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if _try_lock(fd) and _is_same(path, fd):
            path.unlink()
    finally:
        os.close(fd)


def _is_same(path: Path, fd: int) -> bool:
    """Tell whether a path still leads to an open file."""
    try:
        there = path.lstat()
    except OSError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
