"""Measured memory of a process that works on files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from plain import NIRSPEC, expose

from offsky.testing import encoded_pixels, write_exposure

MEASURE = """
import sys
import offsky
target, *backgrounds = sys.argv[1:]
offsky.subtract_file(target, backgrounds, "result.fits", overwrite=True, threads=2, force=True)
# Not ru_maxrss: that begins with the parent's.
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(int(line.split()[1]) * 1024)
"""


def peak_bytes(target: Path, backgrounds: list[Path], folder: Path) -> int:
    """Return the most memory that the subtraction took, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(target), *map(str, backgrounds)],
        cwd=folder, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("nints", [None, 2])
def test_memory_does_not_grow_with_the_number_of_backgrounds(
    tmp_path: Path, nints: int | None
) -> None:
    target = write_exposure(tmp_path / "target.fits", sci=encoded_pixels(0, None, 1024, 1024))
    # Four times the same pixels under ten names each, by hard links: no disk, but a duplicate,
    # which force allows.
    first = write_exposure(tmp_path / "b.fits", sci=encoded_pixels(1, nints, 1024, 1024))
    backgrounds = []
    for i in range(40):
        path = tmp_path / f"b{i}.fits"
        if i < 4:
            shutil.copy(first, path)
        else:
            os.link(backgrounds[i % 4], path)
        backgrounds.append(path)
    with_ten = peak_bytes(target, backgrounds[:10], tmp_path)
    with_forty = peak_bytes(target, backgrounds, tmp_path)
    assert with_forty <= 1.1 * with_ten
    assert with_forty <= 300e6


def test_block_heights_fit_the_memory_they_are_given() -> None:
    from offsky.combine.blocks import BLOCK_BYTES, block_rows

    for row_bytes in (0, 1, 24_576, 245_760, 2**22, 2**30):
        for n_rows in (1, 7, 2048):
            for n_threads in (1, 2, 64):
                height = block_rows(row_bytes, n_rows, n_threads)
                assert 1 <= height <= n_rows
                assert height == 1 or height * row_bytes * n_threads <= BLOCK_BYTES


WITH_IMPRINTS = """
import sys
import offsky
folder, errors, save = sys.argv[1:]
outcome = offsky.subtract_file(
    f"{folder}/e0_rate.fits", [f"{folder}/e{i}_rate.fits" for i in range(1, 7)], "result.fits",
    imprints=[f"{folder}/l{i}_rate.fits" for i in range(7)], errors=errors, threads=2,
    combined_path="average.fits" if save == "save" else None, overwrite=True,
)
assert len(outcome.imprints) == 7
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(int(line.split()[1]) * 1024, outcome.predicted_bytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("save", ["save", "not"])
@pytest.mark.parametrize("errors", ["none", "propagate"])
def test_an_imprint_for_each_exposure_takes_no_more_than_was_predicted(
    tmp_path: Path, errors: str, save: str
) -> None:
    for i in range(7):
        for name in ("e", "l"):
            expose(
                tmp_path / f"{name}{i}_rate.fits",
                encoded_pixels(i % 3, None, 2048, 2048),
                keywords={**NIRSPEC, "PATT_NUM": i},
            )
    done = subprocess.run(
        [sys.executable, "-c", WITH_IMPRINTS, str(tmp_path), errors, save],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    peak, predicted = map(int, done.stdout.split())
    assert peak <= predicted
