"""Segments of one long exposure are several targets, and no backgrounds of each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain import expose, pixels, run

import offsky


def _segment(folder: Path, exposure: int, segment: int | None, value: float, **more: Any) -> Path:
    part = "" if segment is None else f"-seg{segment:03d}"
    name = f"jw01234001001_02101_{exposure:05d}{part}_mirimage_rateints.fits"
    cards = {"EXPOSURE": f"{exposure:05d}", "EXSEGNUM": segment, "OBSERVTN": "001", **more}
    return expose(folder / name, value, shape=(3, 6, 8), **cards)


def _levels(folder: Path) -> list[float]:
    return [float(np.median(pixels(path))) for path in sorted(folder.glob("*_bsubints.fits"))]


@pytest.mark.parametrize("how", [[], ["--suffix", "rateints"]])
def test_a_folder_of_segments_is_planned_and_run(folder: Path, how: list[str]) -> None:
    inputs = folder / "in"
    inputs.mkdir()
    for segment, value in ((1, 10), (2, 12)):
        _segment(inputs, 1, segment, value)
    for segment, value in ((1, 3), (2, 4)):
        _segment(inputs, 2, segment, value, BKGDTARG=True, OBSERVTN="002")
    assert run("run", inputs, *how, "--from", "dedicated", "-o", folder / "out") == 0
    assert _levels(folder / "out") == [6.5, 8.5]


def test_dithers_in_segments_take_the_segments_of_other_exposures(folder: Path) -> None:
    inputs = folder / "in"
    inputs.mkdir()
    for exposure, values in ((1, (10, 12)), (2, (3, 4))):
        for segment, value in enumerate(values, 1):
            _segment(inputs, exposure, segment, value)
    assert run("run", inputs, "--from", "dithers", "-o", folder / "out") == 0
    assert _levels(folder / "out") == [6.5, 8.5, -8, -7]


def test_a_segment_is_no_background_of_its_own_exposure_unless_asked(folder: Path) -> None:
    one, two = (_segment(folder, 1, segment, 10 * segment) for segment in (1, 2))
    with pytest.raises(
        offsky.ExposureMismatchError, match=r"another segment of the target's own exposure"
    ):
        offsky.subtract_file(one, [two], folder / "out.fits")
    offsky.subtract_file(one, [two], folder / "out.fits", force=True)
    assert (pixels(folder / "out.fits") == -10).all()


def test_two_stages_of_one_segment_are_still_refused(folder: Path) -> None:
    _segment(folder, 1, 1, 10)
    name = "jw01234001001_02101_00001-seg001_mirimage_calints.fits"
    expose(folder / name, 1.0, shape=(3, 6, 8), EXPOSURE="00001", EXSEGNUM=1, OBSERVTN="001")
    assert run("plan", folder, "--from", "dithers", "-o", folder / "plan.json") == 1
