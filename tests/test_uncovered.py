"""uncovered="nan": what no background covers is NaN and flagged, in every kind of product."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import offsky
from offsky.testing import assert_same_bits, encoded_pixels, write_exposure

SHAPE = (9, 7)
HOLE = (2, 3)
NAMES = ("SCI", "ERR", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")


@pytest.fixture
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A target of three integrations with every kind of error; DQ 4 everywhere."""
    path = write_exposure(
        tmp_path / "target_rateints.fits",
        sci=encoded_pixels(0, 3, *SHAPE),
        err=encoded_pixels(1, 3, *SHAPE),
        dq=4,
        variances=True,
    )
    with fits.open(path, memmap=False) as hdus:
        flat = fits.ImageHDU(encoded_pixels(2, 3, *SHAPE), name="VAR_FLAT")
        hdus.insert(len(hdus) - 1, flat)
        hdus.writeto(path, overwrite=True)
    return path


@pytest.fixture
def backgrounds(tmp_path: Path) -> list[Path]:
    """Two backgrounds of 1, missing at HOLE in both, in one of them elsewhere too."""
    paths = []
    for i in range(2):
        sci = np.ones(SHAPE, dtype=np.float32)
        sci[HOLE] = np.nan
        sci[5, i] = np.nan
        paths.append(write_exposure(tmp_path / f"sky{i}_rate.fits", sci=sci, variances=True))
    return paths


def read(path: Path) -> dict[str, np.ndarray]:
    with fits.open(path, memmap=False) as hdus:
        return {name: np.array(hdus[name].data) for name in (*NAMES, "DQ")}


@pytest.mark.parametrize("errors", ["none", "propagate"])
def test_uncovered_pixels_are_nan_and_flagged_in_every_plane(
    target: Path, backgrounds: list[Path], tmp_path: Path, errors: Any
) -> None:
    output, kept = tmp_path / "o.fits", tmp_path / "kept.fits"
    outcome = offsky.subtract_file(target, backgrounds, output, uncovered="nan", errors=errors)
    offsky.subtract_file(target, backgrounds, kept, errors=errors)
    assert outcome.n_uncovered == 1
    product, usual = read(output), read(kept)
    hole = np.zeros(SHAPE, dtype=bool)
    hole[HOLE] = True
    for name in NAMES:
        assert np.isnan(product[name][:, hole]).all(), name
        assert_same_bits(product[name][:, ~hole], usual[name][:, ~hole])
        assert_same_bits(usual[name][:, hole], read(target)[name][:, hole])
    assert (product["DQ"][:, hole] == 4 + 1).all()
    assert_same_bits(product["DQ"][:, ~hole], usual["DQ"][:, ~hole])
    assert fits.getval(output, "OFFUNCOV") == "nan"
    assert fits.getval(output, "OFFNUNCV") == 1


def test_the_log_tells_what_became_of_them(
    target: Path, backgrounds: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    offsky.subtract_file(target, backgrounds, tmp_path / "o.fits", uncovered="nan")
    assert "1 pixel has no background sample, set to NaN" in caplog.text
    caplog.clear()
    offsky.subtract_file(target, backgrounds, tmp_path / "o.fits", overwrite=True)
    assert "no background sample, not subtracted" in caplog.text


def test_files_and_models_agree(target: Path, backgrounds: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "o.fits"
    offsky.subtract_file(target, backgrounds, output, uncovered="nan", errors="propagate")
    product = read(output)
    with offsky.subtract(target, backgrounds, uncovered="nan", errors="propagate") as model:
        for name in (*NAMES, "DQ"):
            attribute = {"SCI": "data"}.get(name, name.lower())
            assert_same_bits(getattr(model, attribute), product[name])


def test_samples_left_out_by_their_flags_leave_a_pixel_uncovered(
    target: Path, tmp_path: Path
) -> None:
    flags = np.zeros(SHAPE, dtype=np.uint32)
    flags[HOLE] = 1
    background = write_exposure(tmp_path / "sky_rate.fits", sci=np.ones(SHAPE), dq=flags)
    output = tmp_path / "o.fits"
    offsky.subtract_file(target, [background], output, uncovered="nan", dq="kept")
    product = read(output)
    assert np.isnan(product["SCI"][:, HOLE[0], HOLE[1]]).all()
    assert np.isnan(product["SCI"]).sum() == 3
    assert (product["DQ"][:, HOLE[0], HOLE[1]] == 5).all()
    assert (product["DQ"] != 4).sum() == 3


def test_nothing_to_subtract_is_nothing_to_blank(target: Path, tmp_path: Path) -> None:
    outcome = offsky.subtract_file(target, [], tmp_path / "o.fits", uncovered="nan")
    assert outcome.status == "SKIPPED"
    for name, array in read(target).items():
        assert_same_bits(read(tmp_path / "o.fits")[name], array)


def test_beyond_a_smaller_background_everything_is_nan(target: Path, tmp_path: Path) -> None:
    window = {"xstart": 2, "ystart": 3, "xsize": 4, "ysize": 5}
    background = write_exposure(
        tmp_path / "small_rate.fits",
        sci=np.ones((5, 4), dtype=np.float32),
        metadata={f"meta.subarray.{name}": value for name, value in window.items()},
    )
    output = tmp_path / "o.fits"
    offsky.subtract_file(target, [background], output, uncovered="nan")
    inside = np.zeros(SHAPE, dtype=bool)
    inside[2:7, 1:5] = True
    for name in NAMES:
        assert (np.isfinite(read(output)[name]) == inside).all(), name
    assert ((read(output)["DQ"] & 1 == 0) == inside).all()
