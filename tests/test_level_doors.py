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
