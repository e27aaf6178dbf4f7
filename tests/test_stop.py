"""A run that is stopped in the middle: by the user, by the system, or by a full disk."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from oracle import offsky_command, tree

# The command, waiting a while at one place of its work for what is to happen to it.
STOPPING = """
import os, sys, time
place, sys.argv[1:] = sys.argv[1], sys.argv[2:]
real = getattr(os, place)
def wait(*given):
    setattr(os, place, real)
    done = real(*given)
    print("there", flush=True)
    time.sleep(1)
    return done
setattr(os, place, wait)
from offsky.command.main import main
main()
"""
PLACES = ["preadv", "pwrite", "fsync"]


@contextmanager
def waiting_at(place: str, *arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """Run offsky until it waits at a function of the module os."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPING, place, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_says_so_and_leaves_nothing(
    folder: Path, exposures: Any, place: str, sent: signal.Signals
) -> None:
    target, backgrounds = exposures(2, (None, 2))
    before = tree(folder)
    with waiting_at(place, "subtract", target, *backgrounds, "-o", "r.fits") as process:
        process.send_signal(sent)
        output, error = process.communicate(timeout=60)
    assert process.returncode == 128 + sent
    assert output == ""
    assert [line for line in error.splitlines() if not line.startswith("WARNING")] == [
        "offsky: stopped; nothing was left behind"
    ]
    assert tree(folder) == before


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["r.fits", "r.fits.gz"])
def test_a_killed_run_leaves_what_was_there_before(
    folder: Path, exposures: Any, place: str, name: str
) -> None:
    target, backgrounds = exposures(None, (None, None))
    (folder / name).write_bytes(b"made earlier")
    before = tree(folder)
    arguments = ("subtract", target, *backgrounds, "-o", name, "--overwrite", "--save-combined")
    with waiting_at(place, *arguments) as process:
        process.kill()
        process.communicate(timeout=60)
    left = tree(folder)
    # Only files that are hidden and named as unfinished may be there as well.
    assert {path: left[path] for path in before} == before
    assert all(p.startswith(".") and ".part" in p for p in left.keys() - before.keys())
    assert offsky_command(*arguments).returncode == 0
    assert fits.getheader(name)["S_BKDSUB"] == "COMPLETE"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "kilobytes"),
    [
        (("subtract", "t.fits", "b.fits", "-o", "r.fits"), 1),
        (("subtract", "t.fits", "b.fits", "-o", "r.fits"), 12),
        (("subtract", "t.fits", "b.fits", "-o", "r.fits.gz"), 12),
        (("subtract", "t.fits", "b.fits", "-o", "r.asdf"), 12),
        (("subtract", "fz.fits", "b.fits", "-o", "r.fits"), 12),
        (("average", "t.fits", "b.fits", "-o", "a.fits"), 12),
    ],
)
def test_a_disk_that_fills_up_ends_the_run_in_one_line(
    folder: Path, exposures: Any, arguments: tuple[str, ...], kilobytes: int
) -> None:
    target, (background,) = exposures(None, (None,), ny=60, nx=50)
    target.rename("t.fits")
    background.rename("b.fits")
    (folder / "inputs").rmdir()
    with fits.open("t.fits", memmap=False) as hdus:
        hdus["SCI"] = fits.CompImageHDU(hdus["SCI"].data, hdus["SCI"].header)
        hdus.writeto("fz.fits")
    before = tree(folder)

    def no_room() -> None:
        # The system's way to say that a file may not grow: EFBIG where a disk says ENOSPC.
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))

    done = offsky_command(*arguments, preexec_fn=no_room, env={**os.environ, "TMPDIR": "/tmp"})
    lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
    assert done.returncode == 1
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"offsky: {arguments[-1]}: writing failed (")
    assert tree(folder) == before
