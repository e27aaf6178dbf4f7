"""Sources in backgrounds, and masks: found, given, left out."""

import builtins
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from averages import find_sources

import offsky
from offsky.measure.sources import grown
from offsky.options import Options
from offsky.simulation import SimulatedExposure, _cosmic_rays, simulate_exposures
from offsky.testing import assert_same_bits, file_digest, write_exposure
from offsky.values.in_memory import ArrayExposure

Array = np.ndarray[Any, np.dtype[Any]]


def exposures_of(backgrounds: tuple[SimulatedExposure, ...]) -> list[ArrayExposure]:
    return [ArrayExposure(f"sky {i}", b.sci, b.err, b.dq) for i, b in enumerate(backgrounds)]


@pytest.fixture
def finder() -> None:
    """Skip where sep, which finds the sources, is not installed."""
    pytest.importorskip("sep")


@pytest.mark.parametrize("n", [2, 3, 4, 9])
def test_dithered_stars_are_found_and_the_detector_is_not(finder: None, n: int) -> None:
    scene = simulate_exposures((256, 256), n_backgrounds=n, seed=12, level_drift=0.1)
    found = find_sources(exposures_of(scene.backgrounds), options=Options(), threads=2)
    for mask, background in zip(found, scene.backgrounds, strict=True):
        rows = mask.rows(0, 256)
        # The noise is 0.23: stars are found with their wings.
        assert rows[background.light > 0.3].mean() > 0.95
        # Cosmic rays are a pixel wide, and are left to the rejection.
        assert rows[background.light < 0.01].mean() < 0.02
        assert rows[background.struck & (background.light < 0.01)].mean() < 0.2
        hot = (scene.sky > 1.5 * np.median(scene.sky)) & (background.light < 0.01)
        assert rows[hot].mean() < 0.2


def noisy(n: int, shape: tuple[int, int], seed: int) -> Any:
    return np.random.default_rng(seed).normal(100, 1, (n, *shape)).astype("f4")


def exposed(stack: Any) -> list[ArrayExposure]:
    ones = np.ones(stack.shape[1:], "f4")
    return [ArrayExposure(f"sky {i}", each, ones, None) for i, each in enumerate(stack)]


@pytest.mark.parametrize(("per_pixel", "masked"), [(2e-3, 0.005), (8e-3, 0.03)])
@pytest.mark.parametrize("n", [3, 4, 8])
def test_cosmic_rays_alone_cost_no_samples(
    finder: None, n: int, per_pixel: float, masked: float
) -> None:
    stack = noisy(n, (400, 400), 5)
    rng = np.random.default_rng(6)
    struck = np.zeros(stack.shape, np.bool_)
    for image, hits in zip(stack, struck, strict=True):
        track = 20 * _cosmic_rays(rng, image.shape, per_pixel=per_pixel)
        spread = track.copy()
        for axis in (0, 1):
            # A twenty-fifth of the charge goes to each pixel beside it.
            spread += 0.04 * (np.roll(track, 1, axis) + np.roll(track, -1, axis))
        image += spread
        hits |= spread > 0.5
    found = find_sources(exposed(stack), options=Options(), threads=2)
    masks = np.array([mask.rows(0, 400) for mask in found])
    # Tracks take 0.9 and 3.5 % of the samples; a disk about each took 17 and 56 %.
    assert masks.mean() < masked
    # Of target minus average the variance is that of nearly all clean samples.
    n_clean = np.count_nonzero(~struck, axis=0)
    n_left = np.count_nonzero(~struck & ~masks, axis=0)
    some = n_left > 0
    before, after = (1 + np.mean(1 / each[some]) for each in (n_clean, n_left))
    assert after / before < 1.01


@pytest.mark.parametrize("peak", [15.0, 60.0, 1000.0])
@pytest.mark.parametrize("width", [1.02, 2.0])
def test_a_star_in_two_of_three_backgrounds_is_found_in_both(
    finder: None, peak: float, width: float
) -> None:
    stack = noisy(3, (200, 200), 7)
    rows, columns = np.indices(stack.shape[1:])
    r2 = (rows - 90.3) ** 2 + (columns - 110.6) ** 2
    star = peak * np.exp(-0.5 * r2 / width**2)
    stack[:2] += star.astype("f4")
    found = [m.rows(0, 200) for m in find_sources(exposed(stack), options=Options(), threads=1)]
    for mask in found[:2]:
        assert mask[star > 0.5].all()
        assert mask[star < 1e-6].mean() < 0.01
    assert found[2].mean() < 0.005


def test_a_track_across_a_star_leaves_the_star_masked(finder: None) -> None:
    stack = noisy(3, (200, 200), 8)
    rows, columns = np.indices(stack.shape[1:])
    star = 200 * np.exp(-0.5 * ((rows - 90) ** 2 + (columns - 110) ** 2) / 1.5**2)
    stack[0] += star.astype("f4")
    stack[0, 60:95, 109] += 80
    (mask, *_) = find_sources(exposed(stack), options=Options(), threads=1)
    assert mask.rows(0, 200)[star > 0.5].all()


def test_what_is_found_does_not_depend_on_threads_or_strips(
    finder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = simulate_exposures((200, 64), n_backgrounds=3, seed=2)
    exposures = exposures_of(scene.backgrounds)

    def masks(threads: int) -> list[Array]:
        found = find_sources(exposures, options=Options(), threads=threads)
        return [mask.rows(0, 200) for mask in found]

    one = masks(1)
    # Strips are of another height; the noise of a strip, and so a threshold, differs a bit.
    for a, b in zip(one, masks(3), strict=True):
        assert (a != b).mean() < 0.02
    for a, b in zip(one, masks(1), strict=True):
        assert np.array_equal(a, b)


def test_a_grown_mask_is_a_disk_about_each_pixel() -> None:
    mask = np.zeros((11, 11), np.bool_)
    mask[5, 5] = True
    y, x = np.mgrid[-5:6, -5:6]
    assert np.array_equal(grown(mask, 3), x**2 + y**2 < 3.5**2)
    corner = np.zeros((2, 3), np.bool_)
    corner[0, 0] = True
    assert grown(corner, 3).all()
    assert np.array_equal(grown(mask, 0), mask)


def test_an_image_without_noise_or_samples_has_no_sources(finder: None) -> None:
    flat = np.full((64, 64), 3.0, np.float32)
    empty = np.full((64, 64), np.nan, np.float32)
    exposures = [ArrayExposure(name, sci, None, None) for name, sci in (("f", flat), ("e", empty))]
    for mask in find_sources(exposures, options=Options(), threads=1):
        assert mask.count() == 0


@pytest.fixture(scope="module")
def scene_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Any]:
    """Write a target and four backgrounds, and return the truth with them."""
    folder = tmp_path_factory.mktemp("scene")
    scene = simulate_exposures((192, 192), n_backgrounds=4, seed=43)
    paths = [
        write_exposure(folder / f"e{i}_rate.fits", sci=e.sci, err=e.err, dq=e.dq)
        for i, e in enumerate((scene.target, *scene.backgrounds))
    ]
    return paths, scene


def test_masked_sources_leave_no_holes_in_the_target(
    finder: None, scene_files: tuple[list[Path], Any], tmp_path: Path
) -> None:
    (target, *backgrounds), scene = scene_files
    before = [file_digest(path) for path in (target, *backgrounds)]

    def holes(options: Options) -> int:
        result = offsky.subtract(target, backgrounds, options=options)
        left = np.asarray(result.data) - scene.target.light
        starry = np.any([b.light > 0.3 for b in scene.backgrounds], axis=0)
        return int(np.count_nonzero(left[starry] < -5 * 0.26))

    assert holes(Options()) > 20
    assert holes(Options(mask_sources=True)) == 0
    assert [file_digest(path) for path in (target, *backgrounds)] == before


def test_files_equal_models_where_sources_are_left_out(
    finder: None, scene_files: tuple[list[Path], Any], tmp_path: Path
) -> None:
    (target, *backgrounds), _ = scene_files
    options = Options(mask_sources=True, level="scale", errors="propagate", dq="kept")
    result = offsky.subtract(target, backgrounds, options=options)
    output = tmp_path / "result_bsub.fits"
    offsky.subtract_file(target, backgrounds, output, options=options)
    with fits.open(output, memmap=False) as hdus:
        for name, array in (("SCI", result.data), ("ERR", result.err), ("DQ", result.dq)):
            assert_same_bits(hdus[name].data, np.asarray(array))


def test_a_cube_is_searched_in_the_mean_of_its_integrations(finder: None) -> None:
    rng = np.random.default_rng(4)
    faint = np.zeros((96, 96))
    faint[40:44, 50:54] = 0.06  # a bit above half the noise of one integration
    cubes = []
    for light in (faint, 0 * faint):
        sci = (5 + light + rng.normal(0, 0.1, (25, 96, 96))).astype(np.float32)
        cubes.append(ArrayExposure("cube", sci, np.full_like(sci, 0.1), None))
    found = find_sources(cubes, options=Options(), threads=1)
    assert found[0].rows(0, 96)[40:44, 50:54].all()
    assert found[0].count() < 400
    assert found[1].count() < 400


def test_without_sep_one_line_tells_what_to_install(
    scene_files: tuple[list[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (target, *backgrounds), _ = scene_files
    real = builtins.__import__

    def none_of_sep(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "sep":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", none_of_sep)
    with pytest.raises(offsky.ParameterError, match=r"offsky\[sources\]"):
        offsky.subtract(target, backgrounds, options=Options(mask_sources=True))


@pytest.mark.slow
def test_memory_of_the_search_is_bounded(finder: None) -> None:
    """Thirty-two exposures of 1024 x 1024 take no more than strips and bits."""
    rng = np.random.default_rng(1)
    sci = rng.normal(10, 0.1, (1024, 1024)).astype(np.float32)
    err = np.full_like(sci, 0.1)
    exposures = [ArrayExposure(f"sky {i}", sci, err, None) for i in range(32)]
    find_sources(exposures[:2], options=Options(), threads=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    find_sources(exposures, options=Options(), threads=2)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 150


@pytest.fixture
def masked(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Write two backgrounds, 1 and 3, and a mask for each: a row, and a column."""
    paths, masks = [], []
    for i, level in enumerate((1.0, 3.0)):
        sci = np.full((8, 12), level, np.float32)
        paths.append(write_exposure(tmp_path / f"m{i}_rate.fits", sci=sci))
        mask = np.zeros((8, 12), np.int16)
        mask[(3, slice(None)) if i == 0 else (slice(None), 5)] = 7
        masks.append(tmp_path / f"mask{i}.fits")
        hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(mask, name="MASK")])
        hdus.writeto(masks[-1])
    return paths, masks


def test_each_background_has_its_own_mask(masked: tuple[list[Path], list[Path]]) -> None:
    paths, masks = masked
    expected = np.full((8, 12), 2.0, np.float32)
    expected[3], expected[:, 5] = 3.0, 1.0
    expected[3, 5] = np.nan
    for given in (masks, [fits.getdata(mask) for mask in masks]):
        average = offsky.average(paths, masks=given)
        assert_same_bits(np.asarray(average.data), expected)
        assert average.extra_fits.N_KEPT.data[3, 5] == 0
    one = offsky.average(paths, masks=[None, masks[1]])
    assert (one.data[3, :5] == 2).all()
    assert (one.data[:, 5] == 1).all()


def test_masks_are_options_of_the_commands(
    masked: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from offsky.command.main import cli

    paths, masks = masked
    output = tmp_path / "average.fits"
    words = ["average", *map(str, paths), "--mask", str(masks[0]), "--mask", "none"]
    done = CliRunner().invoke(cli, [*words, "-o", str(output)])
    assert done.exit_code == 0, done.output
    assert (fits.getdata(output, "SCI")[3] == 3).all()
    target = write_exposure(tmp_path / "t_rate.fits", sci=np.full((8, 12), 9.0, np.float32))
    result = tmp_path / "result.fits"
    words = ["subtract", str(target), *map(str, paths), "-o", str(result)]
    done = CliRunner().invoke(cli, [*words, *(f"--mask={mask}" for mask in masks)])
    assert done.exit_code == 0, done.output
    assert (fits.getdata(result, "SCI")[3, :5] == 6).all()


def test_masks_that_do_not_fit_are_told_in_one_line(
    masked: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    paths, masks = masked
    with pytest.raises(offsky.ParameterError, match="1 masks for 2 backgrounds"):
        offsky.average(paths, masks=masks[:1])
    small = tmp_path / "small.fits"
    fits.PrimaryHDU(np.zeros((8, 11))).writeto(small)
    with pytest.raises(offsky.ExposureError, match=r"small.fits.*\(8, 11\).*\(8, 12\)"):
        offsky.average(paths, masks=[small, None])
    empty = tmp_path / "empty.fits"
    fits.PrimaryHDU().writeto(empty)
    with pytest.raises(offsky.ExposureError, match="no two-dimensional image"):
        offsky.average(paths, masks=[empty, None])
    text = tmp_path / "text.fits"
    text.write_text("not FITS")
    with pytest.raises(offsky.ExposureError, match=r"text.fits: does not begin as FITS does"):
        offsky.average(paths, masks=[text, None])
    with pytest.raises(offsky.MissingFileError, match="no such file"):
        offsky.average(paths, masks=[tmp_path / "none_there.fits", None])
