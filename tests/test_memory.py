"""Measured memory of a process that works on files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from plain import NIRSPEC, expose, product, write_association

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


BY_A_DOOR = """
import logging
import sys
from pathlib import Path
import offsky

door, profile = sys.argv[1:]
target, *backgrounds = sorted(map(str, Path().glob("e*_rate.fits")))
how, found, before = {"profile": profile, "threads": 2}, [], 0

def status(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024

class Collect(logging.Handler):
    def emit(self, record):
        args = record.args if isinstance(record.args, tuple) else (record.args,)
        found.extend(each for each in args if isinstance(each, offsky.Outcome))

if door in ("models", "average of models", "step"):
    # What the process holds by then is none of offsky's: packages, and models that are open.
    offsky.subtract(target, []).close()
    if door == "step":
        from offsky.step import BackgroundStep
        logging.getLogger("offsky.step").addHandler(Collect())
        BackgroundStep.call("small.fits", ["small_b.fits"]).close()
        found.clear()
    else:
        from stdatamodels.jwst import datamodels
        opened = [datamodels.open(each) for each in (target, *backgrounds)]
        for each in opened:
            each.data, each.dq, each.err, each.var_poisson, each.var_rnoise
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")

if door == "file":
    found.append(offsky.subtract_file(target, backgrounds, "p.fits", **how))
elif door == "association":
    found += offsky.subtract_association("x_asn.json", **how)
elif door == "average":
    found.append(offsky.average_file(backgrounds, "p.fits", **how))
elif door == "models":
    made = offsky.subtract(opened[0], opened[1:], on_outcome=found.append, **how)
elif door == "average of models":
    made = offsky.average(opened[1:], on_outcome=found.append, **how)
elif door == "step":
    made = BackgroundStep.call(target, backgrounds, **how)
print(status("VmHWM") - before, max(each.predicted_bytes for each in found))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("profile", ["jwst", "offsky"])
@pytest.mark.parametrize(
    "door", ["file", "association", "average", "models", "average of models", "step"]
)
def test_no_door_takes_more_than_was_predicted(tmp_path: Path, door: str, profile: str) -> None:
    """Programmes: `test_programme.py`."""
    if door == "step":
        pytest.importorskip("jwst", reason="the JWST pipeline is not installed: offsky[jwst]")
    for i in range(6):
        write_exposure(
            tmp_path / f"e{i}_rate.fits",
            sci=encoded_pixels(i % 3, None, 2048, 2048),
            metadata={"meta.observation.exposure_number": str(i + 1)},
        )
    for i, name in enumerate(("small.fits", "small_b.fits")):
        write_exposure(
            tmp_path / name,
            sci=encoded_pixels(i, None, 8, 8),
            metadata={"meta.observation.exposure_number": str(i + 1)},
        )
    names = [f"e{i}_rate" for i in range(6)]
    write_association(tmp_path / "x_asn.json", product("p", *names))
    done = subprocess.run(
        [sys.executable, "-c", BY_A_DOOR, door, profile], cwd=tmp_path,
        env={**os.environ, "CRDS_PATH": str(tmp_path), "STPIPE_DISABLE_CRDS_STEPPARS": "true"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    peak, predicted = map(int, done.stdout.splitlines()[-1].split())
    print(f"{door}, {profile}: {peak / predicted:.2f}")
    assert peak <= predicted
