"""Small grey pictures as PNG, for readers without scripts, for paper and for an index."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array
from offsky.measure.blocks import block_means

_LEVELS = 48
# Rows that are worked on at a time.
_ROWS = 128


def shrunk(image: Array, most: int) -> Array:
    """Return means of blocks of an image such that no side is longer than `most`."""
    side = max(1, -(-max(image.shape) // most))
    if side == 1:
        return image
    height = max(1, _ROWS // side) * side
    parts = [block_means(image[i : i + height], side) for i in range(0, len(image), height)]
    return np.concatenate(parts)


def grey(image: Array, noise: float, level: float | None = None) -> NDArray[np.uint8]:
    """Return an image in shades of grey about its median, by an asinh; NaN is 0."""
    finite = np.isfinite(image)
    shades = np.zeros(image.shape, dtype=np.uint8)
    if not finite.any():
        return shades
    known = image[finite]
    middle = float(np.median(known)) if level is None else level
    if not noise > 0:
        noise = float(np.std(known)) or 1.0
    low, high = np.percentile(known, [0.5, 99.7])
    low, high = min(low - middle, -3 * noise), max(high - middle, 5 * noise)
    width = 2 * noise
    ends = np.arcsinh(low / width), np.arcsinh(high / width)
    place = (np.arcsinh((known - middle) / width) - ends[0]) / (ends[1] - ends[0])
    # Few shades: noise in more takes room and shows nothing.
    steps = np.rint(np.clip(place, 0, 1) * (_LEVELS - 1))
    shades[finite] = 20 + steps * (235 // (_LEVELS - 1) + 0.999 * (235 % (_LEVELS - 1)) / 47)
    return shades


def png(shades: NDArray[np.uint8]) -> bytes:
    """Return a picture whose first row is at the bottom, as FITS has it."""
    rows = shades[::-1]
    ny, nx = rows.shape
    # Each row after the number of its filter, none.
    raw = np.zeros((ny, nx + 1), dtype=np.uint8)
    raw[:, 1:] = rows
    header = struct.pack(">IIBBBBB", nx, ny, 8, 0, 0, 0, 0)
    body = zlib.compress(raw.tobytes(), 6)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
