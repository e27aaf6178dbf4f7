"""Read masks: images in FITS files, not zero where a sample is to be left out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from offsky.arrays import Array
from offsky.combine.adjusted import AdjustedExposure
from offsky.errors import ExposureError, MissingFileError, ParameterError
from offsky.options import shown
from offsky.values.exposure import Exposure
from offsky.values.mask import PackedMask


def apply_masks(exposures: Sequence[Exposure], masks: Sequence[Any]) -> list[Exposure]:
    """Return exposures with what their masks say left out.

    Parameters
    ----------
    exposures : sequence of Exposure
        The exposures as they are.
    masks : sequence of (path-like, array_like or None)
        None at all, or one for each exposure: a FITS file whose first two-dimensional
        image is the mask, the mask itself, or None for no mask.

    Raises
    ------
    ParameterError
        If there are not as many masks as exposures, or `masks` is no sequence.
    ExposureError
        For a mask that cannot be read or is not of the exposure's shape.
    """
    if isinstance(masks, str | os.PathLike) or not hasattr(masks, "__iter__"):
        raise ParameterError(
            f"masks is {shown(masks)}: give a list, one mask or None for each background"
        )
    masks = list(masks)
    if not masks:
        return list(exposures)
    if len(masks) != len(exposures):
        raise ParameterError(
            f"{len(masks)} masks for {len(exposures)} backgrounds; give one for each, in the "
            "same order"
        )
    return [
        exposure if mask is None else AdjustedExposure(exposure, mask=_packed(mask, exposure))
        for exposure, mask in zip(exposures, masks, strict=True)
    ]


def _packed(mask: Any, exposure: Exposure) -> PackedMask:
    """Return a mask, checked against the exposure it is of."""
    from_file = isinstance(mask, str | os.PathLike)
    image = _read_image(Path(mask), exposure.name) if from_file else np.asarray(mask)
    if image.shape != exposure.shape[-2:]:
        which = f"{mask}: the mask" if from_file else "a mask"
        raise ExposureError(
            f"{which} has the shape {image.shape}, but {exposure.name} {exposure.shape[-2:]}; "
            "expected the same"
        )
    # NaN is not zero.
    return PackedMask.of(np.asarray(image != 0))


def _read_image(path: Path, name: str) -> Array:
    """Read the first two-dimensional image of a FITS file."""
    try:
        with fits.open(path, memmap=False) as hdus:
            for hdu in hdus:
                if hdu.is_image and hdu.header.get("NAXIS") == 2:
                    return np.asarray(hdu.data)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file; check the name of the mask") from error
    except (OSError, ValueError, TypeError) as error:
        raise ExposureError(f"{path}: the mask cannot be read as FITS ({error})") from error
    raise ExposureError(
        f"{path}: no two-dimensional image in the mask; expected one, not zero where {name} is "
        "to be left out"
    )
