"""Levels, and what is fitted to a target, through every door."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from doors import Door, DoorError, How
from plain import pixels
from scenes import SHAPE, Job, write

COLUMNS = {1: slice(0, 30), 2: slice(10, 48), 3: slice(24, 48)}


def masked_in_strips(folder: Path, columns: dict[int, slice]) -> Job:
    """Write a target and backgrounds whose masks leave these columns of each."""
    folder.mkdir()
    masks = []
    for number, usable in columns.items():
        mask = np.ones(SHAPE, np.uint8)
        mask[:, usable] = 0
        masks.append(folder / f"mask{number}.fits")
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(mask, name="MASK")]).writeto(masks[-1])
    backgrounds = tuple(write(folder, number) for number in columns)
    return Job(write(folder, 0), backgrounds, tuple(masks))


def test_masks_that_connect_backgrounds_in_pairs_leave_levels_to_match(
    door: Door, tmp_path: Path
) -> None:
    # The first and the last have six columns in common; the second has them all.
    job = masked_in_strips(tmp_path / "in", COLUMNS)
    options = {"level": "offset", "reject": "none"}
    (made,) = door.make([job], tmp_path / "out", options, How(average=True))
    assert made.average is not None
    average = pixels(made.average)
    # Levels 10.4, 9.7 and 10.1 at any pixel, whichever of them it has.
    sky = 0.95 + 0.1 * np.arange(SHAPE[1]) / SHAPE[1] + 0.06 * np.arange(SHAPE[0])[:, None] / 40
    left = np.nanmedian(average[:, :10] - 10.067 * sky[:, :10])
    right = np.nanmedian(average[:, 30:] - 10.067 * sky[:, 30:])
    assert left == pytest.approx(0, abs=0.1)
    assert right == pytest.approx(left, abs=0.15)


def test_a_background_that_is_connected_with_none_stops_the_product_and_is_named(
    door: Door, tmp_path: Path
) -> None:
    job = masked_in_strips(tmp_path / "in", {1: slice(0, 20), 2: slice(0, 22), 3: slice(24, 48)})
    with pytest.raises(DoorError) as caught:
        door.make([job], tmp_path / "out", {"level": "offset"})
    said = " ".join(str(caught.value).split())
    assert f"{job.backgrounds[2].name}: too few usable pixels in common" in said
    assert "or use the option level none" in said
    assert not list((tmp_path / "out").glob("*_bsub*"))


def test_a_factor_of_levels_near_zero_is_warned_of(
    door: Door, tmp_path: Path, caplog: Any
) -> None:
    (tmp_path / "in").mkdir()
    paths = [write(tmp_path / "in", number) for number in range(4)]
    for path in paths[1:]:
        with fits.open(path, mode="update") as hdus:
            hdus["SCI"].data[:] -= np.float32(10.05)
    job = Job(paths[0], tuple(paths[1:]))
    door.make([job], tmp_path / "out", {"level": "scale"})
    told = [each for each in door.warnings(caplog) if "below the noise of a sample" in each]
    assert len(told) == 1
    assert told[0].endswith("use level = offset")


def constant_above(folder: Path, constant: float) -> Job:
    """Write a target that lies a constant above its backgrounds, whose sky has structure."""
    folder.mkdir()
    rng = np.random.default_rng(4)
    sky = 10 + 2 * np.sin(np.arange(SHAPE[0]) / 9)[:, np.newaxis] * np.ones(SHAPE)
    paths = []
    for number in range(4):
        paths.append(write(folder, number))
        with fits.open(paths[-1], mode="update") as hdus:
            above = constant if number == 0 else 0.0
            hdus["SCI"].data[:] = sky + above + rng.normal(0, 0.3, SHAPE)
            hdus["ERR"].data[:] = 0.3
            hdus["DQ"].data[:] = 0
            hdus["VAR_RNOISE"].data[:] = 0.09
            hdus["VAR_POISSON"].data[:] = hdus["VAR_FLAT"].data[:] = 0
    return Job(paths[0], tuple(paths[1:]))


@pytest.mark.slow
def test_a_constant_that_is_given_is_subtracted_and_recorded(door: Door, tmp_path: Path) -> None:
    job = constant_above(tmp_path / "in", 0.75)
    (plain,) = door.make([job], tmp_path / "plain", {})
    (made,) = door.make([job], tmp_path / "out", {"target_offset": 0.75})
    np.testing.assert_allclose(pixels(made.product), pixels(plain.product) - 0.75, atol=2e-6)
    np.testing.assert_array_equal(pixels(made.product, "ERR"), pixels(plain.product, "ERR"))
    header = fits.getheader(made.product)
    assert header["OFFCONST"] == 0.75
    assert "OFFCNERR" not in header
    assert "OFFCONST" not in fits.getheader(plain.product)
    assert made.outcome is not None
    assert (made.outcome["target_offset"], made.outcome["target_offset_error"]) == (0.75, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, "fit"])
def test_a_constant_is_fitted_recorded_and_in_the_errors(
    door: Door, tmp_path: Path, scale: Any
) -> None:
    job = constant_above(tmp_path / "in", 0.75)
    options = {"target_offset": "fit", "target_scale": scale, "errors": "propagate"}
    (made,) = door.make([job], tmp_path / "out", options)
    header, outcome = fits.getheader(made.product), made.outcome
    assert outcome is not None
    assert header["OFFCONST"] == pytest.approx(0.75, abs=5 * header["OFFCNERR"])
    # 1920 pixels; beside a factor the constant is known by the structure of the sky alone.
    assert 0.007 < header["OFFCNERR"] < (0.01 if scale == 1.0 else 0.1)
    assert outcome["target_offset"] == pytest.approx(header["OFFCONST"])
    assert outcome["target_offset_error"] == pytest.approx(header["OFFCNERR"])
    assert ("OFFSCCOV" in header) == (scale == "fit")
    expected = 0.09 + 0.09 / 3 + header["OFFCNERR"] ** 2
    if scale == "fit":
        assert header["OFFSCALE"] == pytest.approx(1, abs=5 * header["OFFSCERR"])
        assert header["OFFSCCOV"] < 0
        assert outcome["target_scale_error"] == pytest.approx(header["OFFSCERR"])
        b = 10 + 2 * np.sin(np.arange(SHAPE[0]) / 9)
        more = b**2 * header["OFFSCERR"] ** 2 + 2 * b * header["OFFSCCOV"]
        expected = 0.09 + header["OFFSCALE"] ** 2 * 0.03 + header["OFFCNERR"] ** 2 + more
    variance = pixels(made.product, "VAR_RNOISE")
    # The sky of the average is known within its noise.
    np.testing.assert_allclose(np.median(variance, axis=1), expected, rtol=1e-3)
    np.testing.assert_allclose(pixels(made.product, "ERR"), np.sqrt(variance), rtol=1e-6)


def test_a_flat_sky_does_not_tell_a_factor_from_a_constant(door: Door, tmp_path: Path) -> None:
    job = constant_above(tmp_path / "in", 0.75)
    rng = np.random.default_rng(8)
    for path in (job.target, *job.backgrounds):
        with fits.open(path, mode="update") as hdus:
            hdus["SCI"].data[:] = rng.normal(10, 0.3, SHAPE)
    with pytest.raises(DoorError, match=r"cannot\s+be\s+told\s+apart"):
        door.make([job], tmp_path / "out", {"target_offset": "fit", "target_scale": "fit"})


def test_a_factor_of_a_faint_sky_is_warned_of(door: Door, tmp_path: Path, caplog: Any) -> None:
    job = constant_above(tmp_path / "in", 0.1)
    for path in (job.target, *job.backgrounds):
        with fits.open(path, mode="update") as hdus:
            hdus["SCI"].data[:] -= np.float32(9.9)
            hdus["SCI"].data[:] *= np.float32(0.1)
            hdus["SCI"].data[:] += np.float32(0.15)
    door.make([job], tmp_path / "out", {"target_scale": "fit"})
    told = [each for each in door.warnings(caplog) if "below the noise of a sample" in each]
    assert len(told) == 1
    assert "fit target_offset" in told[0]


@pytest.mark.slow
def test_the_profile_leaves_out_samples_with_persistence(door: Door, tmp_path: Path) -> None:
    job = constant_above(tmp_path / "in", 0.0)
    with fits.open(job.backgrounds[1], mode="update") as hdus:
        hdus["SCI"].data[10:14, 20:24] += np.float32(0.6)  # too little to be rejected
        hdus["DQ"].data[10:14, 20:24] |= 32
    averages = {
        options.get("bad_bits", 33): pixels(
            door.make([job], tmp_path / str(options), options, How(average=True))[0].average
        )
        for options in ({"profile": "offsky"}, {"profile": "offsky", "bad_bits": 1})
    }
    lit = np.zeros(SHAPE, np.bool_)
    lit[10:14, 20:24] = True
    assert np.median(averages[1][lit] - averages[33][lit]) > 0.1
    np.testing.assert_array_equal(averages[1][~lit], averages[33][~lit])
