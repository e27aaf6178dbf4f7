"""Read masks: images that tell where samples are to be left out.

By default what is not zero is left out. Masks that hold only 1 and NaN have 1 for good pixels,
and those of exposures are their DQ; which form was taken is logged.
"""

import logging
import os
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from offsky.arrays import DO_NOT_USE, Array, Mask, as_flags
from offsky.errors import ExposureError, MissingFileError, ParameterError, first_line
from offsky.given import plain_numbers
from offsky.io.fits_layout import Extent, read_layout
from offsky.io.source import Source, check_stamp, open_source
from offsky.values.mask import PackedMask

log = logging.getLogger(__name__)

# A mask that leaves out more is probably meant the other way round.
_MOST_LEFT_OUT = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class UserMask:
    """A mask that a user gave for one exposure.

    Attributes
    ----------
    name : str
        What messages and products call it.
    packed : PackedMask
        The mask.
    check_unchanged : callable
        Raises ExposureError if its file has changed since it was read.
    """

    name: str
    packed: PackedMask
    check_unchanged: Callable[[], None]


def read_mask(
    given: Any, shape: tuple[int, int], exposure_name: str, *, good_is: str = "0"
) -> UserMask:
    """Read a mask, and check it against the exposure that it is for.

    Parameters
    ----------
    given : path or array_like
        A FITS file whose first two-dimensional image is the mask, or the mask itself.
    shape : tuple of int
        (ny, nx) of the exposure.
    exposure_name : str
        What messages call the exposure.
    good_is : str
        "0" where every other value is left out, "1" where 0 and NaN are.

    Raises
    ------
    ExposureError
        For a mask that cannot be read or is not of this shape.
    """
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        image, is_dq, check = _read_image(path, exposure_name)
        name, what = path.name, f"{given}: the mask"
    else:
        image, is_dq, check = _image_of(given), False, _never_changes
        name, what = "array", "a mask"
    if image.shape != shape:
        raise ExposureError(
            f"{what} has the shape {image.shape}, but {exposure_name} {shape}; expected the same"
        )
    mask, form = _left_out(image, is_dq, good_is)
    share = float(mask.mean())
    level = logging.INFO if form == _USUAL else logging.WARNING
    log.log(level, "%s: %s: %.2f %% of %s are left out", what, form, 100 * share, exposure_name)
    if share > _MOST_LEFT_OUT and not is_dq:
        other = "0" if good_is == "1" else "1"
        log.warning(
            "%s leaves out %.2f %% of %s; if it is meant the other way round, say so: "
            "--mask-good-is %s (mask_good_is)",
            what,
            100 * share,
            exposure_name,
            other,
        )
    return UserMask(name, PackedMask.of(mask), check)


_USUAL = "pixels that are not 0"


def _left_out(image: Array, is_dq: bool, good_is: str) -> tuple[Mask, str]:
    """Return where a mask leaves samples out, and the form that it was taken to have."""
    if is_dq:
        return (as_flags(image) & DO_NOT_USE) != 0, "a DQ, pixels that are DO_NOT_USE"
    if good_is == "1":
        return ~((image != 0) & (image == image)), "pixels that are 0 or NaN"
    if image.dtype.kind == "f":
        known = image == image
        if not known.all() and known.any() and (image[known] == 1).all():
            return ~known, "a mask of 1 and NaN, pixels that are NaN"
    # NaN is not zero.
    return np.asarray(image != 0), _USUAL


def _never_changes() -> None:
    """Raise nothing: an array is its owner's business."""


def _image_of(given: Any) -> Array:
    try:
        return plain_numbers("a mask", given)
    except ParameterError as error:
        raise ParameterError(
            f"{error} (a mask is an image of numbers or truth values, a FITS file, or None)"
        ) from error


def _read_image(path: Path, name: str) -> tuple[Array, bool, Callable[[], None]]:
    """Read the first two-dimensional image of a FITS file; of an exposure, its DQ.

    Also returned are whether it is a DQ, and what raises once the file has changed.
    """
    try:
        with closing(open_source(path)) as source, warnings.catch_warnings():
            # Oddities that astropy mends or remarks upon are not ours.
            warnings.simplefilter("ignore")
            extents = read_layout(source)
            has_sci = any(extent.name == "SCI" for extent in extents)
            for extent in extents:
                n_axes = "ZNAXIS" if extent.is_compressed else "NAXIS"
                if extent.is_image and extent.cards.get(n_axes) == 2:
                    is_dq = extent.name == "DQ"
                    if is_dq or not has_sci:
                        image = _pixels(source, extent)
                        check = partial(check_stamp, path, source.stamp, f"{path}: the mask")
                        return image, is_dq, check
    except MissingFileError as error:
        raise MissingFileError(f"{path}: no such file; check the name of the mask") from error
    except ExposureError as error:
        raise ExposureError(f"{error} (it was given as a mask)") from error
    except Exception as error:
        # Each compression, and each kind of damage, has errors of its own.
        raise ExposureError(
            f"{path}: the mask cannot be read as FITS ({first_line(error)}); make it again"
        ) from error
    if has_sci:
        raise ExposureError(
            f"{path}: an exposure without a two-dimensional DQ is no mask; expected an image, not "
            f"zero where {name} is to be left out"
        )
    raise ExposureError(
        f"{path}: no two-dimensional image in the mask; expected one, not zero where {name} is "
        "to be left out"
    )


def _pixels(source: Source, extent: Extent) -> Array:
    """Read a whole image, which may be that of the primary unit."""
    if extent.header_start:
        from offsky.io.fits_unit import open_unit

        units = open_unit(source, extent)
    else:
        units = fits.open(source.view(), memmap=False)
    with units:
        return np.array(units[-1 if extent.header_start else 0].data)
