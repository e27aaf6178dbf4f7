"""Levels of backgrounds: found, matched, put back, in files as in models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from averages import assemble, pass_of, sample_levels
from hypothesis import given, settings
from hypothesis import strategies as st

import offsky
from offsky.combine.images import Adjustments, combine_images, make_image
from offsky.engine.look import look
from offsky.measure.levels import LevelMatch, Levels, even_rows
from offsky.measure.median import clipped_median
from offsky.measure.pairs import block_grid, compared, difference
from offsky.options import PROFILES, Options
from offsky.simulation import simulate_exposures
from offsky.testing import assert_same_bits, file_digest, write_exposure
from offsky.values.exposure import Rows
from offsky.values.in_memory import ArrayExposure
from offsky.values.mask import PackedMask
from offsky.values.window import Window

Array = np.ndarray[Any, np.dtype[Any]]


def drifted(n: int, offsets: Array, shape: tuple[int, int] = (256, 256)) -> Array:
    """Return backgrounds with stars, hot pixels and gaps, and known offsets."""
    scene = simulate_exposures(shape, n_backgrounds=n, seed=5, level_drift=0.0)
    stack = [b.sci + np.float32(d) for b, d in zip(scene.backgrounds, offsets, strict=True)]
    return np.stack(stack)


def matched(stack: Any, how: str = "offset") -> LevelMatch:
    """Match the levels of images, (n, ny, nx)."""
    n, ny, nx = np.shape(stack)
    grid, levels = block_grid(ny, nx, n), Levels[int]()
    for i, image in enumerate(np.asarray(stack, np.float32)):
        levels.add(i, grid.pick(image[list(grid.rows)]))
    return levels.match(range(n), [f"sky {i}" for i in range(n)], how)


@pytest.mark.parametrize("n", [2, 3, 4, 7, 16, 17, 40])
def test_offsets_are_found_to_a_few_hundredths_of_the_noise(n: int) -> None:
    offsets = np.linspace(-0.4, 0.6, n)
    match = matched(drifted(n, offsets))
    # Noise 0.23 over 65536 pixels; stars and cosmic rays move medians by as much.
    assert np.asarray(match.offsets) == pytest.approx(offsets.mean() - offsets, abs=0.006)
    assert match.scales == (1.0,) * n
    assert sum(match.offsets) == pytest.approx(0, abs=1e-9)
    assert match.noise == pytest.approx(0.23, rel=0.1)


def test_factors_are_found_where_the_sky_has_structure() -> None:
    factors = np.array([0.98, 1.0, 1.03])
    match = matched(drifted(3, np.zeros(3)) * factors[:, np.newaxis, np.newaxis], "scale")
    assert np.asarray(match.scales) * factors == pytest.approx(factors.mean(), abs=1e-3)
    assert match.offsets == (0.0,) * 3


def test_exact_levels_of_exposures_without_noise() -> None:
    sky = np.linspace(5.0, 6.0, 10240).reshape(80, 128)
    match = matched([sky, sky + 1, sky - 0.5])
    assert match.offsets == pytest.approx((1 / 6, 1 / 6 - 1, 1 / 6 + 0.5), abs=1e-6)
    assert match.levels == pytest.approx((5.5, 6.5, 5.0), abs=1e-2)


def test_a_galaxy_in_one_of_four_leaves_no_pedestal_around_it() -> None:
    shape = 1024, 1024
    rng = np.random.default_rng(11)
    rows, columns = np.indices(shape)
    galaxy = 300 * np.exp(-np.hypot(rows - 530, columns - 480) / 40)
    near = np.hypot(rows - 530, columns - 480) < 140
    stack = rng.normal(10, 1, (4, *shape))
    stack[0] += galaxy
    skies = [
        ArrayExposure(f"sky {i}", each.astype("f4"), np.ones(shape, "f4"), None)
        for i, each in enumerate(stack)
    ]
    window = Window(0, 0, *shape)
    found = assemble(skies, [window] * 4, window, PROFILES["offsky"], height=64, threads=2)
    assert found.average is not None
    left = np.median(found.average.sci[near]) - 10
    # The levels of single pixels left 0.04; 0.3 where what is rejected at 3.5 is the sky too.
    assert abs(left) < 0.02


def test_exposures_without_common_pixels_are_matched_by_way_of_others() -> None:
    offsets = np.array([0.5, -0.25, 0.0, 2.0])
    stack = drifted(4, offsets)
    # The first and the last are connected through the two between; all have no pixel in common.
    stack[0, :, 128:] = stack[1, :, :64] = stack[2, :, :96] = stack[3, :, :160] = np.nan
    stack[1, :, 224:] = np.nan
    match = matched(stack)
    assert np.asarray(match.offsets) == pytest.approx(offsets.mean() - offsets, abs=0.01)


def test_exposures_that_are_compared_late_connect_a_list() -> None:
    n = 20
    assert (0, 3) not in set(compared(n))
    stack = drifted(n, np.linspace(0, 1, n))
    stack[0, :, 64:] = np.nan
    stack[1:, :, :64] = np.nan
    stack[3] = drifted(n, np.linspace(0, 1, n))[3]
    match = matched(stack)
    assert match.offsets[0] - match.offsets[3] == pytest.approx(3 / 19, abs=0.01)


def test_an_exposure_that_is_connected_with_none_is_named() -> None:
    stack = drifted(4, np.zeros(4))
    stack[2, :, :128] = np.nan
    stack[[0, 1, 3], :, 128:] = np.nan
    with pytest.raises(offsky.ExposureMismatchError, match=r"^sky 2: too few .*level none"):
        matched(stack)


def test_levels_near_zero_are_no_levels_to_scale() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1, (3, 256, 256))
    with pytest.raises(offsky.ExposureMismatchError, match="use the option level offset"):
        matched(noise, "scale")
    with pytest.raises(offsky.ExposureMismatchError, match=r"^sky 0: the level is -1"):
        matched(-np.ones((2, 64, 64)), "scale")
    assert matched(noise + 0.5, "scale").is_near_zero
    assert not matched(noise + 5, "scale").is_near_zero


@given(seed=st.integers(0, 2**32 - 1), n_bad=st.integers(0, 4000))
def test_exchanged_exposures_have_the_same_difference_to_the_last_bit(
    seed: int, n_bad: int
) -> None:
    rng = np.random.default_rng(seed)
    pair = rng.normal(1000, 3, (2, 20, 256)).astype("f4")
    pair[rng.integers(0, 2, n_bad), rng.integers(0, 20, n_bad), rng.integers(0, 256, n_bad)] = (
        rng.choice([np.nan, np.inf, 1e6, 1003.0], n_bad)
    )
    one, other = difference(*pair), difference(*pair[::-1])
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert one == other._replace(value=-other.value)


@given(ny=st.integers(1, 3000), nx=st.integers(1, 3000), n=st.integers(1, 600))
def test_blocks_lie_in_the_image_apart_and_are_bounded(ny: int, nx: int, n: int) -> None:
    grid = block_grid(ny, nx, n)
    assert grid.rows[0] >= 0
    assert grid.rows[-1] < ny
    assert list(grid.rows) == sorted(set(grid.rows))
    assert len(grid.rows) == grid.height * len(grid.columns)
    for columns in grid.columns:
        assert np.all(np.diff(columns) >= grid.width)
        assert columns[0] >= 0
        assert columns[-1] + grid.width <= nx
    assert grid.n_pixels * n <= max(2**22, 64 * 256 * n)
    assert len(grid.rows) * nx <= max(2**18, grid.height * nx)


def test_each_pair_is_compared_once_for_all_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    compared_blocks = []

    def counted(blocks: Array, others: Array) -> Any:
        compared_blocks.append({id(blocks), id(others)})
        return difference(blocks, others)

    monkeypatch.setattr("offsky.measure.levels.difference", counted)
    options = Options(level="offset")
    skies = [
        ArrayExposure(f"sky {i}", each, None, None)
        for i, each in enumerate(drifted(5, np.zeros(5)))
    ]
    made, opened = pass_of(skies, without_each=True)
    prepared, broken = look(made, opened, options, 2)
    assert not broken
    assert len(prepared) == 5
    assert len(compared_blocks) == 10
    assert all(compared_blocks.count(pair) == 1 for pair in compared_blocks)
    for i, own in enumerate(prepared):
        others = [each for k, each in enumerate(skies) if k != i]
        (alone,), _ = look(*pass_of(others), options, 1)
        assert own.adjustments is not None
        assert alone.adjustments is not None
        assert_same_bits(own.adjustments.offsets, alone.adjustments.offsets)


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
    assert sum(each.nbytes for each in many) <= 2**24


def test_do_not_use_is_left_out_of_levels_whatever_the_options() -> None:
    sci = np.ones((64, 64), np.float32)
    dq = np.zeros((64, 64), np.uint32)
    sci[::2], dq[::2] = 99.0, 1
    skies = [ArrayExposure(f"sky {i}", sci, None, dq) for i in range(2)]
    samples = np.stack(sample_levels(skies, Options()))
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
