"""The factor on the average: given, or fitted, with its error."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import offsky
from offsky.measure.fit import fit_coefficients
from offsky.options import PROFILES, Options
from offsky.testing import assert_same_bits, file_digest, write_exposure

Array = np.ndarray[Any, np.dtype[Any]]
GAIN = 100.0
READ = 0.05


def draw(rng: np.random.Generator, light: Array) -> tuple[Array, Array]:
    """Return a noisy image and its ERR, estimated from the image itself."""
    sci = rng.poisson(light * GAIN) / GAIN + rng.normal(0, READ, light.shape)
    return sci, np.sqrt(np.clip(sci, 0, None) / GAIN + READ**2)


def fitted(seed: int, factor: float, sources: float = 0.02) -> Any:
    rng = np.random.default_rng(seed)
    columns = np.linspace(-1, 1, 512)
    sky = 4 * (1 + 0.1 * columns) * rng.normal(1, 0.02, (200, 512))
    target, target_err = draw(rng, factor * sky)
    bright = rng.random(sky.shape) < sources
    target[bright] += 5 + rng.exponential(3, int(bright.sum()))
    images = [draw(rng, sky) for _ in range(4)]
    average = np.mean([sci for sci, _ in images], axis=0)
    average_err = np.sqrt(np.sum([err**2 for _, err in images], axis=0)) / 4
    return fit_coefficients(target, target_err, average, average_err)


def test_the_factor_is_found_within_its_error() -> None:
    found = [fitted(seed, 1.013) for seed in range(12)]
    pulls = np.array([(each.factor - 1.013) / each.factor_error for each in found])
    # The error is 2e-4; weights by each pixel's own ERR would be off by 2e-3.
    assert found[0].factor_error < 3e-4
    assert abs(pulls.mean()) < 1.2
    assert 0.5 < pulls.std() < 1.6


def test_a_negative_factor_and_a_small_one_are_found_too() -> None:
    rng = np.random.default_rng(5)
    sky = rng.normal(10, 2, (64, 256))
    for factor in (-0.3, 0.001, 7.0):
        target = factor * sky + rng.normal(0, 0.1, sky.shape)
        found = fit_coefficients(target, np.full(sky.shape, 0.1), sky, np.full(sky.shape, 1e-4))
        assert found.factor == pytest.approx(factor, abs=5 * found.factor_error)


def test_no_factor_is_made_up_of_noise_or_of_nothing() -> None:
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 1, (64, 256))
    ones = np.ones(noise.shape)
    with pytest.raises(offsky.ExposureMismatchError, match="zero within its errors"):
        fit_coefficients(rng.normal(0, 1, noise.shape), ones, noise, ones)
    with pytest.raises(offsky.ExposureMismatchError, match="nothing can be fitted"):
        fit_coefficients(np.full(noise.shape, np.nan), ones, ones, ones)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write a target whose sky is 1.05 times that of three backgrounds."""
    rng = np.random.default_rng(11)
    sky = 4 * rng.normal(1, 0.02, (96, 300))
    paths = []
    for i, factor in enumerate((1.05, 1, 1, 1)):
        sci, err = draw(rng, factor * sky)
        if i == 0:
            sci[20:24, 100:104] += 30
        path = tmp_path / f"e{i}_rate.fits"
        exposure = write_exposure(path, sci=sci.astype("f4"), err=err.astype("f4"), variances=True)
        paths.append(exposure)
    return paths


def test_a_fitted_factor_is_recorded_with_its_error(files: list[Path], tmp_path: Path) -> None:
    before = [file_digest(path) for path in files]
    output, combined = tmp_path / "result_bsub.fits", tmp_path / "average.fits"
    outcome = offsky.subtract_file(
        files[0], files[1:], output, combined_path=combined, target_scale="fit"
    )
    assert outcome.target_scale == pytest.approx(1.05, abs=5 * outcome.target_scale_error)
    assert 0 < outcome.target_scale_error < 1e-3
    header = fits.getheader(output)
    assert header["OFFSCALE"] == pytest.approx(outcome.target_scale)
    assert header["OFFSCERR"] == pytest.approx(outcome.target_scale_error)
    target, average = fits.getdata(files[0], "SCI"), fits.getdata(combined, "SCI")
    expected = (target - outcome.target_scale * average.astype("f8")).astype("f4")
    np.testing.assert_allclose(fits.getdata(output, "SCI"), expected, atol=1e-6)
    assert abs(np.median(fits.getdata(output, "SCI"))) < 0.005
    assert [file_digest(path) for path in files] == before


@pytest.mark.parametrize("scale", ["fit", 1.25, -1.0, 0.0])
def test_files_equal_models_and_errors_have_the_factor(
    files: list[Path], tmp_path: Path, scale: Any
) -> None:
    options = PROFILES["offsky"].changed(target_scale=scale)
    result = offsky.subtract(files[0], files[1:], options=options)
    output = tmp_path / "result_bsub.fits"
    outcome = offsky.subtract_file(files[0], files[1:], output, options=options)
    with fits.open(output, memmap=False) as hdus:
        for name in ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE"):
            own = result["data" if name == "SCI" else name.lower()]
            assert_same_bits(hdus[name].data, np.asarray(own))
        variance = fits.getdata(files[0], "VAR_POISSON") + fits.getdata(files[0], "VAR_RNOISE")
        added = hdus["ERR"].data ** 2 - variance
    background = np.mean([fits.getdata(path, "ERR") ** 2 for path in files[1:]], axis=0) / 3
    ratio = np.median(added) / np.median(background)
    assert ratio == pytest.approx(outcome.target_scale**2, rel=0.03, abs=1e-3)


def test_a_given_factor_has_no_error(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "result_bsub.fits"
    outcome = offsky.subtract_file(files[0], files[1:], output, target_scale=1.1)
    assert (outcome.target_scale, outcome.target_scale_error) == (1.1, 0.0)
    header = fits.getheader(output)
    assert header["OFFSCALE"] == 1.1
    assert "OFFSCERR" not in header


def test_sources_of_the_target_are_left_out_of_the_fit(files: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("sep")
    # A faint glow over a sixth of the image: below the clip, above the finder's threshold.
    with fits.open(files[0], mode="update", memmap=False) as hdus:
        hdus["SCI"].data[30:62, 20:170] += 0.35
    plain = offsky.subtract_file(files[0], files[1:], tmp_path / "a.fits", target_scale="fit")
    masked = offsky.subtract_file(
        files[0], files[1:], tmp_path / "b.fits", target_scale="fit", mask_sources=True
    )
    assert plain.target_scale > 1.06
    assert masked.target_scale == pytest.approx(1.05, abs=2e-3)


def test_a_cube_is_fitted_by_the_mean_of_its_integrations(
    files: list[Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    sky = fits.getdata(files[1], "SCI").astype("f8")
    cube = np.stack([draw(rng, 0.9 * sky)[0] for _ in range(4)]).astype("f4")
    target = write_exposure(tmp_path / "cube.fits", sci=cube, err=0.2)
    outcome = offsky.subtract_file(target, files[1:2], tmp_path / "c.fits", target_scale="fit")
    assert outcome.target_scale == pytest.approx(0.9, abs=5e-3)


def test_a_whole_programme_fits_each_target(files: list[Path], tmp_path: Path) -> None:
    """The same numbers as one by one, from an average shared by two targets."""
    from offsky.programme.job import GroupJob, make_group
    from offsky.programme.plan import PlannedProduct

    options = Options(target_scale="fit", level="offset")
    products = tuple(
        PlannedProduct(
            output=f"{i}_bsub.fits",
            target=str(files[i]),
            backgrounds=tuple(str(path) for path in files[2:]),
            options=options,
            force=True,
        )
        for i in (0, 1)
    )
    (tmp_path / "out" / ".offsky").mkdir(parents=True)
    job = GroupJob(products=products, folder=str(tmp_path / "out"), threads=2)
    for made in make_group(job):
        assert made.status == "COMPLETE", made.reason
    for i in (0, 1):
        alone = tmp_path / f"alone{i}.fits"
        offsky.subtract_file(files[i], files[2:], alone, options=options)
        together = tmp_path / "out" / f"{i}_bsub.fits"
        assert_same_bits(fits.getdata(together, "SCI"), fits.getdata(alone, "SCI"))
        assert fits.getheader(together)["OFFSCALE"] == fits.getheader(alone)["OFFSCALE"]


@pytest.mark.slow
@pytest.mark.parametrize("n_cards", range(36))
def test_a_header_is_laid_out_with_room_for_what_is_fitted(
    files: list[Path], tmp_path: Path, n_cards: int
) -> None:
    with fits.open(files[0], mode="update") as hdus:
        for i in range(n_cards):
            hdus[0].header[f"MORE{i}"] = i
    outcome = offsky.subtract_file(
        files[0], files[1:], tmp_path / "result_bsub.fits", target_scale="fit"
    )
    assert fits.getheader(tmp_path / "result_bsub.fits")["OFFSCERR"] == pytest.approx(
        outcome.target_scale_error
    )
