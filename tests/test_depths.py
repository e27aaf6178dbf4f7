"""The depth of exposures and the ratio of their scatter to ERR: measured, used, told."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import offsky
from offsky.combine.depths import Depths, depth_columns, depth_rows, measure_depths
from offsky.files import average_file
from offsky.options import PROFILES
from offsky.outcome import gaps
from offsky.testing import write_exposure

SHAPE = (96, 128)


def noise(
    sigmas: list[float], ratios: list[float], *, share: float = 0.0, seed: int = 1, n: int = 12000
) -> tuple[np.ndarray, np.ndarray]:
    """Draw samples of exposures, and an ERR that is wrong by `ratios`."""
    rng = np.random.default_rng(seed)
    scatter = np.array(sigmas)[:, None]
    sci = 7.0 + rng.normal(0.0, 1.0, (len(sigmas), n)) * scatter
    sci[rng.random(sci.shape) < share] += 30.0
    err = scatter / np.array(ratios)[:, None] * rng.uniform(0.9, 1.1, sci.shape)
    return sci.astype("f4"), err.astype("f4")


def depths_of(sci: np.ndarray, err: np.ndarray | None, *, ratios: bool = True) -> Depths:
    errors = [None] * len(sci) if err is None else list(err)
    return measure_depths(list(sci), errors, ratios=ratios)


@pytest.mark.parametrize(
    ("sigmas", "ratios"),
    [
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]),
        ([1.0, 1.0, 1.0, 3.0], [1.0, 1.0, 1.0, 1.0]),
        ([1.0, 3.0, 3.0, 3.0], [1.0, 1.0, 1.0, 1.0]),
        ([1.0] * 6, [0.5, 0.8, 1.0, 1.3, 2.0, 1.0]),
        ([1.0, 2.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0], [2.0] * 8),
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.02])
def test_ratios_of_scatter_to_err_are_found_at_any_depth(
    sigmas: list[float], ratios: list[float], share: float
) -> None:
    found = depths_of(*noise(sigmas, ratios, share=share))
    assert found.is_measured
    # 12,000 samples: the scatter of one is known to 1.1 %, its part in a mean of three to 3 %.
    # One that is three times deeper than the others is most of the mean it is compared with.
    margin = 0.06 if sigmas.count(3.0) < 2 else 0.2
    np.testing.assert_allclose(found.ratios, ratios, rtol=margin)
    typical = np.array(sigmas) / ratios
    np.testing.assert_allclose(found.typical, typical / np.median(typical), rtol=0.01)


def test_two_exposures_have_one_ratio_in_common() -> None:
    found = depths_of(*noise([1.0, 2.0], [1.5, 1.5]))
    assert found.ratios[0] == found.ratios[1]
    np.testing.assert_allclose(found.ratios, 1.5, rtol=0.04)


def test_a_level_that_was_not_matched_is_no_scatter() -> None:
    sci, err = noise([1.0] * 4, [1.0] * 4)
    sci[2] += 6.0
    np.testing.assert_allclose(depths_of(sci, err).ratios, 1.0, rtol=0.05)


@pytest.mark.parametrize("what", ["constant", "few values", "few pixels", "no err", "zero err"])
def test_where_nothing_tells_the_ratio_err_is_taken_as_it_is(what: str) -> None:
    sci, err = noise([1.0] * 3, [1.0] * 3)
    if what == "constant":
        sci[:] = 5.0
    if what == "few values":
        sci = np.round(sci)
    if what == "few pixels":
        sci, err = sci[:, :200], err[:, :200]
    if what == "zero err":
        err[:] = 0.0
    found = depths_of(sci, None if what == "no err" else err)
    assert not found.is_measured
    np.testing.assert_array_equal(found.ratios, 1.0)


@pytest.mark.parametrize("unusable", [np.nan, 0.0, -1.0, np.inf])
def test_an_exposure_without_a_usable_err_is_as_deep_as_its_scatter_says(unusable: float) -> None:
    sci, err = noise([1.0, 1.0, 1.0, 2.0], [1.0] * 4)
    err[3] = unusable
    found = depths_of(sci, err)
    np.testing.assert_allclose(found.typical, 1.0, rtol=0.01)
    np.testing.assert_allclose(found.ratios, [1.0, 1.0, 1.0, 2.0], rtol=0.06)


def test_trusted_err_is_compared_but_not_measured() -> None:
    found = depths_of(*noise([1.0, 1.0, 3.0], [2.0] * 3), ratios=False)
    assert not found.is_measured
    np.testing.assert_array_equal(found.ratios, 1.0)
    np.testing.assert_allclose(found.typical, [1.0, 1.0, 3.0], rtol=0.02)


@pytest.mark.parametrize("n", [2, 10, 60])
@pytest.mark.parametrize("shape", [(2048, 2048), (1024, 1032), (256, 2048), (8, 8)])
def test_the_samples_that_tell_depths_are_bounded(shape: tuple[int, int], n: int) -> None:
    rows = depth_rows(shape[0])
    columns = range(shape[1])[depth_columns(shape[1], len(rows), n)]
    assert 1 <= len(rows) <= 48
    assert len(rows) * len(columns) * n <= max(2**16, 2**12 * n) * 1.1
    assert rows[-1] < shape[0]


def written(folder: Path, sci: np.ndarray, err: np.ndarray, name: str = "off") -> list[Path]:
    return [
        write_exposure(folder / f"{name}{i}_rate.fits", sci=x.reshape(SHAPE), err=e.reshape(SHAPE))
        for i, (x, e) in enumerate(zip(sci, err, strict=True))
    ]


@pytest.fixture
def averaged(tmp_path: Path) -> Any:
    """Return what averages files with the profile, and gives outcome and table."""

    def average(sci: np.ndarray, err: np.ndarray, **changes: Any) -> tuple[Any, Any]:
        paths = written(tmp_path, sci, err)
        output = tmp_path / "average.fits"
        outcome = average_file(
            paths, output, options=PROFILES["offsky"].changed(**changes), overwrite=True
        )
        with fits.open(output, memmap=False) as hdus:
            return outcome, hdus["BKGINPUT"].data.copy()

    return average


def test_ratios_are_in_the_outcome_the_table_and_a_warning(averaged: Any) -> None:
    sci, err = noise([1.0] * 4, [1.0, 1.0, 1.0, 1.6], n=SHAPE[0] * SHAPE[1])
    outcome, table = averaged(sci, err)
    np.testing.assert_allclose(outcome.err_ratios, [1.0, 1.0, 1.0, 1.6], rtol=0.07)
    np.testing.assert_array_equal(table["ERR_RATIO"], outcome.err_ratios)
    assert outcome.as_dict()["err_ratios"] == outcome.err_ratios
    assert "scatter/ERR:" in str(outcome)
    told = [line for line in gaps(outcome) if "scatter by other than" in line]
    assert len(told) == 1
    assert "1 background of 4" in told[0]
    assert "off3_rate.fits 1.6" in told[0]


def test_err_that_is_trusted_is_not_told_of(averaged: Any) -> None:
    sci, err = noise([1.0] * 4, [1.6] * 4, n=SHAPE[0] * SHAPE[1])
    outcome, table = averaged(sci, err, err_scale="trust")
    assert outcome.err_ratios == ()
    assert "ERR_RATIO" not in table.dtype.names
    assert "scatter/ERR" not in str(outcome)
    # 3.5 of an ERR that is 1.6 times too small is 2.2 of the noise.
    measured, _ = averaged(sci, err)
    assert sum(outcome.n_rejected) > 10 * max(1, sum(measured.n_rejected))


def test_an_exposure_that_loses_many_samples_is_named(averaged: Any) -> None:
    sci, err = noise([1.0] * 4, [1.0] * 4, n=SHAPE[0] * SHAPE[1])
    sci[1, :500] += 50.0
    outcome, _ = averaged(sci, err)
    told = [line for line in gaps(outcome) if "of its samples" in line]
    assert len(told) == 1
    assert told[0].startswith("off1_rate.fits lost 4.")


def test_arrays_are_judged_as_files_are(tmp_path: Path, averaged: Any) -> None:
    sci, err = noise([1.0, 1.0, 3.0, 1.0], [1.3] * 4, share=0.02, n=SHAPE[0] * SHAPE[1])
    outcome, _ = averaged(sci, err, level="none")
    stack = sci.reshape(4, *SHAPE), err.reshape(4, *SHAPE)
    got = offsky.clipped_mean(*stack, options=PROFILES["offsky"])
    assert tuple(got.n_rejected) == outcome.n_rejected
    with fits.open(outcome.output, memmap=False) as hdus:
        np.testing.assert_array_equal(hdus["SCI"].data, got.sci)


def test_shallow_exposures_keep_their_good_samples_and_deep_ones_lose_their_hits() -> None:
    rng = np.random.default_rng(8)
    for sigmas in ([1.0, 1.0, 1.0, 3.0], [1.0, 3.0, 3.0, 3.0]):
        sci, err = noise(sigmas, [1.0] * 4, n=40_000)
        hit = rng.random(40_000) < 0.02
        sci[0, hit] += 10.0
        flags = np.broadcast_to(np.uint32(2) << np.arange(4, dtype="u4")[:, None], sci.shape)
        got = offsky.clipped_mean(sci, err, flags, options=PROFILES["offsky"])
        assert got.dq is not None
        kept = (got.dq & flags) != 0
        # Beyond 3.5 of the error of the difference: (10 / sqrt(1 + 3) - 3.5) = 1.5 sigma.
        assert 1 - kept[0, hit].mean() > 0.9
        assert 1 - kept[:, ~hit].mean() < 0.001


@pytest.mark.parametrize("inflation", [1.0, 3.0, 30.0])
def test_of_two_a_hit_that_inflates_its_own_err_is_found(inflation: float) -> None:
    sci, err = noise([1.0, 1.0], [1.0, 1.0])
    sci[1, 5], err[1, 5] = sci[1, 5] + 15.0, inflation * err[1, 5]
    flags = np.broadcast_to(np.array([[2], [4]], "u4"), sci.shape)
    got = offsky.clipped_mean(sci, err, flags, options=PROFILES["offsky"])
    assert got.dq is not None
    assert got.dq[5] == 2


def test_an_exposure_whose_err_is_all_zero_is_said(
    averaged: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sci, err = noise([1.0] * 3, [1.0] * 3, n=SHAPE[0] * SHAPE[1])
    err[2] = 0.0
    with caplog.at_level(logging.WARNING):
        outcome, _ = averaged(sci, err)
    assert "off2_rate.fits: ERR is zero, negative or not finite" in caplog.text
    np.testing.assert_allclose(outcome.err_ratios, 1.0, rtol=0.08)
