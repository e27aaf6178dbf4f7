"""A stop that Python drops is repeated."""

import subprocess
import sys

import pytest

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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_lost_signal_is_not_taken_for_one_of_two(sent: str) -> None:
    code = (
        LOST.replace("import repeat", "import stop_by_signals, repeat")
        .replace("signal.signal(signal.SIGTERM, signal.default_int_handler)", "stop_by_signals()")
        .replace("raise_signal(signal.SIGTERM)", f"raise_signal(signal.{sent})")
        .replace("except KeyboardInterrupt:", "except KeyboardInterrupt as stop:")
        .replace('print("stopped")', "print(signal.Signals(stop.signum).name)")
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == (f"{sent}\n", "")


@pytest.mark.slow
def test_a_lost_signal_ends_a_worker_that_counts_those_of_a_short_while_as_one() -> None:
    code = (
        LOST.replace("import repeat_lost_stops", "import repeat_lost_stops\n"
                     "from offsky.programme.executors import _end_quietly, _forget_asking")
        .replace("signal.default_int_handler", "_end_quietly")
        .replace("stops()\n", "stops(_forget_asking)\n")
        .replace("except KeyboardInterrupt:", "except SystemExit:")
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("stopped\n", "")
