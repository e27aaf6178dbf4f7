"""The constant that is subtracted with the average: fitted alone or with the factor."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import offsky
from offsky.measure.fit import fit_coefficients
from offsky.options import PROFILES
from offsky.testing import write_exposure

Array = np.ndarray[Any, np.dtype[Any]]
SHAPE = (128, 1024)


def sky_of(shape: tuple[int, int]) -> Array:
    rows, columns = np.indices(shape)
    return 4 + 0.4 * np.sin(columns / 130) + 0.3 * rows / shape[0]


def fitted(seed: int, factor: float | None, offset: float | None, sources: float = 0.02) -> Any:
    """Fit to a target of 1.1 times the sky and 0.3; what is given is given rightly."""
    rng = np.random.default_rng(seed)
    sky = sky_of(SHAPE)
    target = 1.1 * sky + 0.3 + rng.normal(0, 0.2, SHAPE)
    target[rng.random(SHAPE) < sources] += 8
    average = sky + rng.normal(0, 0.1, SHAPE)
    errors = np.full(SHAPE, 0.2), np.full(SHAPE, 0.1)
    return fit_coefficients(target, errors[0], average, errors[1], factor=factor, offset=offset)


@pytest.mark.parametrize(("factor", "offset"), [(1.1, None), (None, 0.3), (None, None)])
def test_factor_and_constant_are_found_within_their_errors(factor: Any, offset: Any) -> None:
    found = [fitted(seed, factor, offset) for seed in range(16)]
    for name, truth, is_given in (("factor", 1.1, factor), ("offset", 0.3, offset)):
        values = np.array([getattr(each, name) for each in found])
        errors = np.array([getattr(each, f"{name}_error") for each in found])
        if is_given is not None:
            assert (values == truth).all()
            assert (errors == 0).all()
            continue
        pulls = (values - truth) / errors
        assert abs(pulls.mean()) < 1.0
        assert 0.6 < pulls.std() < 1.5
    if factor is None and offset is None:
        # High factors go with low constants, nearly along one line.
        one = found[0]
        correlation = one.covariance / one.factor_error / one.offset_error
        assert -1 < correlation < -0.98


def test_a_flat_average_fits_a_constant_and_no_factor_beside_it() -> None:
    rng = np.random.default_rng(3)
    ones = np.ones(SHAPE)
    average = 5 + rng.normal(0, 0.1, SHAPE)
    target = average + 0.7 + rng.normal(0, 0.2, SHAPE)
    found = fit_coefficients(target, 0.2 * ones, average, 0.1 * ones, factor=1.0, offset=None)
    assert found.offset == pytest.approx(0.7, abs=5 * found.offset_error)
    assert not found.is_faint
    with pytest.raises(offsky.ExposureMismatchError, match="fit one of target_scale and"):
        fit_coefficients(target, 0.2 * ones, average, 0.1 * ones, factor=None, offset=None)


def expose(path: Path, light: Array, nints: int | None, rng: np.random.Generator) -> Path:
    """Write an exposure of known noise, half of it of each kind."""
    shape = light.shape if nints is None else (nints, *light.shape)
    sci = (light + rng.normal(0, 0.2, shape)).astype("f4")
    half = np.full(shape, 0.02, "f4")
    write_exposure(path, sci=sci, err=np.full(shape, 0.2, "f4"), variances=True)
    with fits.open(path, mode="update") as hdus:
        hdus["VAR_POISSON"].data[:] = hdus["VAR_RNOISE"].data[:] = half
    return path


@pytest.mark.parametrize("nints", [None, 2])
@pytest.mark.parametrize(
    "n", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 4, 6, 8, 10))]
)
def test_err_is_the_scatter_about_the_truth_with_both_fitted(
    tmp_path: Path, n: int, nints: int | None
) -> None:
    rng = np.random.default_rng([n, nints or 0])
    sky = sky_of((400, 640))
    target = expose(tmp_path / "t_rate.fits", 1.2 * sky + 0.5, nints, rng)
    skies = [expose(tmp_path / f"b{i}_rate.fits", sky, nints, rng) for i in range(n)]
    options = PROFILES["offsky"].changed(target_scale="fit", target_offset="fit", level="none")
    outcome = offsky.subtract_file(target, skies, tmp_path / "p_bsub.fits", options=options)
    assert outcome.target_scale == pytest.approx(1.2, abs=5 * outcome.target_scale_error)
    assert outcome.target_offset == pytest.approx(0.5, abs=5 * outcome.target_offset_error)
    with fits.open(tmp_path / "p_bsub.fits", memmap=False) as hdus:
        pulls = hdus["SCI"].data.astype("f8") / hdus["ERR"].data
    # Of 256000 pixels, the scatter is known to 0.14 %.
    assert np.std(pulls) == pytest.approx(1, abs=5e-3)
    assert abs(np.mean(pulls)) < 5 / 640


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"target_offset": "fit"}, r"subtracted:   the average plus 0\.\d+ ± \S+ DN/s\n"),
        ({"target_scale": "fit"}, r"subtracted:   [01]\.\d+ ± \S+ times the average\n"),
        (
            {"target_scale": "fit", "target_offset": 0.5},
            r"subtracted:   [01]\.\d+ ± \S+ times the average plus 0\.5 DN/s\n",
        ),
        (
            {"target_scale": "fit", "target_offset": "fit"},
            r"subtracted:   \S+ ± \S+ times the average plus \S+ ± \S+ DN/s\n",
        ),
    ],
)
def test_the_summary_tells_what_was_fitted(tmp_path: Path, options: Any, told: str) -> None:
    rng = np.random.default_rng(7)
    sky = sky_of((64, 512))
    target = expose(tmp_path / "t_rate.fits", sky + 0.5, None, rng)
    skies = [expose(tmp_path / f"b{i}_rate.fits", sky, None, rng) for i in range(2)]
    outcome = offsky.subtract_file(target, skies, tmp_path / "p_bsub.fits", **options)
    assert re.search(told, str(outcome)), str(outcome)
