"""What is printed, to whom, and what ends a run: streams, signals, a full disk."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from plain import expose, pixels, product, run, write_association
from programmes import command, leftovers, offsky_command
from programmes import expose as expose_dither

from offsky.errors import one_line
from offsky.stopping import Stopped, status_of

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


def in_shell(arguments: Sequence[Any], redirection: str) -> subprocess.CompletedProcess[str]:
    """Run offsky by a shell, its streams led elsewhere."""
    line = " ".join(f"'{each}'" for each in command(*arguments))
    return subprocess.run(
        ["sh", "-c", f"{line} {redirection}"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture
def made(folder: Path) -> dict[str, tuple[Any, ...]]:
    """The commands, and in the folder what they need."""
    for i in range(1, 4):
        expose(folder / f"a{i}_rate.fits", float(i))
    write_association(
        folder / "x_asn.json",
        *(product(f"p{i}", f"a{i}_rate", "a3_rate") for i in (1, 2)),
    )
    return {
        "subtract": ("subtract", "a1_rate.fits", "a2_rate.fits", "-o", "r.fits"),
        "json": ("subtract", "a1_rate.fits", "a2_rate.fits", "-o", "r.fits", "--json"),
        "average": ("average", "a1_rate.fits", "a2_rate.fits", "-o", "r.fits"),
        "association": ("subtract", "x_asn.json"),
        "plan": ("plan", "x_asn.json", "-o", "plan.json"),
        "run": ("run", "x_asn.json", "-o", "."),
    }


@pytest.mark.slow
@pytest.mark.parametrize("which", ["subtract", "json", "average", "association", "plan", "run"])
@pytest.mark.parametrize(
    "redirection", [">&-", ">/dev/full", ">&- 2>&-", ">/dev/full 2>/dev/full", "<&- >&- 2>&-"]
)
def test_what_cannot_be_printed_is_done_all_the_same(
    made: dict[str, tuple[Any, ...]], folder: Path, which: str, redirection: str
) -> None:
    before = {path.name for path in folder.iterdir()}
    inputs = {path: path.read_bytes() for path in folder.iterdir()}
    done = in_shell(made[which], redirection)
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    if "2>" not in redirection:
        lines = [x for x in done.stderr.splitlines() if not x.startswith("WARNING")]
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("offsky: the summary could not be printed (")
    else:
        assert done.stderr == ""
    new = {path.name for path in folder.iterdir()} - before
    expected = {
        "association": {"p1_bsub.fits", "p2_bsub.fits"},
        "plan": {"plan.json"},
        "run": {"p1_bsub.fits", "p2_bsub.fits", "summary.json", ".offsky"},
    }
    assert new == expected.get(which, {"r.fits"})
    assert {path: path.read_bytes() for path in inputs} == inputs


def test_a_reader_that_goes_away_stops_no_work(
    made: dict[str, tuple[Any, ...]], folder: Path
) -> None:
    process = subprocess.Popen(
        command(*made["association"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    assert process.wait(60) == 3
    assert "Traceback" not in told
    assert (pixels(folder / "p2_bsub.fits") == -1).all()
    process.stderr.close()


def test_a_failure_counts_more_than_what_could_not_be_printed(
    made: dict[str, tuple[Any, ...]], folder: Path
) -> None:
    (folder / "a1_rate.fits").unlink()
    assert in_shell(made["association"], ">/dev/full").returncode == 1


def test_only_errors_where_standard_error_is_closed_or_full(
    made: dict[str, tuple[Any, ...]],
) -> None:
    for redirection in ("2>&-", "2>/dev/full"):
        done = in_shell((*made["subtract"], "--overwrite"), redirection)
        assert done.returncode == 0
        assert "written" in done.stdout
        assert in_shell(("subtract", "gone.fits", "b.fits"), redirection).returncode == 1


def test_a_terminal_is_not_obeyed(folder: Path, capsys: Any) -> None:
    name = "a\x1b[2Jb\n\x07c\u202e_rate.fits"
    assert run("subtract", name, "b.fits") == 1
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert told.rstrip("\n").isprintable()
    assert r"a\x1b[2Jb\n\x07c\u202e_rate.fits" in told
    assert one_line("plain ü") == "plain ü"


def test_a_warning_is_its_words_and_nothing_of_the_logger(folder: Path) -> None:
    names = [expose_dither(folder, i).name for i in range(1, 4)]
    done = offsky_command("subtract", *names, cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert any(line.startswith("WARNING: with 2 backgrounds no sample") for line in lines)
    assert not any("offsky.selection" in line for line in lines)


def test_the_exit_status_of_a_stop_is_what_a_shell_sees() -> None:
    assert status_of(KeyboardInterrupt()) == 130
    assert status_of(Stopped(signum=signal.SIGHUP)) == 129


STUCK = """
import os, sys, time
real = os.preadv
def wait(*given):
    print("there", flush=True)
    while True:
        time.sleep(0.01)
os.preadv = wait
from offsky.command.main import main
main()
"""


IN_VAIN = """
        try: time.sleep(60)
        except BaseException: pass"""


def test_what_nohup_ignores_stays_ignored_and_the_third_signal_ends_at_once(
    made: dict[str, tuple[Any, ...]],
) -> None:
    stuck = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
""" + STUCK.replace(
        "time.sleep(0.01)", "\n        try: time.sleep(60)\n        except BaseException: pass"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", stuck, *made["subtract"], "--threads", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    assert process.wait(10) == 128 + signal.SIGTERM
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.8, 1.5])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_with_workers_is_one_true_line(
    folder: Path, after_s: float, sent: signal.Signals
) -> None:
    for observation in range(1, 7):
        for i in range(1, 5):
            expose_dither(folder, i, observation=f"{observation:03d}", shape=(400, 300))
    arguments = ("run", folder, "--from", "dithers", "-o", "out", "--workers", "2")
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    lock = folder / "out" / ".offsky" / "lock"
    while not lock.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(after_s)
    # As a terminal does: to all processes of the group.
    os.killpg(process.pid, sent)
    _, told = process.communicate(timeout=60)
    if process.returncode == 0:
        return
    assert "Traceback" not in told
    if process.returncode == -sent:
        # While Python itself ends, after all work: a shell sees the same.
        return
    assert process.returncode == 128 + sent, told
    lines = [x for x in told.splitlines() if not x.startswith("WARNING")]
    n_made = len(list((folder / "out").glob("*_bsub.fits")))
    if lines != ["offsky: stopped; nothing was left behind"] or n_made:
        assert lines == [
            f"offsky: stopped; {n_made} of 24 products are made; run the same command again to "
            "go on"
        ]
        summary = json.loads((folder / "out" / "summary.json").read_text())
        assert summary["n_complete"] == n_made
    assert leftovers(folder / "out") == []
    done = subprocess.run(command(*arguments), capture_output=True, check=False, timeout=120)
    assert done.returncode == 0
    assert len(list((folder / "out").glob("*_bsub.fits"))) == 24


class Disk:
    """A small disk: what is written to a folder, finished or not, may take so many bytes."""

    def __init__(self, folder: Path, n_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._n_bytes = n_bytes
        self.n_refused = 0
        self._pwrite, self._copy = os.pwrite, os.copy_file_range
        monkeypatch.setattr(os, "pwrite", self.pwrite)
        monkeypatch.setattr(os, "copy_file_range", self.copy)

    def _check(self) -> None:
        used = 0
        for path in self._folder.glob("*.fits*"):
            used += path.stat().st_size
        for path in self._folder.glob(".*.part"):
            used += path.stat().st_size
        if used > self._n_bytes:
            self.n_refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")

    def pwrite(self, *given: Any) -> int:
        self._check()
        return self._pwrite(*given)

    def copy(self, *given: Any) -> int:
        self._check()
        return self._copy(*given)


@pytest.mark.parametrize("source", ["dithers", "associations"])
def test_a_disk_that_fills_up_in_a_programme_keeps_what_fits(
    folder: Path, source: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    n = 12
    for i in range(1, n + 1):
        expose_dither(folder, i)
    if source == "associations":
        names = [path.name.removesuffix("_rate.fits") for path in sorted(folder.glob("*.fits"))]
        write_association(
            folder / "x_asn.json",
            *(product(f"p{i}", f"{name}_rate", f"{names[0]}_rate") for i, name in
              enumerate(names) if i),
        )  # fmt: skip
        n -= 1
    size = next(folder.glob("*.fits")).stat().st_size
    out = folder / "out"
    out.mkdir()
    with monkeypatch.context() as patch:
        Disk(out, int(4.5 * size), patch)
        assert run("run", folder, "--from", source, "-o", "out", "--threads", "1") == 1
    told = capsys.readouterr().err
    lines = [x for x in told.splitlines() if not x.startswith("WARNING")]
    assert len(lines) <= 3, told
    assert "No space left on device" in lines[0]
    assert "not tried, since the disk is full" in lines[-1]
    kept = sorted(path.name for path in out.glob("*_bsub.fits"))
    assert len(kept) >= 3
    assert leftovers(out) == []
    # The last one may have found room, and its record none: it is made again.
    recorded = [
        name for name in kept if '"finished"' in (out / ".offsky" / f"{name}.json").read_text()
    ]
    assert len(recorded) >= len(kept) - 1
    stamps = {name: (out / name).stat().st_mtime_ns for name in recorded}
    assert run("run", folder, "--from", source, "-o", "out") == 0
    assert len(list(out.glob("*_bsub.fits"))) == n
    assert stamps == {name: (out / name).stat().st_mtime_ns for name in recorded}
