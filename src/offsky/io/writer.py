"""Where results go: what a subtracted exposure and an average are written by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from offsky.io.cards import InputRecord, Provenance
from offsky.subtraction import Subtracted, Subtraction
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure, Rows
from offsky.values.metadata import Metadata


class Publication(Protocol):
    """Something that is made out of sight, then appears whole or not at all."""

    def publish(self) -> Any:
        """Let it appear; return it: its path, or a data model."""

    def abandon(self) -> None:
        """Remove what was made of it; what was there before stays."""


class Writer(Publication, Protocol):
    """A subtracted exposure that is being written."""

    def copy_rest(self) -> None:
        """Copy everything that the subtraction does not change."""

    def subtract(
        self, first: int, last: int, average: ClippedMean, rows: Rows | None
    ) -> Subtracted:
        """Subtract rows [first, last) of the average from the target.

        Parameters
        ----------
        first, last : int
            The rows, in any order; called by several threads.
        average : ClippedMean
            These rows of the average.
        rows : Rows or None
            These rows of the target where they have been read already; not modified.

        Returns
        -------
        Subtracted
            Rows of the product, valid until the thread subtracts again.
        """

    def finish(self, provenance: Provenance | None) -> None:
        """Complete it, still out of sight; None where nothing was subtracted."""


class Product(Protocol):
    """Where a subtracted exposure goes."""

    def check(self, inputs: Sequence[Path]) -> None:
        """Raise OutputError unless it may be written, as far as can be told by now."""

    def held_bytes(self, target: Exposure, how: Subtraction) -> int:
        """Return the memory that it takes until it is published."""

    def begin(self, target: Exposure, how: Subtraction, provenance: Provenance | None) -> Writer:
        """Begin it.

        Parameters
        ----------
        target : Exposure
            The exposure to subtract from.
        how : Subtraction
            What is done to its errors.
        provenance : Provenance or None
            As far as it is known; None where nothing will be subtracted.
        """


@dataclass(frozen=True, slots=True, eq=False)
class SavedAverage:
    """An average with all that is written of it.

    Attributes
    ----------
    average : ClippedMean
        Whole, with ERR and DQ.
    provenance : Provenance
        How it was made.
    records : list of InputRecord
        The backgrounds and their fate.
    metadata : Metadata
        What holds for the average itself.
    like : Exposure
        The target, or the first background: its header tells everything else.
    template : path or data model
        What that was opened from.
    """

    average: ClippedMean
    provenance: Provenance
    records: Sequence[InputRecord]
    metadata: Metadata
    like: Exposure
    template: Any


class AverageProduct(Protocol):
    """Where an average goes."""

    def check(self, inputs: Sequence[Path]) -> None:
        """Raise OutputError unless it may be written, as far as can be told by now."""

    def begin(self, saved: SavedAverage) -> Publication:
        """Make it, out of sight."""
