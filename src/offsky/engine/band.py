"""What a thread keeps from one block of rows to the next, where rejection grows."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from offsky.combine.blocks import Chain, bands_of, edges_of
from offsky.combine.grow import MARGIN, PASSES, Grower, Piece, rows_of_image
from offsky.combine.images import Image
from offsky.engine.averaging import Averaging
from offsky.values.exposure import Rows, Scratch, part_of

_Place = Any
"""The key of an image."""


class Band:
    """Rows [begin, end) of the detector, worked on from the first to the last.

    Parameters
    ----------
    begin, end : int
        The rows.
    """

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end
        self._growers: dict[Averaging, Grower] = {}
        self._images: dict[_Place, Image] = {}
        # The first of the rows of a target in the block before, and these.
        self._rows: dict[Hashable, tuple[int, Rows]] = {}

    def holds(self, first: int, last: int) -> bool:
        """Tell whether rows of the detector are this band's own."""
        return self.begin <= first and last <= self.end

    def push(
        self,
        averaging: Averaging,
        rows: tuple[int, int],
        images: Sequence[tuple[_Place, Image]],
        scratch: Scratch,
        *,
        counts: bool,
    ) -> list[Piece]:
        """Take rows of the images of one average; return what is settled."""
        frame = averaging.recipe.frame
        if averaging not in self._growers:
            begin, end = self.begin - frame.y0, self.end - frame.y0
            self._growers[averaging] = averaging.grower(max(0, begin), min(frame.ny, end))
        before = [self._images[place] for place, _ in images if place in self._images]
        n_before = len(before[0].rows.sci) if before else 0
        own = slice(max(0, n_before - MARGIN), n_before)
        tail = [rows_of_image(image, own) for image in before]
        return averaging.grow(
            self._growers[averaging],
            rows,
            [image for _, image in images],
            tail,
            scratch,
            counts=counts,
        )

    def target_rows(self, key: Hashable, first: int, last: int) -> Rows | None:
        """Return rows of a target that an earlier block has read."""
        if key not in self._rows:
            return None
        begin, rows = self._rows[key]
        if not begin <= first < last <= begin + rows.sci.shape[-2]:
            return None
        return part_of(rows, first - begin, last - begin)

    def keep(
        self, images: Mapping[_Place, Image], targets: Mapping[Hashable, tuple[int, Rows]]
    ) -> None:
        """Keep the rows of a block while the next one is worked on."""
        self._images = dict(images)
        self._rows = dict(targets)


def chains(
    first_row: int,
    last_row: int,
    height: int,
    threads: int,
    work: Callable[[Band], Callable[[int, int, Scratch], None]],
) -> list[Chain]:
    """Return bands as chains of blocks, with the rows of their neighbours that they look at."""
    made = []
    for begin, end in bands_of(first_row, last_row, threads):
        edges = edges_of(first_row, last_row, begin, end, height, PASSES)
        blocks = [(a, b) for a, b in pairwise(edges) if a < b]
        band = Band(begin, end)
        made.append(Chain(work(band), blocks, begin, end))
    return made
