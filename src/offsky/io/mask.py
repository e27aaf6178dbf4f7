"""Read masks: images in FITS files, not zero where a sample is to be left out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from offsky.adjusted import AdjustedExposure, PackedMask
from offsky.errors import ExposureError, MissingFileError, ParameterError
from offsky.exposure import Exposure


def apply_masks(exposures: Sequence[Exposure], masks: Sequence[Path | None]) -> list[Exposure]:
    """Return exposures with what their masks say left out.

    Parameters
    ----------
    exposures : sequence of Exposure
        The exposures as they are.
    masks : sequence of (Path or None)
        None at all, or one for each exposure: a FITS file, or None for no mask.

    Raises
    ------
    ParameterError
        If there are not as many masks as exposures.
    ExposureError
        For a mask that cannot be read or is not of the exposure's shape.
    """
    if not masks:
        return list(exposures)
    if len(masks) != len(exposures):
        raise ParameterError(
            f"{len(masks)} masks for {len(exposures)} backgrounds; give one for each, in the "
            "same order"
        )
    return [
        exposure if path is None else AdjustedExposure(exposure, mask=read_mask(path, exposure))
        for exposure, path in zip(exposures, masks, strict=True)
    ]


def read_mask(path: Path, exposure: Exposure) -> PackedMask:
    """Read the mask of an exposure: the first two-dimensional image of a FITS file."""
    try:
        with fits.open(path, memmap=False) as hdus:
            image = next(
                (hdu.data for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS") == 2), None
            )
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file; check the name of the mask") from error
    except (OSError, ValueError, TypeError) as error:
        raise ExposureError(f"{path}: the mask cannot be read as FITS ({error})") from error
    if image is None:
        raise ExposureError(
            f"{path}: no two-dimensional image in the mask; expected one, not zero where "
            f"{exposure.name} is to be left out"
        )
    if image.shape != exposure.shape[-2:]:
        raise ExposureError(
            f"{path}: the mask has the shape {image.shape}, but {exposure.name} "
            f"{exposure.shape[-2:]}; expected the same"
        )
    # NaN is not zero.
    return PackedMask.of(np.asarray(image != 0))
