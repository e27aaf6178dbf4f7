"""Exposures whose truth is known: outliers, noise, drifting levels, dithered stars."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A sky of so many electrons: its noise is 5 % of it, and each sample's ERR is the root of
# its own count, as the pipeline finds it.
SKY_ELECTRONS = 400.0


@dataclass(frozen=True)
class HitStack:
    """Samples of one sky, some of them hit; in units of their true noise, the truth at 0."""

    sci: Floats  # (n, n_pixels)
    err: Floats
    clean: Floats  # SCI before it was hit
    hit: Mask


def hit_stack(
    n: int, n_pixels: int, amplitude: float, *, seed: int, share: float = 0.005, inflate: float = 1
) -> HitStack:
    """Draw samples of a Poisson sky and raise a share of them, each by itself.

    `inflate` multiplies the ERR of those hit, as a ramp fit does that lost groups.
    """
    rng = np.random.default_rng([seed, n, int(amplitude)])
    noise = np.sqrt(SKY_ELECTRONS)
    electrons = rng.poisson(SKY_ELECTRONS, (n, n_pixels)).astype(np.float64)
    hit = rng.random((n, n_pixels)) < share
    struck = electrons + np.where(hit, amplitude * noise, 0.0)
    err = np.sqrt(np.maximum(struck, 1.0)) / noise * np.where(hit, inflate, 1.0)
    return HitStack(
        (struck - SKY_ELECTRONS) / noise, err, (electrons - SKY_ELECTRONS) / noise, hit
    )


@dataclass(frozen=True)
class NoisyObservation:
    """A target and its backgrounds with nothing but noise, and the target's true light."""

    target: Path
    backgrounds: list[Path]
    truth: Floats  # (ny, nx)


def noisy_observation(
    folder: Path, n: int, *, nints: int | None, shape: tuple[int, int], seed: int
) -> NoisyObservation:
    """Write exposures with known Poisson and read noise, VAR arrays included.

    `nints` None makes images, a number cubes. As in the pipeline, ERR and VAR_POISSON
    are estimated from the noisy SCI.
    """
    from astropy.io import fits

    from offsky.testing import write_exposure

    rng = np.random.default_rng([seed, n, nints or 0])
    gain_s = 400.0  # electrons for 1 DN/s
    read = 0.08  # DN/s
    columns = np.linspace(0.0, 1.0, shape[1])
    sky = 20.0 * (0.95 + 0.1 * columns) * rng.normal(1.0, 0.01, shape)
    truth = np.broadcast_to(4.0 * np.exp(-((columns - 0.5) ** 2) / 0.02), shape).copy()

    def write(name: str, light: Floats) -> Path:
        size = shape if nints is None else (nints, *shape)
        sci = rng.poisson(np.broadcast_to(light * gain_s, size)) / gain_s
        sci = sci + rng.normal(0.0, read, size)
        poisson = np.clip(sci, 0.0, None) / gain_s
        path = write_exposure(
            folder / name, sci=sci.astype("f4"), err=np.sqrt(poisson + read**2).astype("f4"),
            variances=True,
        )  # fmt: skip
        with fits.open(path, mode="update", memmap=False) as hdus:
            hdus["VAR_POISSON"].data = poisson.astype("f4")
            hdus["VAR_RNOISE"].data = np.full(size, read**2, "f4")
        return path

    target = write("target_rate.fits", sky + truth)
    backgrounds = [write(f"off{i}_rate.fits", sky) for i in range(n)]
    return NoisyObservation(target, backgrounds, truth)


@dataclass(frozen=True)
class DriftingObservation:
    """A target and dithered backgrounds under a sky that drifts, and what is true."""

    target: Path
    backgrounds: list[Path]
    truth: Floats  # (ny, nx): the target's sources without noise
    noise: Floats  # (ny, nx): of target minus the mean of all backgrounds, as ERR tells
    usable: Mask  # (ny, nx): no cosmic ray, no bad pixel in the target
    starry: Mask  # (ny, nx): a source of some background lies here


def drifting_observation(
    folder: Path, n: int, *, shape: tuple[int, int], step: float, seed: int
) -> DriftingObservation:
    """Write an observation as `offsky demo` makes it, the sky brighter by `step` each time.

    The target was taken in the middle of the backgrounds.
    """
    from offsky.simulation import simulate_exposures
    from offsky.testing import write_exposure

    scene = simulate_exposures(shape, n_backgrounds=n, seed=seed, level_drift=0.0)
    middle = (n - 1) / 2
    paths = []
    for i, exposure in enumerate(scene.backgrounds):
        factor = np.float32(1 + step * (i - middle))
        paths.append(
            write_exposure(
                folder / f"off{i}_rate.fits", sci=exposure.sci * factor,
                err=exposure.err * factor, dq=exposure.dq, variances=True,
            )
        )  # fmt: skip
    target = write_exposure(
        folder / "target_rate.fits", sci=scene.target.sci, err=scene.target.err,
        dq=scene.target.dq, variances=True,
    )  # fmt: skip
    variance = np.stack([b.err for b in scene.backgrounds]).astype(np.float64) ** 2
    n_known = np.maximum(np.isfinite(variance).sum(axis=0), 1)
    noise = np.sqrt(
        scene.target.err.astype(np.float64) ** 2 + np.nansum(variance, axis=0) / n_known**2
    )
    return DriftingObservation(
        target,
        paths,
        scene.target.light,
        noise,
        np.isfinite(scene.target.sci) & ~scene.target.struck,
        np.any([b.light > 0.05 for b in scene.backgrounds], axis=0),
    )


def binned(image: Floats, size: int) -> Floats:
    """Return means over squares of `size` pixels; NaN does not count."""
    ny, nx = (length // size * size for length in image.shape)
    blocks = image[:ny, :nx].reshape(ny // size, size, nx // size, size)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(blocks)
        total = np.where(known, blocks, 0.0).sum(axis=(1, 3))
        return np.where(known.any(axis=(1, 3)), total / known.sum(axis=(1, 3)), np.nan)


def robust_scatter(values: Floats) -> float:
    """Return the scaled median absolute deviation of what is finite."""
    known = values[np.isfinite(values)]
    return 1.482602 * float(np.median(abs(known - np.median(known))))


def stacks(n_pixels: int, *, inflate: float = 1) -> Iterator[tuple[int, float, HitStack]]:
    """Yield stacks of 2 to 12 exposures with outliers of 5, 10 and 50 sigma."""
    for n in range(2, 13):
        for amplitude in (5.0, 10.0, 50.0):
            yield n, amplitude, hit_stack(n, n_pixels, amplitude, seed=4, inflate=inflate)
