"""Integrations are averaged first, then exposures: any mixture of images and cubes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from averages import combine_rows
from oracle import assert_average, average_of_exposures, read_pixels

import offsky
from offsky.options import Options
from offsky.testing import encoded_pixels, write_exposure
from offsky.values.exposure import Rows

MIXTURES = [
    (None, (None, None, None)),
    (None, (4,)),
    (None, (3, 5, 4)),
    (None, (None, 6, None, 1)),
    (2, (None, None)),
    (2, (3, None, 5)),
    (1, (1, 1)),
]


@pytest.mark.parametrize("sigma", [1.3, 3.0])
@pytest.mark.parametrize(("target", "backgrounds"), MIXTURES)
def test_any_mixture_of_images_and_cubes_agrees_with_plain_astropy(
    engine: Any,
    folder: Path,
    exposures: Any,
    target: int | None,
    backgrounds: tuple[int | None, ...],
    sigma: float,
) -> None:
    target_path, paths = exposures(target, backgrounds)
    offsky.subtract_file(target_path, paths, "result.fits", sigma=sigma)
    offsky.average_file(paths, "average.fits", sigma=sigma)

    expected = average_of_exposures([read_pixels(path) for path in paths], sigma)
    sci, err, dq = read_pixels(Path("average.fits"))
    assert_average(
        offsky.ClippedMean(sci, err, dq, expected.n_kept, expected.n_rejected), expected
    )

    before, result = read_pixels(target_path), read_pixels(Path("result.fits"))
    assert result[0].shape == before[0].shape
    level = np.where(expected.n_kept > 0, sci, np.float32(0.0))
    np.testing.assert_array_equal(result[0], before[0] - level)
    np.testing.assert_array_equal(result[1], before[1])
    np.testing.assert_array_equal(result[2], before[2] | dq)


@pytest.mark.parametrize(("target", "backgrounds"), MIXTURES)
def test_every_pixel_keeps_its_exposure_integration_row_and_column(
    folder: Path, target: int | None, backgrounds: tuple[int | None, ...]
) -> None:
    ny, nx = 41, 29
    images, paths = [], []
    for i, nints in enumerate((target, *backgrounds)):
        images.append(encoded_pixels(i, nints, ny, nx))
        paths.append(write_exposure(folder / f"e{i}.fits", sci=images[-1], dq=2**i))
    offsky.subtract_file(paths[0], paths[1:], "result.fits", maxiters=0)
    mean = np.mean(
        [a.astype(float).mean(0) if a.ndim == 3 else a.astype(float) for a in images[1:]], axis=0
    )
    sci, _, dq = read_pixels(Path("result.fits"))
    # The average is rounded to float32 (half a unit of some 1e4), the difference once more.
    np.testing.assert_allclose(sci, images[0] - mean, atol=0.01)
    assert abs(np.diff(sci - images[0], axis=-1)).min() > 0.9
    assert (dq == 2 ** len(paths) - 1).all()


def test_err_of_a_cube_is_that_of_the_mean_over_kept_integrations(engine: Any) -> None:
    # Twenty integrations with ERR 1 have a mean with ERR 0.224, not 1.
    cube = Rows(np.zeros((20, 1, 2), "f4"), np.ones((20, 1, 2), "f4"), np.zeros((20, 1, 2), "u4"))
    cube.sci[3, 0, 1] = np.nan
    got = combine_rows([cube], Options())
    assert got.err is not None
    np.testing.assert_allclose(got.err[0], [1 / np.sqrt(20), 1 / np.sqrt(19)], rtol=1e-7)


def test_a_pixel_without_kept_integrations_contributes_nothing(engine: Any) -> None:
    # 10 and nothing make 10; with a zero they would make 5.
    shape = (4, 1, 1)
    empty = Rows(np.full(shape, np.nan, "f4"), np.ones(shape, "f4"), np.full(shape, 2, "u4"))
    full = Rows(np.full(shape, 10.0, "f4"), np.ones(shape, "f4"), np.full(shape, 1, "u4"))
    got = combine_rows([full, empty], Options())
    assert got.sci.tolist() == [[10.0]]
    assert got.n_kept.tolist() == [[1]]
    assert got.err is not None
    assert got.err.tolist() == [[0.5]]
    assert got.dq is not None
    assert got.dq.tolist() == [[3]]


def test_err_of_an_integration_that_was_clipped_does_not_count(engine: Any) -> None:
    sci, err = np.zeros((12, 1, 1), "f8"), np.ones((12, 1, 1), "f8")
    sci[5], err[5] = 1000.0, 500.0
    got = combine_rows([Rows(sci, err, None)], Options())
    assert got.err is not None
    np.testing.assert_allclose(got.err, 1 / np.sqrt(11), rtol=1e-7)
    assert got.n_rejected.tolist() == [1]


def test_exposures_count_alike_whatever_their_number_of_integrations(folder: Path) -> None:
    one = write_exposure(folder / "a.fits", sci=np.full((3, 4), 10.0, "f4"))
    many = write_exposure(folder / "b.fits", sci=np.full((9, 3, 4), 20.0, "f4"))
    offsky.average_file([one, many], "average.fits")
    assert (fits.getdata("average.fits", "SCI") == 15.0).all()


def test_integrations_and_exposures_that_were_rejected_are_counted(folder: Path) -> None:
    cube = np.zeros((12, 3, 4), "f4")
    cube[7, 1, 2] = 100.0
    paths = [write_exposure(folder / "cube.fits", sci=cube)]
    for i in range(11):
        sci = np.zeros((3, 4), "f4")
        sci[0, 0] = 50.0 * (i == 4)
        paths.append(write_exposure(folder / f"image{i}.fits", sci=sci))
    outcome = offsky.average_file(paths, "average.fits")
    assert outcome.n_rejected == (1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    assert outcome.n_samples == 12 * (12 + 11)
