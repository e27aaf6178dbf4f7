"""Products of simulated exposures, judged as a report does, without files."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import offsky
from offsky.measure.checks import check
from offsky.measure.gather import Background, Gathering, Plane
from offsky.measure.judged import Judged
from offsky.values.facts import BackgroundFacts, ExposureFacts, Facts
from offsky.values.finding import Finding
from offsky.values.gathered import Gathered

NOISE = 0.2


def light(
    shape: tuple[int, int], stars: np.ndarray, shift: tuple[float, float] = (0, 0)
) -> np.ndarray:
    """Draw stars (column, row, flux) of 2.4 pixels' width, moved by columns and rows."""
    image = np.zeros(shape)
    y, x = np.mgrid[-12:13, -12:13]
    for column, row, flux in stars:
        cx, cy = column + shift[0], row + shift[1]
        ix, iy = round(cx), round(cy)
        if not (12 <= ix < shape[1] - 13 and 12 <= iy < shape[0] - 13):
            continue
        spot = np.exp(-0.5 * ((x + ix - cx) ** 2 + (y + iy - cy) ** 2) / 1.02**2)
        image[iy - 12 : iy + 13, ix - 12 : ix + 13] += flux / (2 * np.pi * 1.02**2) * spot
    return image


def field(
    rng: np.random.Generator, shape: tuple[int, int], n: int, brightest: float = 400.0
) -> np.ndarray:
    """Draw columns, rows and fluxes of stars, few bright among many faint."""
    flux = np.minimum(15.0 * (1.0 + rng.pareto(0.8, n)), brightest)
    return np.stack([rng.uniform(0, shape[1], n), rng.uniform(0, shape[0], n), flux], axis=1)


def exposures(
    seed: int,
    *,
    shape: tuple[int, int] = (256, 256),
    n: int = 4,
    n_stars: int = 40,
    dithers: bool = False,
    step: float = 30.0,
) -> tuple[list[np.ndarray], list[tuple[float, float]], np.ndarray]:
    """Simulate a target and backgrounds; return SCI of all, offsets of backgrounds, and stars.

    Dedicated backgrounds point to another field; dithers show the target's.
    """
    rng = np.random.default_rng(seed)
    sky = 10 + rng.normal(0, 0.1, shape) + np.linspace(-0.5, 0.5, shape[1])
    stars = field(rng, shape, n_stars)
    other = stars if dithers else field(rng, shape, n_stars // 4, brightest=60.0)
    images, offsets = [], []
    for i in range(n + 1):
        angle = rng.uniform(0, 2 * np.pi)
        shift = (0.0, 0.0)
        if i:
            shift = step * (1 + i / 3) * np.cos(angle), step * (1 + i / 3) * np.sin(angle)
        drawn = light(shape, stars if i == 0 else other, shift)
        image = sky + drawn + rng.normal(0, NOISE, shape)
        struck = rng.random(shape) < 3e-4
        image[struck] += rng.lognormal(1.5, 1, int(struck.sum()))
        images.append(image.astype(np.float32))
        if i:
            offsets.append(shift if dithers else (5000.0 + shift[0], shift[1]))
    return images, offsets, stars


def product_of(
    images: Sequence[np.ndarray], sigma: float = 2.0, **changes: Any
) -> tuple[np.ndarray, Any]:
    """Subtract the average of all but the first from the first."""
    err = np.full(images[0].shape, NOISE, dtype=np.float32)
    average = offsky.clipped_mean(
        np.stack(images[1:]), np.stack([err] * (len(images) - 1)), sigma=sigma, **changes
    )
    return images[0] - average.sci, average


def facts_of(offsets: Sequence[tuple[float, float] | None], **more: Any) -> Facts:
    """Return what is known of backgrounds at some offsets."""
    backgrounds = tuple(
        BackgroundFacts(
            exposure=ExposureFacts(name=f"background{i + 1}_rate.fits", readout="FAST, 10 groups"),
            offset=offset,
            n_rejected=500,
        )
        for i, offset in enumerate(offsets)
    )
    known: dict[str, Any] = {
        "target": ExposureFacts(name="target_rate.fits", readout="FAST, 10 groups"),
        "status": "COMPLETE",
        "backgrounds": backgrounds,
        "exp_type": "MIR_IMAGE",
        "fwhm": 2.4,
        "unit": "DN/s",
        "n_samples": 65536 * max(1, len(offsets)),
        "expected_rejected": 0.0,
        **more,
    }
    return Facts(**known)


def gathered_of(
    product: np.ndarray,
    *,
    before: np.ndarray | None = None,
    average: Any = None,
    err: np.ndarray | float = NOISE,
    dq: np.ndarray | None = None,
    dq_before: np.ndarray | None = None,
) -> Gathered:
    """Gather a product as a report does."""
    gathering = Gathering(
        product.shape, has_before=before is not None, has_average=average is not None
    )
    flags = np.zeros(product.shape, dtype=np.uint32)
    errors = np.broadcast_to(np.asarray(err, dtype=np.float32), product.shape)
    gathering.see(
        0,
        product.shape[-2],
        Plane(product, errors, flags if dq is None else dq),
        None if before is None else Plane(before, None, flags if dq_before is None else dq_before),
        None if average is None else Background(average.sci, average.n_kept, None, None),
    )
    return gathering.result()


def findings(product: np.ndarray, facts: Facts, **seen: Any) -> dict[str, Finding]:
    """Return the findings of all checks, by their codes."""
    return {each.code: each for each in check(Judged(gathered_of(product, **seen), facts))}


def ghost(share: float) -> Any:
    """Make a fault: a dark image of the stars where the first background shows them."""

    def add(product: np.ndarray, offsets: Any, stars: np.ndarray) -> np.ndarray:
        return product - share * light(product.shape, stars, offsets[0])

    return add


def judged_scene(
    seed: int, *, fault: Any = None, facts: dict[str, Any] | None = None, **scene: Any
) -> dict[str, Finding]:
    """Judge a simulated product, after something was done to it."""
    images, offsets, stars = exposures(seed, **scene)
    product, average = product_of(images)
    if fault is not None:
        product = fault(product, offsets, stars)
    about = facts_of(offsets)
    backgrounds = tuple(
        replace(each, n_rejected=int(n))
        for each, n in zip(about.backgrounds, average.n_rejected, strict=True)
    )
    about = replace(
        about,
        backgrounds=backgrounds,
        n_samples=int(sum(average.n_samples)) if np.ndim(average.n_samples) else average.n_samples,
        n_uncovered=int(np.count_nonzero(average.n_kept == 0)),
    )
    about = replace(about, **(facts or {}))
    return findings(product.astype(np.float32), about, before=images[0], average=average)
