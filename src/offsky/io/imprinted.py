"""An exposure minus its imprint, as an exposure: the same for files, models and arrays."""

from collections.abc import Sequence

import numpy as np

from offsky.arrays import Array
from offsky.values.exposure import Exposure, Rows, Scratch, Wanted

_BARE = Wanted(err=False, variances=False)
# Memory for a pixel of the difference: SCI in the wider type, DQ, and DQ once more on its way.
_PIXEL_BYTES = 8 + 4 + 4


class ImprintedExposure:
    """An exposure whose imprint is subtracted from its rows as they are read.

    SCI is the exposure's minus the mean of its imprints, in the exposure's own type; DQ is
    the OR of all. Everything else is the exposure's.

    Parameters
    ----------
    base : Exposure
        The exposure, an image or a cube.
    imprints : sequence of Exposure
        Images of its (ny, nx), at least one.
    """

    def __init__(self, base: Exposure, imprints: Sequence[Exposure]) -> None:
        self.base = base
        self.imprints = tuple(imprints)
        self.name = base.name
        self.shape = base.shape
        self.metadata = base.metadata
        self.missing = base.missing
        self.held_bytes = base.held_bytes
        self.same_as = base.same_as, tuple(each.same_as for each in imprints)

    @property
    def has_variances(self) -> bool:
        """Whether it has VAR_POISSON and VAR_RNOISE."""
        return self.base.has_variances

    def row_bytes(self, wanted: Wanted) -> int:
        """Return the memory that reading one row takes, and subtracting from it."""
        read = self.base.row_bytes(wanted) + sum(each.row_bytes(_BARE) for each in self.imprints)
        return read + difference_bytes(self.shape)

    def read_rows(self, first: int, last: int, scratch: Scratch, wanted: Wanted) -> Rows:
        """Return rows [first, last), valid until `scratch` is cleared."""
        own = self.base.read_rows(first, last, scratch, wanted)
        imprints = [each.read_rows(first, last, scratch, _BARE) for each in self.imprints]
        return _minus(own, imprints, scratch)

    def pick_rows(self, rows: Sequence[int], scratch: Scratch, wanted: Wanted) -> Rows:
        """Return some rows, valid as of `read_rows`."""
        own = self.base.pick_rows(rows, scratch, wanted)
        imprints = [each.pick_rows(rows, scratch, _BARE) for each in self.imprints]
        return _minus(own, imprints, scratch)

    def check_unchanged(self) -> None:
        """Raise ExposureError if the exposure or an imprint is not what it was."""
        for each in (self.base, *self.imprints):
            each.check_unchanged()

    def close(self) -> None:
        """Do nothing: its parts are closed by whoever opened them."""


def difference_bytes(shape: tuple[int, ...]) -> int:
    """Return the memory of one row of the difference, beside what is read for it."""
    n_pixels = shape[-1] * (shape[0] if len(shape) == 3 else 1)
    # Several imprints are added up in float64.
    return _PIXEL_BYTES * (n_pixels + 2 * shape[-1])


def bare(exposure: Exposure) -> Exposure:
    """Return an exposure as it was opened, without its imprint subtracted."""
    return exposure.base if isinstance(exposure, ImprintedExposure) else exposure


def imprints_of(exposure: Exposure | None) -> tuple[Exposure, ...]:
    """Return the imprints that are subtracted from an exposure; empty for none."""
    return exposure.imprints if isinstance(exposure, ImprintedExposure) else ()


def _minus(own: Rows, imprints: Sequence[Rows], scratch: Scratch) -> Rows:
    """Return rows of an exposure minus the mean of the same rows of its imprints.

    The memory of all of these stays as it is: it may be a model's.
    """
    level = imprints[0].sci
    sci = scratch.array(own.sci.shape, own.sci.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        if len(imprints) > 1:
            level = np.zeros(level.shape)
            for each in imprints:
                level += each.sci
            level /= len(imprints)
        np.subtract(own.sci, level, out=sci, casting="same_kind")
    flags: Array | None = None
    for each in imprints:
        if each.dq is not None:
            more = each.dq.astype(np.uint32) ^ np.uint32(each.dq_flip)
            flags = more if flags is None else flags | more
    if flags is None:
        return own._replace(sci=sci)
    if own.dq is None:
        return own._replace(sci=sci, dq=np.broadcast_to(flags, sci.shape), dq_flip=0)
    # What is stored is XORed with dq_flip.
    flip = np.uint32(own.dq_flip)
    dq = scratch.array(own.dq.shape, own.dq.dtype)
    np.bitwise_or(own.dq ^ flip, flags, out=dq, casting="same_kind")
    np.bitwise_xor(dq, flip, out=dq, casting="same_kind")
    return own._replace(sci=sci, dq=dq)
