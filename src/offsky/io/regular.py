"""Regular files alone: nothing is read from a FIFO, a device or a folder, and nothing waits."""

import errno
import io
import os
import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO (a named pipe)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def irregular(mode: int) -> str | None:
    """Return what a file is that is no regular one; None for a regular one."""
    if stat.S_ISREG(mode):
        return None
    return next((words for test, words in _KINDS if test(mode)), "no regular file")


def open_regular(path: str | os.PathLike[str], *, follow: bool = True) -> io.FileIO:
    """Open a file to be read, without waiting for anybody.

    Parameters
    ----------
    path : path-like
        The file.
    follow : bool
        Whether it may be a link.

    Raises
    ------
    OSError
        If it is not there, cannot be read, or is no regular file; `strerror` says which.
    """
    # A look before: to open some devices is to do something with them.
    _refuse(_mode(path, follow=follow))
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    file = io.FileIO(path, "rb", opener=lambda name, _: os.open(name, flags))
    try:
        _refuse(os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise OSError, as `open_regular` does, unless a path leads to a regular file."""
    _refuse(_mode(path, follow=True))


def read_text(path: Path, *, follow: bool = True) -> str:
    """Return the text of a small regular file.

    Raises
    ------
    OSError
        As of `open_regular`.
    UnicodeDecodeError
        If it is not UTF-8.
    """
    with open_regular(path, follow=follow) as file:
        return file.readall().decode("utf-8")


def _mode(path: str | os.PathLike[str], *, follow: bool) -> int:
    try:
        return os.stat(path, follow_symlinks=follow).st_mode  # noqa: PTH116 (no Path is made)
    except ValueError as error:
        # A null byte, or what no encoding has.
        raise OSError(errno.EINVAL, f"no file can have this name ({error})") from error


def _refuse(mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "it is a link")
    kind = irregular(mode)
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file")
