"""A simulated observation of which the truth is known: for the demo, tests and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SimulatedExposure:
    """One simulated exposure and what is known of it; arrays are (ny, nx).

    Attributes
    ----------
    sci, err : ndarray
        float32, DN/s; NaN where `dq` says DO_NOT_USE.
    dq : ndarray
        uint32, the flags of the JWST pipeline.
    light : ndarray
        float64, DN/s: stars and other sources alone, without noise.
    struck : ndarray
        bool, True where a cosmic ray that no flag tells of is left over.
    """

    sci: npt.NDArray[np.float32]
    err: npt.NDArray[np.float32]
    dq: npt.NDArray[np.uint32]
    light: Floats
    struck: Mask


@dataclass(frozen=True)
class Scene:
    """A simulated observation: a target, its backgrounds and their common sky.

    Attributes
    ----------
    target : SimulatedExposure
        Its `light` is the truth that background subtraction should find.
    backgrounds : tuple of SimulatedExposure
        An emptier field, dithered from exposure to exposure.
    sky : ndarray
        float64, (ny, nx), DN/s: what all exposures share, before the small
        drift of its level from one to the next.
    """

    target: SimulatedExposure
    backgrounds: tuple[SimulatedExposure, ...]
    sky: Floats


_GAIN_E_PER_DN = 4.0
_EXPOSURE_TIME_S = 99.5
_READ_NOISE_DN_S = 0.05


def simulate_exposures(
    shape: tuple[int, int] = (512, 512),
    *,
    n_backgrounds: int = 4,
    seed: int = 7,
    sky_level: float = 20.0,
    level_drift: float = 0.02,
) -> Scene:
    """Simulate a target with dedicated backgrounds, as MIRI's imager sees them.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of every exposure.
    n_backgrounds : int
        Number of background exposures.
    seed : int
        Equal seeds give equal scenes.
    sky_level : float
        Typical sky, DN/s.
    level_drift : float
        Standard deviation of the sky's level over the exposures, DN/s.

    Returns
    -------
    Scene
        The exposures and the truth.

    Notes
    -----
    The sky has a gradient, a glow at one corner, stripes along the columns, a
    pixel-to-pixel response of 1 % and hot pixels: all of it is common to the
    exposures and should vanish. Noise is Poisson and read noise; ERR is
    estimated from the noisy SCI, as the pipeline does. Cosmic rays are of
    three kinds: left over without a flag; corrected and flagged JUMP_DET; and
    lost (NaN, DO_NOT_USE) in one exposure only. Dead pixels are NaN in all.
    """
    rng = np.random.default_rng(seed)
    ny, nx = shape
    rows, columns = np.mgrid[0 : 1 : ny * 1j, 0 : 1 : nx * 1j]
    glow = 0.30 * np.exp(-((rows - 1.0) ** 2 + (columns - 1.05) ** 2) / 0.18)
    response = rng.normal(1.0, 0.01, shape)
    sky = sky_level * (0.94 + 0.08 * columns + 0.04 * rows + glow) * response
    sky += rng.normal(0.0, 0.008 * sky_level, nx)
    hot = rng.random(shape) < 0.002
    sky[hot] += rng.lognormal(2.5, 1.0, int(hot.sum()))
    dead = _dead_pixels(rng, shape)

    light = _stars(rng, shape, n=ny * nx // 4000) + _galaxy(shape)
    target = _expose(rng, sky, light * response, hot, dead)

    field = _draw_stars(rng, shape, n=ny * nx // 8000)
    backgrounds = []
    for _ in range(n_backgrounds):
        dither = rng.uniform(-30.0, 30.0, 2)
        light = _render(shape, field[0] + dither[0], field[1] + dither[1], field[2])
        level = rng.normal(0.0, level_drift)
        backgrounds.append(_expose(rng, sky + level, light * response, hot, dead))
    return Scene(target, tuple(backgrounds), sky)


def _expose(
    rng: np.random.Generator, sky: Floats, light: Floats, hot: Mask, dead: Mask
) -> SimulatedExposure:
    """Add noise, cosmic rays and flags to noiseless `sky` and `light`."""
    from stdatamodels.jwst.datamodels.dqflags import pixel as flags

    shape = sky.shape
    left_over = _cosmic_rays(rng, shape, per_pixel=5e-4)
    corrected = _cosmic_rays(rng, shape, per_pixel=2e-3) > 0
    lost = _cosmic_rays(rng, shape, per_pixel=1e-4) > 0

    electrons_per_rate = _GAIN_E_PER_DN * _EXPOSURE_TIME_S
    rate = rng.poisson((sky + light + left_over) * electrons_per_rate) / electrons_per_rate
    # A corrected jump costs part of the ramp, and so some of its precision.
    read_noise = np.where(corrected, 3.0, 1.0) * _READ_NOISE_DN_S
    sci = (rate + read_noise * rng.standard_normal(shape)).astype(np.float32)
    err = np.sqrt(np.clip(sci, 0.0, None) / electrons_per_rate + read_noise**2)
    err = err.astype(np.float32)

    dq = np.zeros(shape, np.uint32)
    dq[hot] |= flags["HOT"]
    dq[corrected] |= flags["JUMP_DET"]
    dq[lost] |= flags["SATURATED"] | flags["DO_NOT_USE"]
    dq[dead] |= flags["DEAD"] | flags["DO_NOT_USE"]
    sci[lost | dead] = np.nan
    err[lost | dead] = np.nan
    return SimulatedExposure(sci, err, dq, light, (left_over > 0) & ~lost & ~dead)


def _dead_pixels(rng: np.random.Generator, shape: tuple[int, int]) -> Mask:
    """Return scattered dead pixels, some clumps and part of a column."""
    ny, nx = shape
    dead = rng.random(shape) < 0.001
    dead[ny // 8 : ny // 2, (3 * nx) // 4] = True
    size = max(1, ny // 80)
    for row, column in rng.integers(0, (ny - size + 1, nx - size + 1), (6, 2)):
        dead[row : row + size, column : column + size] = True
    return dead


def _cosmic_rays(rng: np.random.Generator, shape: tuple[int, ...], *, per_pixel: float) -> Floats:
    """Return straight tracks of some pixels' length: amplitudes in DN/s, 0 elsewhere."""
    ny, nx = shape
    n = round(per_pixel * ny * nx)
    steps = np.linspace(0.0, 1.0, 16)[:, np.newaxis]
    length = np.minimum(1.0 + rng.exponential(3.0, n), 14.0)
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    row = (rng.uniform(0, ny, n) + steps * length * np.sin(angle)).astype(int)
    column = (rng.uniform(0, nx, n) + steps * length * np.cos(angle)).astype(int)
    amplitude = np.broadcast_to(rng.lognormal(1.5, 1.0, n), row.shape)
    inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
    image = np.zeros(shape)
    np.maximum.at(image, (row[inside], column[inside]), amplitude[inside])
    return image


def _draw_stars(
    rng: np.random.Generator, shape: tuple[int, int], *, n: int
) -> tuple[Floats, Floats, Floats]:
    """Draw rows, columns and fluxes (DN/s), few bright among many faint."""
    ny, nx = shape
    flux = np.minimum(8.0 * (1.0 + rng.pareto(0.7, n)), 1000.0)
    return rng.uniform(-30, ny + 30, n), rng.uniform(-30, nx + 30, n), flux


def _stars(rng: np.random.Generator, shape: tuple[int, int], *, n: int) -> Floats:
    """Return an image of `n` stars at random."""
    return _render(shape, *_draw_stars(rng, shape, n=n))


def _render(shape: tuple[int, int], rows: Floats, columns: Floats, flux: Floats) -> Floats:
    """Draw stars: a Gaussian core of 2.4 pixels (F770W's width) and a fainter halo."""
    half = 24
    ny, nx = shape
    image = np.zeros((ny + 4 * half, nx + 4 * half))
    box = np.arange(-half, half + 1)
    row, column = np.rint(rows).astype(int), np.rint(columns).astype(int)
    dy = box[np.newaxis, :, np.newaxis] - (rows - row)[:, np.newaxis, np.newaxis]
    dx = box[np.newaxis, np.newaxis, :] - (columns - column)[:, np.newaxis, np.newaxis]
    r2 = dx**2 + dy**2
    stamp = np.zeros_like(r2)
    for share, sigma in ((0.85, 1.02), (0.15, 5.0)):
        stamp += share / (2.0 * np.pi * sigma**2) * np.exp(-0.5 * r2 / sigma**2)
    y = row[:, np.newaxis, np.newaxis] + 2 * half + box[np.newaxis, :, np.newaxis]
    x = column[:, np.newaxis, np.newaxis] + 2 * half + box[np.newaxis, np.newaxis, :]
    inside = (row >= -half) & (row < ny + half) & (column >= -half) & (column < nx + half)
    stamp *= flux[:, np.newaxis, np.newaxis]
    np.add.at(image, (y[inside], x[inside]), stamp[inside])
    return image[2 * half : 2 * half + ny, 2 * half : 2 * half + nx]


def _galaxy(shape: tuple[int, int]) -> Floats:
    """Return an inclined spiral galaxy, fainter than the sky nearly everywhere."""
    ny, nx = shape
    scale = min(ny, nx) / 14.0
    y, x = np.mgrid[0:ny, 0:nx] - np.array([0.5 * ny, 0.46 * nx]).reshape(2, 1, 1)
    tilt = np.radians(35.0)
    along = x * np.cos(tilt) + y * np.sin(tilt)
    across = (y * np.cos(tilt) - x * np.sin(tilt)) / 0.6
    radius = np.hypot(along, across) / scale
    arms = np.cos(2.0 * np.arctan2(across, along) - 4.0 * np.log(radius + 0.3))
    disc: Floats = 2.5 * np.exp(-radius) * (1.0 + 0.7 * arms * np.tanh(radius))
    disc += 6.0 * np.exp(-0.5 * (radius / 0.15) ** 2)
    return disc
