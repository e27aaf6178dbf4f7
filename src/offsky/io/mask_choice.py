"""Which mask belongs to which background: by position, by name, or from a folder."""

import logging
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from offsky.errors import MissingFileError, ParameterError, shown
from offsky.io.models import model_name
from offsky.io.names import as_path, key_of, product_root

log = logging.getLogger(__name__)


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
    elif masks is not None and not isinstance(masks, Mapping | Sequence):
        raise ParameterError(f"masks is {shown(masks)}, and mask_dir is given; give one of them")
    elif masks:
        raise ParameterError("masks and mask_dir are given; give one of them")
    else:
        of = _masks_in(every, as_path(mask_dir, "mask_dir"))
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
    if not os.path.isdir(folder):  # noqa: PTH112 (False also for a name that cannot be)
        raise MissingFileError(f"{folder}: no such folder of masks; check the name")
    found = {}
    for key, given in every.items():
        path = folder / f"{product_root(Path(_name_of(given)))}_mask.fits"
        if os.path.exists(path):  # noqa: PTH110 (likewise)
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
