"""A stop that Python drops is repeated."""

import subprocess
import sys

LOST = """
import signal, sys, time, weakref
from offsky.stopping import repeat_lost_stops

signal.signal(signal.SIGTERM, signal.default_int_handler)
restore = repeat_lost_stops()

class Thing: pass

def gone(reference):
    signal.raise_signal(signal.SIGTERM)
    for _ in range(1000): pass

thing = Thing()
reference = weakref.ref(thing, gone)
try:
    del thing
    time.sleep(5)
    print("went on")
except KeyboardInterrupt:
    print("stopped")
restore()
assert sys.unraisablehook is sys.__unraisablehook__
"""


def test_an_interrupt_that_is_lost_in_a_callback_stops_the_program_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOST], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("stopped\n", "", 0)


def test_other_errors_that_are_dropped_are_told_as_before() -> None:
    code = LOST.replace("signal.raise_signal(signal.SIGTERM)", "raise ValueError('told')").replace(
        "time.sleep(5)", "time.sleep(0.01)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "went on\n"
    assert "ValueError: told" in done.stderr
