"""Planes of a picture as small texts: 12-bit codes, compressed, that a browser decodes.

A code stands for ``zero + width sinh((code - centre) step / width)``: even steps about `zero`,
longer ones far from it. Without a width all steps are even. The code `MISSING` is NaN.
"""

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array

MISSING = 4095
CENTRE = 2176
"""Code of the middle: 128 in the low byte, so that noise about it leaves the high one alone."""
_LARGEST = MISSING - 1
ROWS = 128
"""Rows that are worked on at a time."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What codes stand for.

    Attributes
    ----------
    zero : float
        Value of the code `centre`.
    step : float
        Distance of neighbouring codes there.
    width : float or None
        Where steps begin to grow; None for even steps.
    centre : int
        The code of `zero`.
    """

    zero: float
    step: float
    width: float | None = None
    centre: int = CENTRE

    def encode(self, values: Array) -> NDArray[np.uint16]:
        """Return the nearest codes; NaN and infinity are `MISSING`."""
        codes = np.empty(values.shape, dtype=np.uint16)
        # By rows: what a whole plane takes in float64 is much memory.
        for first in range(0, len(values), ROWS):
            part = slice(first, first + ROWS)
            codes[part] = self._encode(values[part])
        return codes

    def _encode(self, values: Array) -> NDArray[np.uint16]:
        with np.errstate(invalid="ignore"):
            places = np.subtract(values, self.zero, dtype=np.float64)
            if self.width is None:
                places /= self.step
            else:
                places /= self.width
                np.arcsinh(places, out=places)
                places *= self.width / self.step
            places += self.centre
            np.rint(places, out=places)
        places[~np.isfinite(values)] = MISSING
        np.clip(places, 0, MISSING, out=places)
        return places.astype(np.uint16)

    def decode(self, codes: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Return what codes stand for."""
        places = codes.astype(np.float64)
        places -= self.centre
        places *= self.step
        if self.width is not None:
            places /= self.width
            np.sinh(places, out=places)
            places *= self.width
        places += self.zero
        places[codes == MISSING] = np.nan
        return places

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name, ready for JSON."""
        return {
            "zero": self.zero,
            "step": self.step,
            "width": self.width,
            "centre": self.centre,
        }


def scale_for(values: Array, step: float, zero: float | None = None) -> Scale:
    """Return a scale that holds all finite values.

    Parameters
    ----------
    values : ndarray
        Any.
    step : float
        Step about the middle; longer where there is no noise to hide even the smallest
        number that float32 tells apart.
    zero : float or None
        The middle; None for the median.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return Scale(0.0, 1.0)
    least = float(np.min(values, where=finite, initial=np.inf))
    most = float(np.max(values, where=finite, initial=-np.inf))
    if zero is None:
        # Some tell it well enough, and sorting a million takes 20 ms.
        some = values.ravel()[:: max(1, values.size // 65536) | 1]
        some = some[np.isfinite(some)]
        zero = float(np.median(some)) if some.size else (least + most) / 2
    return scale_within(least, most, step, zero)


def scale_within(least: float, most: float, step: float, zero: float) -> Scale:
    """Return a scale that holds values from `least` to `most`; see `scale_for`."""
    low, high = least - zero, most - zero
    reach = max(-low, high)
    if not (step > 0 and np.isfinite(step)):
        step = reach / 1900
    step = max(step, 1e-7 * abs(zero), 1e-12 * reach, 1e-30)
    up, down = (_LARGEST - CENTRE) * step, CENTRE * step
    if high <= up and -low <= down:
        return Scale(zero, step)
    width = up
    with np.errstate(over="ignore"):
        while width * np.sinh(up / width) < high or width * np.sinh(down / width) < -low:
            width *= 0.9
    return Scale(zero, step, float(width))


FILTERS = ("none", "up", "average")
"""What is taken from a code, so that slow changes take no room: nothing, the code of the row
before, the mean of that and of the column before (0 beyond the edge)."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A plane as a page holds it.

    Attributes
    ----------
    scale : Scale
        What its codes stand for.
    shape : tuple of int
        Rows and columns of blocks.
    how : str
        One of `FILTERS`.
    low, high : str
        The low and high bytes of the codes, compressed, as base64.
    """

    scale: Scale
    shape: tuple[int, int]
    how: str
    low: str
    high: str


def encode_plane(values: Array, scale: Scale) -> Encoded:
    """Return a plane as texts."""
    return packed(scale.encode(values), scale)


def packed(codes: NDArray[np.uint16], scale: Scale) -> Encoded:
    """Return codes as texts: their low and high bytes apart, each compressed."""
    n_rows, n_columns = codes.shape
    how = best_filter(codes, scale)
    low, high = _Packer(), _Packer()
    for first in range(0, n_rows, ROWS):
        above = codes[first - 1] if first else None
        left = filtered(codes[first : first + ROWS], how, above)
        low.add((left & 0xFF).astype(np.uint8))
        high.add((left >> 8).astype(np.uint8))
    return Encoded(scale, (n_rows, n_columns), how, low.text(), high.text())


def filtered(
    codes: NDArray[np.uint16], how: str, above: NDArray[np.uint16] | None = None
) -> NDArray[np.uint16]:
    """Return what is left of codes, of 12 bits, about `CENTRE`; see `FILTERS`.

    Parameters
    ----------
    codes : ndarray of uint16
        Some rows.
    how : str
        One of `FILTERS`.
    above : ndarray of uint16 or None
        The row before them; None at the edge.
    """
    if how == "none":
        return codes
    expected = np.zeros_like(codes)
    expected[1:] = codes[:-1]
    if above is not None:
        expected[0] = above
    if how == "average":
        expected[:, 1:] += codes[:, :-1]
        expected >>= 1
    # Unsigned numbers wrap, as the browser's do.
    return (codes - expected + np.uint16(CENTRE)) & np.uint16(0xFFF)


def best_filter(codes: NDArray[np.uint16], scale: Scale) -> str:
    """Return the filter that leaves least to be told of some rows."""
    if scale.centre == 0:
        return "none"
    step = max(1, len(codes) // 32)
    pairs = np.stack([codes[1::step][: len(codes[0:-1:step])], codes[0:-1:step]], axis=1)

    def bits(how: str) -> float:
        left = np.concatenate([filtered(pair, how)[1, 1:] for pair in pairs])
        counts = np.bincount(left)
        share = counts[counts > 0] / max(1, left.size)
        return float(-(share * np.log2(share)).sum())

    if len(codes) < 3 or codes.shape[1] < 3:
        return "none"
    return min(FILTERS, key=bits)


class _Packer:
    """Compresses bytes that come in pieces.

    Runs alone are looked for: on noise that is smaller than any level, and ten times faster.
    """

    def __init__(self) -> None:
        self._how = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
        self._parts: list[bytes] = []

    def add(self, values: NDArray[np.uint8]) -> None:
        self._parts.append(self._how.compress(values.tobytes()))

    def text(self) -> str:
        """Return all of them as base64 of a zlib stream."""
        return base64.b64encode(b"".join((*self._parts, self._how.flush()))).decode("ascii")
