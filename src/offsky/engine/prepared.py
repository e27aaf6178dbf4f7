"""What a pass is given: open exposures, and what each of its averages needs beside rows."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offsky.arrays import Float64s
from offsky.combine.images import Adjustments
from offsky.values.exposure import Exposure
from offsky.values.mask import PackedMask

if TYPE_CHECKING:
    from offsky.combine.depths import Depths


@dataclass(slots=True, eq=False)
class Prepared:
    """What one average needs beside the rows of its exposures.

    Attributes
    ----------
    masks : list of (PackedMask or None)
        Samples of each exposure that are left out, of its own (ny, nx).
    adjustments : Adjustments or None
        What is done to the samples of each exposure.
    weights : ndarray or None
        Weight of each exposure in the mean; None for equal ones.
    depths : Depths or None
        How deep the exposures are, where they are rejected by it.
    levels : tuple of (float or None)
        Median of each exposure once it is adjusted; empty unless the average is saved.
    error : Exception or None
        Why the average cannot be made.
    """

    masks: list[PackedMask | None]
    adjustments: Adjustments | None = None
    weights: Float64s | None = None
    depths: "Depths | None" = None
    levels: tuple[float | None, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The open exposures of a pass, in its order, and users' masks by their keys."""

    exposures: Sequence[Exposure]
    masks: Mapping[Hashable, PackedMask]
