"""What is left where an assumption fails, and with the way out: one scene after the other.

Measured through offsky's public functions on simulated exposures whose truth is known, and written
into `results/limits.md` and `limits.json`; docs/choosing.md cites the figures.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hits import Floats, image_stack
from rejection import HERE, Table, write_results
from simulations import robust_scatter

import offsky
from offsky.options import PROFILES
from offsky.testing import write_exposure

OFFSKY = PROFILES["offsky"]
SHAPE, QUICK = (400, 400), (128, 128)
Row = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """A target and backgrounds in units of the noise of a sample; `sky` is the target's."""

    name: str
    target: Floats
    backgrounds: Floats
    errors: Floats  # of the target, then of each background
    sky: Floats


def measured(scene: Scene, label: str, changes: dict[str, Any]) -> Row:
    """Subtract with some options, and compare with the truth."""
    n = len(scene.backgrounds)
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            write_exposure(
                Path(folder) / f"e{i}_rate.fits", sci=sci.astype("f4"), err=err.astype("f4")
            )
            for i, (sci, err) in enumerate(
                zip((scene.target, *scene.backgrounds), scene.errors, strict=True)
            )
        ]
        options = OFFSKY.changed(**changes)
        result = offsky.subtract(paths[0], paths[1:], options=options)
        sci, err = (np.asarray(each, dtype=np.float64) for each in (result.data, result.err))
    known = np.isfinite(sci)
    average = (scene.target - scene.sky - sci)[known]
    noise = np.sqrt(1 + 1 / n)
    return {
        "scene": scene.name,
        "n": n,
        "options": label,
        "total": float(np.var(sci[known]) / noise**2),
        "scatter": robust_scatter(sci[known]) / float(noise),
        "level": float(np.median(sci[known])),
        "mean": float(np.mean(sci[known])),
        "holes": float(np.mean(average > 5 / np.sqrt(n)) * 1e6),
        "pull": robust_scatter(sci[known] / err[known]),
        "covered": float(np.mean(known)),
        "missing": _missing(scene, sci),
    }


def _missing(scene: Scene, left: Floats) -> float:
    """Return the share of what is bright in the sky of the target that the average misses."""
    bright = scene.sky - np.median(scene.sky)
    stars = (bright > 30) & np.isfinite(left)
    return float(np.sum(left[stars]) / np.sum(bright[stars])) if stars.any() else 0.0


def clean(
    name: str, n: int, shape: tuple[int, int], *, levels: Any = 0.0, factors: Any = 1.0,
    target_level: float = 0.0, target_factor: float = 1.0, sky: float = 100.0,
) -> Scene:  # fmt: skip
    """Draw noise on a sky with a gradient of 5 % and a response of 1 %, of known levels."""
    rng = np.random.default_rng([13, n])
    rows, columns = np.indices(shape)
    slope = 1 + 0.05 * (rows / shape[0] - 0.5) + 0.03 * np.sin(columns / shape[1] * 6)
    common = sky * slope * rng.normal(1, 0.01, shape)
    of_each = (
        common * np.broadcast_to(factors, n)[:, None, None]
        + np.broadcast_to(levels, n)[:, None, None]
    )
    of_target = common * target_factor + target_level
    noise = rng.normal(0, 1, (n + 1, *shape))
    ones = np.ones((n + 1, *shape))
    return Scene(name, of_target + noise[0], of_each + noise[1:], ones, of_target)


def hit(name: str, n: int, shape: tuple[int, int], *, err_factor: float = 1.0) -> Scene:
    """Draw backgrounds of which 2 % of the samples are contaminated."""
    stack = image_stack(n, shape, seed=31, err_factor=err_factor)
    rng = np.random.default_rng([17, n])
    flat = np.full(shape, 20.0)
    target = flat + rng.normal(0, 1, shape)
    errors = np.concatenate([np.full((1, *shape), err_factor), stack.err])
    return Scene(name, target, stack.sci + 20.0, errors, flat)


def err_scenes(shape: tuple[int, int]) -> Iterator[tuple[Scene, dict[str, dict[str, Any]]]]:
    """Yield scenes whose ERR is wrong by a factor."""
    ways = {
        "profile offsky": {},
        "err_scale trust": {"err_scale": "trust"},
        "reject mad, sigma 5": {"reject": "mad", "sigma": 5.0, "sigma_lower": None},
    }
    for n in (4, 8):
        for factor in (0.4, 0.65, 1.0, 1.5, 2.5, 4.0):
            yield hit(f"ERR times {factor:g}", n, shape, err_factor=factor), ways


def level_scenes(shape: tuple[int, int]) -> Iterator[tuple[Scene, dict[str, dict[str, Any]]]]:
    """Yield scenes whose levels differ, by adding and by a factor."""
    ways = {f"level {each}": {"level": each} for each in ("none", "offset", "scale")}
    for n in (2, 4):
        steps = np.linspace(-1, 1, n)
        yield clean("backgrounds 3 sigma apart, added", n, shape, levels=1.5 * steps), ways
        yield clean("backgrounds 20 % apart, factors", n, shape, factors=1 + 0.1 * steps), ways
    near_zero = {"levels": 1.5 * np.linspace(-1, 1, 4), "sky": 3.0}
    yield clean("the same about a sky of 3 sigma, added", 4, shape, **near_zero), ways
    fits: dict[str, dict[str, Any]] = {
        "none": {},
        "target_offset fit": {"target_offset": "fit"},
        "target_scale fit": {"target_scale": "fit"},
        "both": {"target_offset": "fit", "target_scale": "fit"},
    }
    for name, given in (
        ("target 2 sigma higher", {"target_level": 2.0}),
        ("target 20 % higher", {"target_factor": 1.2}),
        ("target 20 % and 2 sigma higher", {"target_factor": 1.2, "target_level": 2.0}),
    ):
        yield clean(name, 4, shape, **given), fits
    alone = {key: value for key, value in fits.items() if key != "both"}
    yield clean("target 2 sigma higher, a sky of 1 sigma", 4, shape, target_level=2, sky=1), alone


def other_scenes(shape: tuple[int, int]) -> Iterator[tuple[Scene, dict[str, dict[str, Any]]]]:
    """Yield row noise, and stars that two of three backgrounds have at the same pixels."""
    ways: dict[str, dict[str, Any]] = {"profile offsky": {}}
    for amplitude in (0.3, 1.0):
        scene = clean(f"row noise of {amplitude:g} sigma", 4, shape)
        rows = np.random.default_rng(5).normal(0, amplitude, (5, shape[0], 1))
        yield Scene(scene.name, scene.target + rows[0], scene.backgrounds + rows[1:], scene.errors,
                    scene.sky), ways  # fmt: skip
    masks = {"profile offsky": {}, "mask_sources": {"mask_sources": True}}
    scene = clean("stars in two of three, 60 sigma", 3, shape)
    rng = np.random.default_rng(6)
    y, x = np.indices(shape)
    stars = np.zeros(shape)
    for row, column in rng.uniform(10, shape[0] - 10, (shape[0] // 16, 2)):
        stars += 60 * np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2) / 1.02**2)
    backgrounds = scene.backgrounds + np.array([1, 1, 0])[:, None, None] * stars
    yield Scene(scene.name, scene.target, backgrounds, scene.errors, scene.sky), masks


def _stars(
    shape: tuple[int, int], peak: float, width: float, rng: np.random.Generator, shift: Floats
) -> Floats:
    """Return images of the same stars, each shifted by a row of `shift`."""
    y, x = np.indices(shape)
    places = np.random.default_rng(6).uniform(10, shape[0] - 10, (shape[0] // 16, 2))
    images = np.zeros((len(shift), *shape))
    for image, (dy, dx) in zip(images, shift, strict=True):
        for row, column in places:
            r2 = (y - row - dy) ** 2 + (x - column - dx) ** 2
            image += peak * np.exp(-0.5 * r2 / width**2)
    return images


def star_scenes(shape: tuple[int, int]) -> Iterator[tuple[Scene, dict[str, dict[str, Any]]]]:
    """Yield stars that stay where they are, and stars whose cores are lost."""
    rng = np.random.default_rng(8)
    ways: dict[str, dict[str, Any]] = {"profile offsky": {}, "reject none": {"reject": "none"}}
    for n in (4, 8):
        scene = clean("undersampled stars at one place, 100 sigma", n, shape)
        stars = _stars(shape, 100.0, 0.5, rng, rng.uniform(-0.5, 0.5, (n, 2)))
        # The truth is the mean of the stars: what is missing of it is a level of their pixels.
        sky = scene.sky + stars.mean(axis=0)
        target = scene.target + stars.mean(axis=0)
        yield Scene(scene.name, target, scene.backgrounds + stars, scene.errors, sky), ways
    masks = {"profile offsky": {}, "mask_sources": {"mask_sources": True}}
    for n in (2, 4):
        scene = clean("stars of 3000 sigma with NaN cores, dithered", n, shape)
        stars = _stars(shape, 3000.0, 1.02, rng, rng.uniform(-60, 60, (n, 2)))
        stars += _stars(shape, 90.0, 3.5, rng, rng.uniform(-60, 60, (n, 2)))
        stars[stars > 300] = np.nan
        backgrounds = scene.backgrounds + stars
        yield Scene(scene.name, scene.target, backgrounds, scene.errors, scene.sky), masks


def electron_rows(shape: tuple[int, int]) -> Iterator[Row]:
    """Yield averages of a sky of few electrons without read noise."""
    ways: dict[str, dict[str, Any]] = {
        "profile offsky": {},
        "err_scale trust": {"err_scale": "trust"},
        "reject none": {"reject": "none"},
    }
    for n in (2, 4, 8):
        counts = np.random.default_rng([19, n]).poisson(9.0, (n, *shape)).astype(np.float64)
        errors = np.concatenate([np.full((1, *shape), 1e-3), np.sqrt(np.maximum(counts, 1)) / 3])
        sky = np.full(shape, 3.0)
        scene = Scene("9 electrons alone", sky, counts / 3, errors, sky)
        for label, changes in ways.items():
            yield measured(scene, label, changes)


def method_rows(shape: tuple[int, int]) -> Iterator[Row]:
    """Yield how far ERR is from the scatter after each way of rejecting, without outliers."""
    ways: dict[str, dict[str, Any]] = {
        "profile offsky": {},
        "reject none": {"reject": "none"},
        "minmax 1": {"reject": "minmax"},
        "sigma 2": {"reject": "sigma", "sigma": 2.0, "sigma_lower": None},
        "mad 3": {"reject": "mad", "sigma": 3.0, "sigma_lower": None},
        "mad 5": {"reject": "mad", "sigma": 5.0, "sigma_lower": None},
    }
    for n in (3, 4, 8, 10):
        scene = clean("noise alone", n, shape)
        # Without the target's part, which is right whatever is done.
        errors = np.concatenate([np.full((1, *shape), 1e-3), scene.errors[1:]])
        quiet = Scene(scene.name, scene.sky, scene.backgrounds, errors, scene.sky)
        for label, changes in ways.items():
            yield measured(quiet, label, changes)


def limit_rows(quick: bool) -> Iterator[Row]:
    """Yield all rows."""
    shape = QUICK if quick else SHAPE
    for scenes in (err_scenes, level_scenes, other_scenes, star_scenes):
        for scene, ways in scenes(shape):
            for label, changes in ways.items():
                yield measured(scene, label, changes)
    yield from method_rows(shape)
    yield from electron_rows(shape)


TABLE = Table(
    "What is left where an assumption fails?",
    limit_rows,
    {
        "scene": "", "n": "d", "options": "", "total": ".4f", "scatter": ".4f", "level": "+.3f",
        "mean": "+.3f", "holes": ".0f", "pull": ".3f", "missing": ".3f",
    },
    legend="Target minus average, in units of the noise of a sample; every option that is not "
    "named is the profile's. total: variance over that of noise alone, 1 + 1/n; scatter: the "
    "same, robust, not squared. level, mean: median and mean. holes: pixels of the average 5 of "
    "its errors high, in a million. pull: scatter in units of ERR; for noise and electrons alone "
    "that of the average, whose target has none. missing: of the light of stars at one place in "
    "all exposures, what the average has not. With ERR times a factor 2 % of the samples of the "
    "backgrounds are contaminated (`hits.py`).",
)  # fmt: skip


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few pixels: to see that it runs")
    parser.add_argument("--dir", type=Path, default=HERE / "results", help="where results go")
    chosen = parser.parse_args()
    write_results("limits", TABLE, "benchmarks/limits.py", quick=chosen.quick, folder=chosen.dir)


if __name__ == "__main__":
    main()
