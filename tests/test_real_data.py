"""The whole job on real exposures, against plain astropy written out here.

What to expect of them is told in shared/data/README.md, beside the files.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import mad_std, sigma_clip
from oracle import fits_parts, foreign_cards

import offsky
from offsky.testing import file_digest


def nods(data: Path) -> list[Path]:
    return sorted((data / "nirspec_nod").glob("*.fits"))


def miri_backgrounds(data: Path) -> list[Path]:
    return sorted((data / "miri_4qpm").glob("jw01277022001*.fits")) + sorted(
        (data / "miri_4qpm").glob("jw01194019001*.fits")
    )


def miri_dithers(data: Path) -> list[Path]:
    return sorted((data / "miri_4qpm").glob("jw01194015001*.fits"))


def read(path: Path | str, name: str) -> np.ndarray:
    with fits.open(path, memmap=False) as hdus:
        data = np.array(hdus[name].data)
    return data.astype(data.dtype.newbyteorder("="))


def plain_astropy(paths: list[Path], sigma: float) -> dict[str, np.ndarray]:
    """Average files with nothing but astropy and NumPy; cubes of one integration as images."""
    stacks = {}
    for name in ("SCI", "ERR", "DQ"):
        arrays = [read(path, name) for path in paths]
        stacks[name] = np.stack([a[0] if a.ndim == 3 else a for a in arrays])
    sci, err = stacks["SCI"].astype(float), stacks["ERR"].astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NaN are clipped: said, and meant
        clipped = sigma_clip(sci, sigma=sigma, maxiters=None, axis=0)
    kept = ~np.ma.getmaskarray(clipped)
    n_kept = kept.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        known = kept & np.isfinite(err)
        variance = np.where(known, err, 0.0) ** 2
        return {
            "SCI": np.where(kept, sci, 0.0).sum(axis=0) / n_kept,
            "ERR": np.sqrt(variance.sum(axis=0) * n_kept / known.sum(axis=0)) / n_kept,
            "DQ": np.bitwise_or.reduce(stacks["DQ"], axis=0),
            "n_kept": n_kept,
            "n_rejected": (np.isfinite(sci) & ~kept).sum(axis=(1, 2)),
        }


SETS: list[Any] = [
    pytest.param(lambda d: (nods(d)[0], nods(d)[1:]), id="NIRSpec nod 1"),
    pytest.param(lambda d: (nods(d)[1], nods(d)[::2]), id="NIRSpec nod 2"),
    pytest.param(
        lambda d: (miri_backgrounds(d)[0], miri_backgrounds(d)[1:2]), id="MIRI null test"
    ),
    pytest.param(lambda d: (miri_dithers(d)[0], miri_backgrounds(d)), id="MIRI star"),
    pytest.param(lambda d: (miri_backgrounds(d)[0], miri_dithers(d)), id="MIRI dithers"),
]


@pytest.mark.parametrize("sigma", [1.5, 3.0])
@pytest.mark.parametrize("files", SETS)
def test_real_exposures_agree_with_plain_astropy(
    engine: Any, shared_data: Path, folder: Path, files: Any, sigma: float
) -> None:
    target, backgrounds = files(shared_data)
    before = {path: file_digest(path) for path in (target, *backgrounds)}
    outcome = offsky.subtract_file(
        target, backgrounds, "result.fits", sigma=sigma, combined_path="average.fits"
    )
    expected = plain_astropy(backgrounds, sigma)

    sci, err = read("average.fits", "SCI"), read("average.fits", "ERR")
    np.testing.assert_allclose(sci, expected["SCI"], rtol=1.2e-7, atol=1e-12)
    np.testing.assert_allclose(err, expected["ERR"], rtol=1.2e-7)
    np.testing.assert_array_equal(read("average.fits", "DQ"), expected["DQ"])
    np.testing.assert_array_equal(outcome.n_rejected, expected["n_rejected"])
    assert outcome.n_uncovered == np.count_nonzero(expected["n_kept"] == 0)

    level = np.where(expected["n_kept"] > 0, sci, 0.0).astype(np.float32)
    np.testing.assert_array_equal(read("result.fits", "SCI"), read(target, "SCI") - level)
    np.testing.assert_array_equal(read("result.fits", "ERR"), read(target, "ERR"))
    np.testing.assert_array_equal(read("result.fits", "DQ"), read(target, "DQ") | expected["DQ"])
    assert {path: file_digest(path) for path in before} == before


@pytest.mark.parametrize("files", SETS[::2])
def test_everything_else_in_a_real_file_arrives_unchanged(
    shared_data: Path, folder: Path, files: Any
) -> None:
    target, backgrounds = files(shared_data)
    offsky.subtract_file(target, backgrounds, "result.fits")
    before, after = fits_parts(target), fits_parts(folder / "result.fits")
    assert [name for name, _, _ in after] == [name for name, _, _ in before]
    assert foreign_cards(after[0][1]) == foreign_cards(before[0][1])
    for (name, header, data), (_, old_header, old_data) in zip(after[1:], before[1:], strict=True):
        assert header == old_header, name
        assert data == old_data or name in ("SCI", "DQ"), name


def test_a_nod_minus_the_average_of_the_other_two_leaves_the_known_residual(
    shared_data: Path, folder: Path
) -> None:
    first, *others = nods(shared_data)
    offsky.subtract_file(first, others, "result.fits")
    assert np.nanmedian(read("result.fits", "SCI")) == pytest.approx(0.0024, abs=0.0001)


def test_a_background_minus_another_leaves_the_known_level_and_scatter(
    shared_data: Path, folder: Path
) -> None:
    first, second = miri_backgrounds(shared_data)[:2]
    outcome = offsky.subtract_file(first, [second], "result.fits")
    residual = read("result.fits", "SCI")
    assert np.nanmedian(residual) == pytest.approx(-0.15, abs=0.01)
    assert mad_std(residual, ignore_nan=True) == pytest.approx(0.35, abs=0.01)
    assert outcome.unit == "MJy/sr"


@pytest.mark.parametrize("files", SETS[::2])
def test_results_of_real_files_open_as_the_models_they_were(
    shared_data: Path, folder: Path, files: Any
) -> None:
    from stdatamodels.jwst import datamodels

    target, backgrounds = files(shared_data)
    offsky.subtract_file(target, backgrounds, "result.fits")
    # Such files do not keep to today's schemas; that is not the step's doing.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with datamodels.open(target) as before, datamodels.open("result.fits") as after:
            assert type(after) is type(before)
            assert after.meta.cal_step.bkg_subtract == "COMPLETE"
            assert after.meta.filename == "result.fits"
            np.testing.assert_array_equal(after.data, read("result.fits", "SCI"))
            model = offsky.subtract(before, backgrounds)
        np.testing.assert_array_equal(model.data, read("result.fits", "SCI"))
        np.testing.assert_array_equal(model.dq, read("result.fits", "DQ"))
        model.close()
