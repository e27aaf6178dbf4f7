"""Read masks: images that are not zero where a sample is to be left out."""

import logging
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from offsky.arrays import Array
from offsky.errors import ExposureError, MissingFileError, ParameterError
from offsky.io.models import model_name
from offsky.io.names import key_of, product_root
from offsky.io.source import stamp_of
from offsky.values.mask import PackedMask

log = logging.getLogger(__name__)


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


def read_mask(given: Any, shape: tuple[int, int], exposure_name: str) -> UserMask:
    """Read a mask, and check it against the exposure that it is for.

    Parameters
    ----------
    given : path or array_like
        A FITS file whose first two-dimensional image is the mask, or the mask itself.
    shape : tuple of int
        (ny, nx) of the exposure.
    exposure_name : str
        What messages call the exposure.

    Raises
    ------
    ExposureError
        For a mask that cannot be read or is not of this shape.
    """
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        image, check = _read_image(path, exposure_name)
        name, what = path.name, f"{given}: the mask"
    else:
        image, check, name, what = _image_of(given), _never_changes, "array", "a mask"
    if image.shape != shape:
        raise ExposureError(
            f"{what} has the shape {image.shape}, but {exposure_name} {shape}; expected the same"
        )
    # NaN is not zero.
    return UserMask(name, PackedMask.of(np.asarray(image != 0)), check)


def masks_for(
    backgrounds: Sequence[Any],
    masks: Sequence[Any] | Mapping[Any, Any],
    mask_dir: str | os.PathLike[str] | None = None,
) -> tuple[Any, ...]:
    """Find the mask of each background of one product.

    Parameters
    ----------
    backgrounds : sequence of (path or data model)
        The backgrounds.
    masks : sequence or mapping
        One mask for each background in turn, None for no mask; or masks by the names or
        paths of their backgrounds. Empty for none.
    mask_dir : path-like or None
        A folder in which the mask of ``<root>_rate.fits`` is ``<root>_mask.fits``; a
        background without such a file has no mask.

    Returns
    -------
    tuple of (path, array or None)
        One for each background; empty where there is no mask at all.

    Raises
    ------
    ParameterError
        If a list has another length, a name fits no background, or both masks and a folder
        are given.
    """
    if mask_dir is not None or isinstance(masks, Mapping):
        (found,) = masks_of_products([backgrounds], masks, mask_dir)
        return found
    if isinstance(masks, str | bytes | os.PathLike) or not isinstance(masks, Sequence):
        raise ParameterError(
            f"masks is {type(masks).__name__}: give a list with one for each background, or a "
            "dictionary of masks by the backgrounds' names"
        )
    if masks and len(masks) != len(backgrounds):
        raise ParameterError(
            f"{len(masks)} masks for {len(backgrounds)} backgrounds; give one for each, in the "
            "same order"
        )
    return tuple(masks)


def masks_of_products(
    lists: Sequence[Sequence[Any]],
    masks: Sequence[Any] | Mapping[Any, Any],
    mask_dir: str | os.PathLike[str] | None = None,
    *,
    unused: Sequence[Any] = (),
) -> list[tuple[Any, ...]]:
    """Find the masks of the backgrounds of several products, by the backgrounds' names.

    Parameters
    ----------
    lists : sequence of sequences of (path or data model)
        The backgrounds of each product.
    masks : mapping
        Masks by the names or paths of their backgrounds; empty for none.
    mask_dir : path-like or None
        As for `masks_for`.
    unused : sequence of path
        Inputs that no product uses, and that a mask may name all the same.

    Returns
    -------
    list of tuple of (path, array or None)
        For each product one for each background; empty where it has no mask at all.

    Raises
    ------
    ParameterError
        As for `masks_for`.
    """
    every = {key_of(each): each for backgrounds in lists for each in backgrounds}
    if mask_dir is None:
        if not isinstance(masks, Mapping):
            raise ParameterError("masks of several products are given by the backgrounds' names")
        of = _masks_by_name(every, masks, {key_of(each): each for each in unused})
    elif len(masks):
        raise ParameterError("masks and mask_dir are given; give one of them")
    else:
        of = _masks_in(every, Path(mask_dir))
    of_lists = [tuple(of.get(key_of(each)) for each in backgrounds) for backgrounds in lists]
    return [found if any(m is not None for m in found) else () for found in of_lists]


def _masks_by_name(
    every: Mapping[Hashable, Any], masks: Mapping[Any, Any], unused: Mapping[Hashable, Any]
) -> dict[Hashable, Any]:
    """Return masks by the keys of their inputs."""
    by_name: dict[str, list[Hashable]] = {}
    for key, given in {**unused, **every}.items():
        for name in _names_of(given):
            by_name.setdefault(name, []).append(key)
    found = {}
    for wanted, mask in masks.items():
        name = os.fspath(wanted) if isinstance(wanted, os.PathLike) else str(wanted)
        keys = by_name.get(name) or by_name.get(_absolute(name))
        if not keys:
            shown = [_name_of(each) for each in every.values()]
            more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
            raise ParameterError(
                f"mask for {name!r}: no background has this name or path; they are "
                f"{', '.join(shown[:5]) or 'none'}{more}"
            )
        found.update(dict.fromkeys(keys, mask))
    return found


def _masks_in(every: Mapping[Hashable, Any], folder: Path) -> dict[Hashable, Any]:
    """Return the masks of a folder by the keys of their inputs; log how many there are."""
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder of masks; check the name")
    found = {}
    for key, given in every.items():
        path = folder / f"{product_root(Path(_name_of(given)))}_mask.fits"
        if path.exists():
            found[key] = path
    # A folder of other exposures' masks would go unnoticed.
    level = logging.INFO if found or not every else logging.WARNING
    log.log(level, "%s: masks of %d of %d backgrounds", folder, len(found), len(every))
    return found


def _name_of(given: Any) -> str:
    return Path(given).name if isinstance(given, str | os.PathLike) else model_name(given)


def _names_of(given: Any) -> Iterator[str]:
    """Yield what a user may call an input: its name, or its path from here."""
    yield _name_of(given)
    if isinstance(given, str | os.PathLike):
        yield _absolute(given)


def _absolute(path: str | os.PathLike[str]) -> str:
    """Return a path without dots, its links as they are."""
    return os.path.abspath(path)  # noqa: PTH100


def _never_changes() -> None:
    """Raise nothing: an array is its owner's business."""


def _image_of(given: Any) -> Array:
    try:
        image = np.asarray(given)
        if image.dtype.kind not in "biuf":
            raise ValueError(f"{image.dtype} values")
    except (ValueError, TypeError) as error:
        raise ParameterError(
            f"a mask is {type(given).__name__} ({error}); give an image of numbers, a FITS "
            "file, or None"
        ) from error
    return image


def _read_image(path: Path, name: str) -> tuple[Array, Callable[[], None]]:
    """Read the first two-dimensional image of a FITS file."""
    try:
        stamp = stamp_of(path.stat())
        with fits.open(path, memmap=False) as hdus:
            for hdu in hdus:
                if hdu.is_image and hdu.header.get("NAXIS") == 2:
                    return np.asarray(hdu.data), lambda: _check(path, stamp)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file; check the name of the mask") from error
    except (OSError, ValueError, TypeError) as error:
        raise ExposureError(f"{path}: the mask cannot be read as FITS ({error})") from error
    raise ExposureError(
        f"{path}: no two-dimensional image in the mask; expected one, not zero where {name} is "
        "to be left out"
    )


def _check(path: Path, stamp: tuple[int, ...]) -> None:
    try:
        now = stamp_of(path.stat())
    except OSError:
        now = None
    if now != stamp:
        raise ExposureError(
            f"{path}: the mask changed while it was used; run again when it is finished"
        )
