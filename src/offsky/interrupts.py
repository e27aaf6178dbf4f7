"""Interrupts that came where Python drops exceptions, as in a callback of a weak reference."""

import _thread
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

_PAUSE_S = 0.01


def repeat_lost_interrupts() -> Callable[[], None]:
    """Raise an interrupt once more where it was lost.

    Ctrl-C, or SIGTERM, may come while Python runs a callback in which exceptions are printed and
    dropped: the program would go on. It is then sent to the main thread again.

    Returns
    -------
    callable
        Puts things back as they were.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt | SystemExit):
            # Not here: it would be lost in this function.
            again = threading.Timer(_PAUSE_S, _thread.interrupt_main, (signal.SIGTERM,))
            again.daemon = True
            again.start()
            return
        before(unraisable)

    def restore() -> None:
        sys.unraisablehook = before

    sys.unraisablehook = hook
    return restore
