"""Stacks of images with the skirts that stars and cosmic rays have, whose truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Electrons of a sky, and of read noise: a sample's noise is about 22 electrons.
_SKY, _READ = 400.0, 8.0
# What counts as contaminated, in units of a sample's noise.
_SEEN = 1.0


@dataclass(frozen=True)
class ImageStack:
    """Images of one sky, in units of the noise of a sample of depth 1; the truth is 0."""

    sci: Floats  # (n, ny, nx)
    err: Floats
    added: Floats  # what stars and cosmic rays add
    noise: Floats  # (n,): of each exposure


def image_stack(
    n: int,
    shape: tuple[int, int],
    *,
    seed: int,
    share: float = 0.02,
    sigmas: Sequence[float] | None = None,
    err_factor: float = 1.0,
) -> ImageStack:
    """Draw images in which a share of the samples is contaminated, half of it by stars.

    Parameters
    ----------
    n : int
        Images.
    shape : tuple of int
        (ny, nx).
    seed : int
        Of the random numbers.
    share : float
        Share of the samples to which more than their noise is added; 0 for none.
    sigmas : sequence of float, or None
        Noise of each image; None for 1.
    err_factor : float
        What ERR is multiplied by.
    """
    rng = np.random.default_rng([seed, n])
    unit = np.sqrt(_SKY + _READ**2)
    noise = np.ones(n) if sigmas is None else np.array(sigmas, dtype=np.float64)
    added = np.zeros((n, *shape))
    for i in range(n):
        added[i] = _stars(rng, shape, share / 2, noise[i])
        added[i] += _cosmic_rays(rng, shape, share / 2, noise[i])
    # An image that is s times noisier was exposed for 1 / s^2 of the time.
    time = noise[:, None, None] ** -2.0
    electrons = rng.poisson(time * (_SKY + unit * added)) + rng.normal(0.0, _READ, added.shape) * (
        np.sqrt(time)
    )
    sci = (electrons / time - _SKY) / unit
    err = np.sqrt(np.clip(electrons, 0, None) + time * _READ**2) / time / unit * err_factor
    return ImageStack(sci, err, added, noise)


def _stars(rng: np.random.Generator, shape: tuple[int, int], share: float, noise: float) -> Floats:
    """Return stars, ever more, until they are seen at a share of the pixels."""
    image = np.zeros(shape)
    while share and np.mean(image > _SEEN * noise) < share:
        peak = noise * 3.0 * rng.pareto(0.9) + 2.0
        row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        width = rng.uniform(0.9, 1.4)
        # A core, and wings: what is left of a star once its core is rejected.
        _add(image, row, column, min(peak, 1e4), width)
        _add(image, row, column, min(peak, 1e4) * 0.03, 3.5 * width)
    return image


def _add(image: Floats, row: float, column: float, peak: float, width: float) -> None:
    reach = int(5 * width) + 1
    r0, c0 = int(row), int(column)
    rows = np.arange(max(r0 - reach, 0), min(r0 + reach + 1, image.shape[0]))
    columns = np.arange(max(c0 - reach, 0), min(c0 + reach + 1, image.shape[1]))
    square = (rows[:, None] - row) ** 2 + (columns - column) ** 2
    image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += peak * np.exp(
        -0.5 * square / width**2
    )


def _cosmic_rays(
    rng: np.random.Generator, shape: tuple[int, int], share: float, noise: float
) -> Floats:
    """Return tracks with tails, whose charge spreads to the next pixels."""
    image = np.zeros(shape)
    while share and np.mean(image > _SEEN * noise) < share:
        row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        angle, length = rng.uniform(0, np.pi), 1 + rng.exponential(3.0)
        size = noise * (5.0 + 20.0 * rng.pareto(1.2))
        for step in np.arange(0.0, length, 1.0):
            r, c = int(row + step * np.sin(angle)), int(column + step * np.cos(angle))
            if not (0 < r < shape[0] - 1 and 0 < c < shape[1] - 1):
                continue
            light = min(size, 1e4) * rng.uniform(0.3, 1.0) * (1 - step / (length + 1))
            image[r, c] += light
            for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                image[r + dr, c + dc] += 0.06 * light
            for dr, dc in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                image[r + dr, c + dc] += 0.015 * light
    return image
