"""Levels of backgrounds: found, matched, put back, in files as in models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from averages import sample_levels
from hypothesis import given, settings
from hypothesis import strategies as st

import offsky
from offsky.combine.images import Adjustments, combine_images, make_image
from offsky.measure.levels import clipped_median, even_rows, match_levels
from offsky.options import Options
from offsky.testing import assert_same_bits, file_digest, simulate_exposures, write_exposure
from offsky.values.exposure import Rows
from offsky.values.in_memory import ArrayExposure
from offsky.values.mask import PackedMask

Array = np.ndarray[Any, np.dtype[Any]]


def drifted(n: int, offsets: Array, shape: tuple[int, int] = (256, 256)) -> Array:
    """Return backgrounds with stars, hot pixels and gaps, and known offsets."""
    scene = simulate_exposures(shape, n_backgrounds=n, seed=5, level_drift=0.0)
    stack = [b.sci + np.float32(d) for b, d in zip(scene.backgrounds, offsets, strict=True)]
    return np.stack(stack)


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_offsets_are_found_to_a_few_hundredths_of_the_noise(n: int) -> None:
    offsets = np.linspace(-0.4, 0.6, n)
    match = match_levels(drifted(n, offsets).reshape(n, -1), "offset")
    # Noise 0.23 over 65536 pixels; stars and cosmic rays move medians by as much.
    assert np.asarray(match.offsets) == pytest.approx(offsets.mean() - offsets, abs=0.006)
    assert match.scales == (1.0,) * n
    assert sum(match.offsets) == pytest.approx(0, abs=1e-9)


def test_factors_are_found_where_the_sky_has_structure() -> None:
    factors = np.array([0.98, 1.0, 1.03])
    stack = drifted(3, np.zeros(3)) * factors[:, np.newaxis, np.newaxis]
    match = match_levels(stack.reshape(3, -1), "scale")
    assert np.asarray(match.scales) * factors == pytest.approx(factors.mean(), abs=1e-3)
    assert match.offsets == (0.0,) * 3


def test_exact_levels_of_exposures_without_noise() -> None:
    sky = np.linspace(5.0, 6.0, 1000)
    match = match_levels(np.stack([sky, sky + 1, sky - 0.5]), "offset")
    assert match.offsets == pytest.approx((1 / 6, 1 / 6 - 1, 1 / 6 + 0.5))
    assert match.levels == pytest.approx((5.5, 6.5, 5.0))


def test_only_pixels_common_to_all_count() -> None:
    samples = np.ones((2, 100))
    samples[1] = 3.0
    samples[0, :60] = 1000.0
    samples[1, :60] = np.nan
    match = match_levels(samples, "offset")
    assert match.n_common == 40
    assert match.offsets == pytest.approx((1.0, -1.0))


def test_too_few_common_pixels_and_levels_below_zero_are_told() -> None:
    samples = np.ones((2, 100))
    samples[0, :50] = samples[1, 50:] = np.nan
    with pytest.raises(offsky.ExposureMismatchError, match="cannot be matched"):
        match_levels(samples, "offset")
    with pytest.raises(offsky.ExposureMismatchError, match="use the option level offset"):
        match_levels(-np.ones((2, 100)), "scale")


def test_clipped_median_ignores_what_is_far() -> None:
    values = np.concatenate(
        [np.random.default_rng(0).normal(3.0, 0.1, 10_000), np.full(2000, 9.0)]
    )
    assert clipped_median(values) == pytest.approx(3.0, abs=0.005)
    assert clipped_median(np.full(7, 2.0)) == 2.0
    assert clipped_median(np.array([4.0])) == 4.0


def clipped_median_by_passes(values: Array, sigma: float, maxiters: int) -> float:
    """Find it as it is defined: one median of all that is kept after the other."""
    kept = values.astype(np.float64)
    for _ in range(maxiters):
        middle = float(np.median(kept))
        reach = sigma * 1.4826 * float(np.median(abs(kept - middle)))
        inside = abs(kept - middle) <= reach
        if reach == 0 or inside.all():
            return middle
        kept = kept[inside]
        if kept.size == 0:
            return np.nan
    return float(np.median(kept))


@settings(max_examples=1000)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60) | st.sampled_from([999, 1000]),
    kind=st.sampled_from(["noise", "outliers", "ties", "few", "nearly constant", "any"]),
    dtype=st.sampled_from(["f4", "f8"]),
    sigma=st.sampled_from([0.3, 1.0, 2.0, 3.0]) | st.floats(0.1, 5.0),
    maxiters=st.sampled_from([0, 1, 2, 20]),
)
def test_one_sort_gives_the_clipped_median_of_repeated_medians(
    seed: int, n: int, kind: str, dtype: str, sigma: float, maxiters: int
) -> None:
    rng = np.random.default_rng(seed)
    values = {
        "noise": lambda: rng.normal(3.0, 0.1, n),
        "outliers": lambda: rng.normal(3.0, 0.1, n) + 9.0 * (rng.random(n) < 0.3),
        "ties": lambda: rng.integers(-3, 4, n),
        "few": lambda: rng.choice([0.0, 0.1, 1e5], n),
        "nearly constant": lambda: 1000.0 + 0.1 * (rng.random(n) < 0.4),
        "any": lambda: rng.normal(size=n) * 10.0 ** rng.uniform(-30, 30, n),
    }[kind]().astype(dtype)
    before = values.tobytes()
    expected = clipped_median_by_passes(values, sigma, maxiters)
    np.testing.assert_array_equal(clipped_median(values, sigma, maxiters), expected)
    assert values.tobytes() == before


def test_sampled_rows_are_even_and_the_sample_is_bounded() -> None:
    rows = even_rows(2048, 2048, 2**18)
    assert 2**17 <= len(rows) * 2048 <= 2**18
    assert {row % 2 for row in rows} == {0, 1}
    assert list(even_rows(3, 10, 2**18)) == [0, 1, 2]
    sci = np.ones((2048, 2048), np.float32)
    many = sample_levels(
        [ArrayExposure(f"sky {i}", sci, None, None) for i in range(64)], Options()
    )
    assert many.nbytes <= 2**24 + 64 * 2048 * 4


def test_do_not_use_is_left_out_of_levels_whatever_the_options() -> None:
    sci = np.ones((64, 64), np.float32)
    dq = np.zeros((64, 64), np.uint32)
    sci[::2], dq[::2] = 99.0, 1
    skies = [ArrayExposure(f"sky {i}", sci, None, dq) for i in range(2)]
    samples = sample_levels(skies, Options())
    assert np.nanmax(samples) == 1.0
    assert np.isnan(samples).mean() == 0.5


@pytest.mark.parametrize("nints", [None, 2])
def test_an_adjustment_changes_what_it_says_and_no_more(engine: Any, nints: int | None) -> None:
    shape = (3, 6) if nints is None else (nints, 3, 6)
    sci = np.arange(np.prod(shape), dtype=">f4").reshape(shape)
    err, dq = np.full_like(sci, 2.0), np.full(shape, 4, np.uint32)
    mask = np.zeros((3, 6), np.bool_)
    mask[1, 3] = True
    before = sci.tobytes(), err.tobytes(), dq.tobytes()
    options = Options(reject="none")
    image = make_image(Rows(sci, err, dq), options, skip=mask)
    moved = Adjustments(np.array([1.5]), np.array([-2.0]))
    got = combine_images([image], options, adjustments=moved)
    own = sci.astype("f4") if nints is None else sci.mean(axis=0, dtype="f8").astype("f4")
    expected = own * -2 + np.float32(1.5)
    expected[mask] = np.nan
    assert_same_bits(got.sci, expected)
    # Of the mean of two, a root of two less.
    error = np.full((3, 6), 4.0 / np.sqrt(nints or 1), np.float32)
    error[mask] = np.nan
    assert got.err is not None
    assert_same_bits(got.err, error)
    assert got.dq is not None
    assert_same_bits(got.dq, np.full((3, 6), 4, np.uint32))
    assert (got.n_masked.tolist(), got.n_samples) == ([nints or 1], sci.size - (nints or 1))
    assert (sci.tobytes(), err.tobytes(), dq.tobytes()) == before


@pytest.mark.parametrize("width", [1, 7, 8, 9, 64])
def test_a_packed_mask_gives_back_its_rows(width: int) -> None:
    mask = np.random.default_rng(width).random((11, width)) < 0.4
    packed = PackedMask.of(mask)
    assert np.array_equal(packed.rows(0, 11), mask)
    assert np.array_equal(packed.rows(3, 5), mask[3:5])
    assert packed.count() == mask.sum()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write a target and three backgrounds at levels 10, 11 and 13.5, with a pattern."""
    rng = np.random.default_rng(3)
    pattern = rng.normal(0, 0.5, (64, 96))
    paths = []
    for i, level in enumerate((20.0, 10.0, 11.0, 13.5)):
        sci = (level + pattern + rng.normal(0, 0.05, pattern.shape)).astype(np.float32)
        path = tmp_path / f"e{i}_rate.fits"
        paths.append(write_exposure(path, sci=sci, err=0.05, variances=True))
    return paths


@pytest.mark.parametrize("level", ["offset", "scale"])
def test_the_average_keeps_the_mean_level_and_every_sample(files: list[Path], level: Any) -> None:
    options = Options(level=level, reject="error", sigma=5.0, min_keep=1)
    before = [file_digest(path) for path in files]
    matched = offsky.average(files[1:], options=options)
    assert np.median(matched.data) == pytest.approx(11.5, abs=0.05)
    unmatched = offsky.average(files[1:], options=options.changed(level="none"))
    assert (matched.extra_fits.N_KEPT.data == 3).mean() > 0.99 or level == "scale"
    assert (unmatched.extra_fits.N_KEPT.data == 1).all()
    assert [file_digest(path) for path in files] == before


def test_errors_are_scaled_with_a_factor_and_not_with_an_offset(files: list[Path]) -> None:
    common = Options(reject="none", errors="propagate")
    plain = offsky.average(files[1:], options=common)
    offset = offsky.average(files[1:], options=common.changed(level="offset"))
    assert_same_bits(np.asarray(offset.err), np.asarray(plain.err))
    scale = offsky.average(files[1:], options=common.changed(level="scale"))
    factors = 11.5 / np.array([10.0, 11.0, 13.5])
    expected = 0.05 * np.sqrt(np.sum(factors**2)) / 3
    assert np.median(scale.err) == pytest.approx(expected, rel=2e-3)
    total = scale.var_poisson + scale.var_rnoise
    assert np.median(total) == pytest.approx(expected**2, rel=4e-3)


@pytest.mark.parametrize("level", ["offset", "scale"])
def test_files_equal_models_on_any_number_of_threads(
    files: list[Path], tmp_path: Path, level: Any
) -> None:
    options = Options(level=level)
    result = offsky.subtract(files[0], files[1:], options=options)
    for threads in (1, 3):
        output = tmp_path / f"{threads}_bsub.fits"
        offsky.subtract_file(files[0], files[1:], output, options=options, threads=threads)
        with fits.open(output, memmap=False) as hdus:
            assert_same_bits(hdus["SCI"].data, np.asarray(result.data))
            assert_same_bits(hdus["DQ"].data, np.asarray(result.dq))


def test_one_background_is_at_its_own_level(files: list[Path]) -> None:
    plain = offsky.average(files[1:2])
    assert_same_bits(
        np.asarray(offsky.average(files[1:2], options=Options(level="offset")).data),
        np.asarray(plain.data),
    )


def test_cubes_are_matched_by_the_mean_of_their_integrations(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    paths = []
    for i, level in enumerate((4.0, 5.0)):
        sci = level + rng.normal(0, 0.1, (5, 32, 48))
        paths.append(write_exposure(tmp_path / f"c{i}.fits", sci=sci.astype(np.float32)))
    options = Options(level="offset", reject="error", sigma=4.0, min_keep=1)
    average = offsky.average(paths, options=options)
    assert (average.extra_fits.N_KEPT.data == 2).all()
    assert np.mean(average.data) == pytest.approx(4.5, abs=0.01)
