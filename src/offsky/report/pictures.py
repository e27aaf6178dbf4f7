"""The pictures of a page: planes for its script, and small ones for readers without."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array
from offsky.report.encode import (
    ROWS,
    Encoded,
    Scale,
    encode_plane,
    packed,
    scale_for,
    scale_within,
)
from offsky.report.png import grey, png, shrunk
from offsky.values.gathered import COUNT, Gathered

# Sides of the small pictures.
_STATIC = 256


@dataclass(frozen=True, slots=True, eq=False)
class PlanePicture:
    """A plane as a page holds it.

    Attributes
    ----------
    name : str
        "before", "after", "average", "kept" or "flags".
    encoded : Encoded
        Its values.
    plus : tuple of str
        Planes that are to be added to it.
    """

    name: str
    encoded: Encoded
    plus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """All planes, and small pictures with their labels as PNG."""

    planes: tuple[PlanePicture, ...] = ()
    static: tuple[tuple[str, bytes], ...] = ()


def value_planes(gathered: Gathered, noise: float) -> tuple[PlanePicture, ...]:
    """Make the planes of the product, the average and the target.

    Parameters
    ----------
    gathered : Gathered
        The planes.
    noise : float
        Scatter of a block: the step that values are told in.
    """
    found = []
    parts: dict[str, tuple[Scale, NDArray[np.uint16]]] = {}
    for name in ("after", "average"):
        values: Array | None = getattr(gathered, name)
        if values is not None:
            scale = scale_for(values, noise)
            parts[name] = scale, scale.encode(values)
            found.append(PlanePicture(name, packed(parts[name][1], scale)))
    if gathered.before is not None:
        encoded = _packed_rest(gathered.before, list(parts.values()), noise)
        found.append(PlanePicture("before", encoded, tuple(parts)))
    return tuple(found)


def count_planes(gathered: Gathered) -> tuple[PlanePicture, ...]:
    """Make the planes of samples kept and of flags."""
    found = []
    side = gathered.bin
    if gathered.kept is not None:
        known = gathered.kept[np.isfinite(gathered.kept)]
        most = float(known.max()) if known.size else 1.0
        step = max(1 / side**2, most / 4000)
        found.append(PlanePicture("kept", encode_plane(gathered.kept, Scale(0.0, step, None, 0))))
    if gathered.flags is not None:
        step = 1 / min(side**2, COUNT)
        found.append(PlanePicture("flags", packed(gathered.flags, Scale(0.0, step, None, 0))))
    return tuple(found)


def _packed_rest(
    values: Array, parts: Sequence[tuple[Scale, NDArray[np.uint16]]], noise: float
) -> Encoded:
    """Return what other planes leave to be said of one: that takes little room."""

    def rest(first: int) -> Array:
        rows = slice(first, first + ROWS)
        left = values[rows].astype(np.float64)
        for scale, codes in parts:
            told = scale.decode(codes[rows])
            told[np.isnan(told)] = 0
            with np.errstate(invalid="ignore"):
                left -= told
        return left

    firsts = range(0, len(values), ROWS)
    least, most = 0.0, 0.0
    for first in firsts:
        left = rest(first)
        finite = left[np.isfinite(left)]
        if finite.size:
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
    scale = scale_within(least, most, noise, 0.0)
    codes = np.empty(values.shape, dtype=np.uint16)
    for first in firsts:
        codes[first : first + ROWS] = scale.encode(rest(first))
    return packed(codes, scale)


def static_pictures(gathered: Gathered, noise: float) -> tuple[tuple[str, bytes], ...]:
    """Make small pictures of target and product, with their labels."""
    shown = []
    for label, image in (("Before", gathered.before), ("After", gathered.after)):
        if image is not None:
            small = shrunk(image, _STATIC)
            side = max(1.0, image.shape[0] / small.shape[0])
            scatter = noise / side if isfinite(noise) else 0.0
            shown.append((label, png(grey(small, scatter))))
    return tuple(shown)
