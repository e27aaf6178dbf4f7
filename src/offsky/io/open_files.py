"""How many input files are open at a time.

A thousand backgrounds need not be a thousand open files: those not read from for the longest are
closed, and opened again when they are wanted.
"""

import resource
import weakref
from collections import OrderedDict
from threading import Lock
from typing import Protocol

# Of the files that the system lets a process open; the rest is for outputs, libraries,
# and whatever else the process does.
_SHARE = 0.5
_MOST = 512


class Shelvable(Protocol):
    """A file that may be closed and opened again while nobody reads from it."""

    @property
    def is_open(self) -> bool:
        """Whether it has a descriptor."""

    @property
    def is_idle(self) -> bool:
        """Whether nobody reads from it now."""

    def shelve(self) -> None:
        """Close it, to be opened again."""

    def reopen(self) -> None:
        """Open it again, as the same file that it was."""


class OpenFiles:
    """Keeps count of the open input files of this process."""

    def __init__(self) -> None:
        self.lock = Lock()
        # The longest unused first.  An exposure that nobody closed is not kept alive.
        self._open: OrderedDict[int, weakref.ref[Shelvable]] = OrderedDict()

    def admit(self, file: Shelvable) -> None:
        """Count a file that was just opened."""
        with self.lock:
            self._open[id(file)] = weakref.ref(file)
            self._make_room()

    def use(self, file: Shelvable) -> None:
        """Make sure that a file in use is open."""
        with self.lock:
            if not file.is_open:
                self._make_room(1)
                file.reopen()
                self._open[id(file)] = weakref.ref(file)
            else:
                self._open.move_to_end(id(file))

    def forget(self, file: Shelvable) -> None:
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
