"""How a run is stopped: by which signal, and how much was done by then."""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

_PAUSE_S = 0.01


class Stopped(KeyboardInterrupt):
    """A signal asked to stop.

    Parameters
    ----------
    message : str
        What there is to say.
    signum : int
        The signal.
    """

    def __init__(
        self, message: str = "stopped; nothing was left behind", signum: int = signal.SIGINT
    ) -> None:
        super().__init__(message)
        self.signum = signum


def status_of(stop: KeyboardInterrupt) -> int:
    """Return the exit status of a run that was stopped, as a shell sees it."""
    return 128 + int(getattr(stop, "signum", signal.SIGINT))


_n_asked = 0


def stop_by_signals() -> None:
    """Let Ctrl-C, SIGTERM and SIGHUP end the work so that it is tidied up.

    Who asks again waits for that; the third time ends the process at once. Signals that are
    ignored, as by nohup, stay so.
    """
    global _n_asked
    _n_asked = 0
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the main thread may.
        with contextlib.suppress(ValueError):
            if signal.getsignal(each) != signal.SIG_IGN:
                signal.signal(each, _stop)


def _stop(signum: int, frame: Any) -> None:
    global _n_asked
    _n_asked += 1
    if _n_asked == 1:
        raise Stopped(signum=signum)
    if _n_asked > 2:
        os._exit(128 + signum)


def repeat_lost_stops(forget: Callable[[], None] | None = None) -> Callable[[], None]:
    """Stop once more where Python dropped the exception that was to stop the program.

    A signal may come while Python runs a callback, of a weak reference say, in which exceptions
    are printed and dropped: the program would go on. The signal is then sent to the main thread
    again.

    Parameters
    ----------
    forget : callable or None
        Lets the handler of the signal take the next one for the first; None for that of
        `stop_by_signals`.

    Returns
    -------
    callable
        Puts things back as they were.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt | SystemExit):
            before(unraisable)
            return
        # Not here: it would be lost in this function.
        signum = signal.Signals(getattr(unraisable.exc_value, "signum", signal.SIGTERM))
        again = threading.Timer(_PAUSE_S, _send_again, (signum, forget or _forget))
        again.daemon = True
        again.start()

    def restore() -> None:
        sys.unraisablehook = before

    sys.unraisablehook = hook
    return restore


def _send_again(signum: signal.Signals, forget: Callable[[], None]) -> None:
    forget()
    _thread.interrupt_main(signum)


def _forget() -> None:
    global _n_asked
    _n_asked = 0
