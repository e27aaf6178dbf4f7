"""Where not one pixel is subtracted the product is a copy, SKIPPED, with the reason."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from doors import made_by
from plain import expose, pixels, run
from scenes import Job

import offsky
from offsky.io.mask import read_mask

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "all NaN": ({"sci": np.full((6, 8), np.nan)}, {}, "no usable sample"),
    "all flagged": ({"sci": 3.0, "dq": 1}, {"dq": "kept"}, "no usable sample"),
    "NaN, fitted": ({"sci": np.full((6, 8), np.nan)}, {"target_scale": "fit"}, "no usable"),
    "NaN, blank": ({"sci": np.full((6, 8), np.nan)}, {"uncovered": "nan"}, "no usable"),
}


def _files(folder: Path, case: str) -> tuple[Path, list[Path]]:
    pixels_of, options, _ = CASES[case]
    backgrounds = [expose(folder / "b_rate.fits", **pixels_of)]
    if options.get("reject") == "error":
        backgrounds.append(expose(folder / "c_rate.fits", 7.0))
    return expose(folder / "t_rate.fits", 10), backgrounds


@pytest.mark.parametrize("case", CASES)
def test_a_file_is_skipped_with_the_reason(folder: Path, case: str) -> None:
    target, backgrounds = _files(folder, case)
    outcome = offsky.subtract_file(target, backgrounds, folder / "out.fits", **CASES[case][1])
    assert outcome.status == fits.getheader(folder / "out.fits")["S_BKDSUB"] == "SKIPPED"
    assert (pixels(folder / "out.fits") == 10).all()
    assert np.array_equal(pixels(folder / "out.fits", "DQ"), pixels(target, "DQ"))
    assert outcome.reason
    assert outcome.reason in str(outcome)
    assert len(outcome.dropped) == len(backgrounds)
    assert re.search(CASES[case][2], outcome.reason)


@pytest.mark.parametrize("case", ["all NaN", "all flagged"])
def test_every_door_skips(folder: Path, door: Any, case: str) -> None:
    target, backgrounds = _files(folder, case)
    product = made_by(door, Job(target, tuple(backgrounds)), folder / "out", CASES[case][1])
    assert fits.getheader(product)["S_BKDSUB"] == "SKIPPED"
    assert (pixels(product) == 10).all()


def test_one_pixel_that_is_subtracted_is_complete(folder: Path) -> None:
    sci = np.full((6, 8), np.nan)
    sci[2, 3] = 3
    target, background = expose(folder / "t_rate.fits", 10), expose(folder / "b_rate.fits", sci)
    outcome = offsky.subtract_file(target, [background], folder / "out.fits")
    assert (outcome.status, outcome.n_uncovered, outcome.reason) == ("COMPLETE", 47, None)


def test_a_mask_over_everything_is_skipped_and_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target, background = expose(folder / "t_rate.fits", 10), expose(folder / "b_rate.fits", 3)
    mask = folder / "m.fits"
    fits.PrimaryHDU(np.ones((6, 8), "u1")).writeto(mask)
    with caplog.at_level(logging.WARNING):
        outcome = offsky.subtract_file(target, [background], folder / "out.fits", masks=[mask])
    assert outcome.status == "SKIPPED"
    assert outcome.reason == "the masks leave out every sample of the backgrounds"
    assert "--mask-good-is 1" in caplog.text
    done = run(
        "subtract", target, background, "-o", "x.fits", f"--mask={mask}", "--mask-good-is", 1
    )
    assert done == 0
    assert (pixels("x.fits") == 7).all()
    assert fits.getheader("x.fits")["OFFMGOOD"] == "1"


GOOD = np.ones((6, 8), "f4")
GOOD[0] = np.nan
ZERO_BAD = np.ones((6, 8), "u1")
ZERO_BAD[0] = 0


@pytest.mark.parametrize(
    ("image", "good_is", "said"),
    [
        (GOOD, "0", "a mask of 1 and NaN"),
        (GOOD, "1", "0 or NaN"),
        (ZERO_BAD, "1", "0 or NaN"),
        (1 - ZERO_BAD, "0", "not 0"),
    ],
)
def test_the_forms_of_masks_are_known_and_told(
    image: Any, good_is: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        mask = read_mask(image, (6, 8), "b.fits", good_is=good_is)
    assert mask.packed.count() == 8
    assert mask.packed.rows(0, 1).all()
    assert said in caplog.text
    assert "16.67 % of b.fits" in caplog.text


def test_the_dq_of_an_exposure_is_a_mask_and_its_sci_is_not(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flags = np.zeros((6, 8), "u4")
    flags[1], flags[2] = 1 | 1 << 10, 4
    exposure = expose(folder / "m_rate.fits", 5.0, dq=flags)
    with caplog.at_level(logging.WARNING):
        mask = read_mask(exposure, (6, 8), "b.fits")
    assert mask.packed.count() == 8
    assert "a DQ, pixels that are DO_NOT_USE" in caplog.text
    with fits.open(exposure) as hdus:
        del hdus["DQ"]
        hdus.writeto(folder / "bare.fits")
    with pytest.raises(offsky.ExposureError, match="is no mask"):
        read_mask(folder / "bare.fits", (6, 8), "b.fits")
