"""What is known of a product and its exposures, from their headers and options."""

from typing import Any

import numpy as np

from offsky.combine.images import Image, combine_images
from offsky.io.facts import (
    Pointing,
    exposure_facts,
    is_imaging,
    is_slit,
    offset_between,
    point_width,
    pointing_of,
    separation_between,
)
from offsky.options import Options
from offsky.values.exposure import Exposure, Rows
from offsky.values.facts import BackgroundFacts

# Pixels of the simulation that tells how much a clip rejects of noise.
_SIMULATED = 128 * 128
_MOST_SIMULATED = 64


def common_facts(target: Exposure, pointing: Pointing | None, options: Options) -> dict[str, Any]:
    """Return fields of `Facts` that a target's header and the options tell."""
    exp_type = target.metadata.exp_type
    why = ""
    if pointing is None:
        why = "the target's header does not tell where it points, or its pixel scale is not known"
    return {
        "exp_type": exp_type,
        "is_imaging": is_imaging(exp_type),
        "is_nodded": is_slit(exp_type),
        "fwhm": point_width(target),
        "why_no_offsets": why,
        "unit": target.metadata.unit,
        "profile": options.profile,
        "errors": options.errors,
        "combine": options.combine,
        "level": options.level,
        "dq": options.dq,
        "uncovered": options.uncovered,
    }


def background_facts(
    target: Exposure, pointing: Pointing | None, background: Exposure, fate: str, remarks: str
) -> BackgroundFacts:
    """Return what is known of one background of a target that points somewhere."""
    own = pointing_of(background)
    offset = None if own is None or pointing is None else offset_between(pointing, own)
    return BackgroundFacts(
        exposure=exposure_facts(background),
        fate=fate,
        remarks=remarks,
        separation=separation_between(target, background),
        offset=offset,
    )


def expected_rejection(options: Options, n_backgrounds: int) -> float | None:
    """Return the share of samples that a clip rejects of Gaussian noise alone."""
    if options.reject == "none" or n_backgrounds < 2:
        return 0.0
    n = min(n_backgrounds, _MOST_SIMULATED)
    side = int(np.sqrt(max(256, _SIMULATED // n)))
    rng = np.random.default_rng(1)
    err = np.ones((side, side), dtype=np.float32)
    images = [
        Image(Rows(rng.standard_normal((side, side), dtype=np.float32), err, None))
        for _ in range(n)
    ]
    alike = options.changed(weight="equal", level="none", mask_sources=False)
    average = combine_images(images, alike, errors=options.uses_errors)
    return float(average.n_rejected.sum()) / (n * side * side)
