"""A mask of an image in one bit a pixel."""

import numpy as np
from numpy.typing import NDArray


class PackedMask:
    """A mask of an image, True where a sample is left out, in one bit a pixel.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._bits = np.zeros((shape[0], -(-shape[1] // 8)), dtype=np.uint8)

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> "PackedMask":
        """Return `mask`, (ny, nx), packed."""
        packed = cls((mask.shape[0], mask.shape[1]))
        packed.put(0, mask)
        return packed

    def put(self, first: int, rows: NDArray[np.bool_]) -> None:
        """Set the rows from `first` on."""
        self._bits[first : first + len(rows)] = np.packbits(rows, axis=-1)

    def rows(self, first: int, last: int) -> NDArray[np.bool_]:
        """Return rows [first, last)."""
        return np.unpackbits(self._bits[first:last], axis=-1, count=self.shape[1]).view(np.bool_)

    def pick(self, rows: list[int]) -> NDArray[np.bool_]:
        """Return some rows."""
        return np.unpackbits(self._bits[rows], axis=-1, count=self.shape[1]).view(np.bool_)

    def also(self, other: "PackedMask | None") -> "PackedMask":
        """Return what this mask or another leaves out."""
        if other is None:
            return self
        both = PackedMask(self.shape)
        np.bitwise_or(self._bits, other._bits, out=both._bits)
        return both

    def count(self) -> int:
        """Return the number of samples left out."""
        return int(np.bitwise_count(self._bits).sum()) if _HAS_BIT_COUNT else self._counted()

    def _counted(self) -> int:
        return int(np.unpackbits(self._bits, axis=-1).sum(dtype=np.int64))


_HAS_BIT_COUNT = hasattr(np, "bitwise_count")
