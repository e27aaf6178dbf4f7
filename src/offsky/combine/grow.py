"""Rejection that grows to neighbours, a block of rows after the other.

What is rejected at a pixel depends on `PASSES` rows above and below. Each block of rows is
averaged once, which marks what is rejected before neighbours are looked at; its last rows wait
for the next block. Then pixels are averaged again whose neighbours took a sample of theirs.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offsky import kernel
from offsky.arrays import Mask
from offsky.combine.images import Combination, Image
from offsky.combine.planes import flat, flat_planes
from offsky.combine.rule import rule_of
from offsky.combine.whole import rows_of
from offsky.kernel.contract import Marks, Planes
from offsky.values.average import ClippedMean
from offsky.values.exposure import part_of

PASSES = 2
"""How far rejection grows, in pixels."""

MARGIN = 2 * PASSES
"""Rows of the block before that a block needs."""


class Piece(NamedTuple):
    """Rows [first, last) of a frame in which everything that is rejected is known.

    Attributes
    ----------
    first, last : int
        The rows.
    average : ClippedMean
        Their average. Its counts are those of a whole block, without what growing changes.
    images : list of Image
        The rows of each exposure.
    rejected : callable
        Tells what was rejected: bool, of shape (n_exposures, last - first, nx).
    n_grown : ndarray of int64, shape (n_exposures,)
        How many samples more growing rejected, of each exposure.
    n_err_estimated : int
        Pixels more at which the ERR of a kept sample was estimated.
    """

    first: int
    last: int
    average: ClippedMean
    images: list[Image]
    rejected: Callable[[], Mask]
    n_grown: NDArray[np.int64]
    n_err_estimated: int

    def kept(self) -> list[Image]:
        """Return the rows of each exposure, without what was rejected."""
        return [
            image._replace(skip=own if image.skip is None else own | image.skip)
            for image, own in zip(self.images, self.rejected(), strict=True)
        ]


class Grower:
    """The average of one frame, while its rows come in.

    Parameters
    ----------
    combination : Combination
        How rows are averaged.
    shape : tuple of int
        (ny, nx) of the frame.
    begin, end : int
        The rows that are wanted of it.
    """

    def __init__(
        self, combination: Combination, shape: tuple[int, int], begin: int, end: int
    ) -> None:
        self._combination = combination
        self._above = 0.0 if combination.options.grow is None else float(combination.options.grow)
        self._rule = rule_of(combination.options)
        self._shape = shape
        self._begin, self._end = begin, end
        self._done = begin
        self._tail: tuple[int, Marks] | None = None
        self._memory = _Memory()
        # Averages that wait for the rows below, in the order of the rows, with their first.
        self._waiting: list[tuple[int, ClippedMean]] = []

    def push(
        self,
        first: int,
        last: int,
        images: Sequence[Image],
        tail: Sequence[Image],
        average: Callable[[Marks], ClippedMean],
    ) -> list[Piece]:
        """Take rows [first, last), which follow those taken before.

        Parameters
        ----------
        first, last : int
            The rows: all of them are wanted, or none, being up to `PASSES` above or below. At
            least `MARGIN`, unless they are the first or the last of all.
        images : sequence of Image
            These rows of each exposure.
        tail : sequence of Image
            The rows before, `MARGIN` of them or as many as there are; none for the first rows.
        average : callable
            Averages these rows, given where to mark what is rejected.

        Returns
        -------
        list of Piece
            What is settled now, in the order of the rows; they serve until the next rows are
            taken. The average of rows taken before is a copy.
        """
        ny = self._shape[0]
        start, marks = self._marks(first, last, len(images))
        block = average(marks._replace(offset=first - start))
        self._tail = _last_rows(start, marks, min(MARGIN, last - start))
        if self._begin <= first and last <= self._end:
            self._waiting.append((first, block))
        settled = min(ny if last == ny else last - PASSES, self._end)
        parts = [_Part(start, first, tail)] if tail else []
        parts.append(_Part(first, last, images))
        if settled > self._done:
            self._grow(parts, marks, start, settled)
        pieces = []
        while self._waiting and self._waiting[0][0] < settled:
            begin, waiting = self._waiting.pop(0)
            end = min(begin + len(waiting.sci), settled)
            if begin + len(waiting.sci) > settled:
                self._waiting.insert(0, (settled, rows_of(waiting, end - begin, len(waiting.sci))))
            part = parts[-1] if begin >= first else parts[0]
            pieces.append(
                self._piece(rows_of(waiting, 0, end - begin), begin, end, part, marks, start)
            )
        # The memory of the block is the caller's.
        self._waiting = [
            (row, copied(each) if row >= first else each) for row, each in self._waiting
        ]
        self._done = max(self._done, settled)
        return pieces

    def _marks(self, first: int, last: int, n: int) -> tuple[int, Marks]:
        """Return marks of these rows that begin with those of the rows before, and their first."""
        before = self._tail
        start = first if before is None else before[0]
        marks = self._memory.of(PASSES, n, last - start, self._shape[1])
        if before is not None:
            n_rows = first - start
            marks.bits[0, :, :n_rows] = before[1].bits[0]
            marks.bounds[:, :n_rows] = before[1].bounds
        return start, marks

    def _grow(self, parts: list["_Part"], marks: Marks, start: int, settled: int) -> None:
        """Reject what is next to what is rejected, of all rows that are not done."""
        last = start + marks.shape[0]
        inputs = [self._inputs(part.images) for part in parts]
        for i in range(1, PASSES + 1):
            low = max(0, self._done - PASSES + i, start)
            high = min(self._shape[0], settled + PASSES - i, last)
            for part, given in zip(parts, inputs, strict=True):
                rows = max(low, part.first) - start, min(high, part.last) - start
                if rows[0] < rows[1]:
                    own = marks._replace(offset=part.first - start)
                    _engine()(*given, self._above, i, *rows, own)

    def _inputs(self, images: Sequence[Image]) -> tuple[Any, ...]:
        rows = [image.rows for image in images]
        planes = Planes(
            [flat(each.sci) for each in rows],
            flat_planes([each.err for each in rows]),
            flat_planes([each.dq for each in rows]),
            skip=flat_planes([image.skip for image in images]),
        )
        flips = np.array([each.dq_flip for each in rows], dtype=np.uint32)
        moved = self._combination.adjustments
        offsets, scales = (None, None) if moved is None else (moved.offsets, moved.scales)
        depths = self._combination.depths
        depths = None if depths is None else np.ascontiguousarray(depths)
        return planes, flips, offsets, scales, depths, self._rule

    def _piece(
        self,
        average: ClippedMean,
        begin: int,
        end: int,
        part: "_Part",
        marks: Marks,
        start: int,
    ) -> Piece:
        """Average again what growing has changed of rows [begin, end)."""
        own = slice(begin - part.first, end - part.first)
        images = [rows_of_image(each, own) for each in part.images]
        marks = marks._replace(offset=begin - start)
        n_grown, n_err_estimated = self._combination.amend(average, images, marks)
        rejected = partial(marks.rejected, begin - start, end - start)
        return Piece(begin, end, average, images, rejected, n_grown, n_err_estimated)


class _Part(NamedTuple):
    """Rows [first, last) of each exposure."""

    first: int
    last: int
    images: Sequence[Image]


class _Memory:
    """Memory of marks that is used again for the next block: new memory is slow."""

    def __init__(self) -> None:
        self._bits = np.empty(0, dtype=np.uint64)
        self._bounds = np.empty(0, dtype=np.float32)

    def of(self, n_passes: int, n: int, n_rows: int, nx: int) -> Marks:
        """Return marks that reject nothing."""
        n_words = (1 + n_passes) * n * n_rows * (-(-nx // 64))
        if self._bits.size < n_words or self._bounds.size < 4 * n_rows * nx:
            # With room for a block that is a little higher.
            spare = n_rows + n_rows // 8 + MARGIN
            self._bits = np.empty(n_words // n_rows * spare, dtype=np.uint64)
            self._bounds = np.empty(4 * spare * nx, dtype=np.float32)
        bits = self._bits[:n_words].reshape(1 + n_passes, n, n_rows, -1)
        bits.fill(0)
        return Marks(bits, self._bounds[: 4 * n_rows * nx].reshape(4, n_rows, nx))


def _last_rows(start: int, marks: Marks, n_rows: int) -> tuple[int, Marks]:
    """Return a copy of the last rows, and which row is the first; of no growing."""
    first = start + marks.shape[0] - n_rows
    return first, Marks(
        marks.bits[:1, :, -n_rows:].copy(),
        marks.bounds[:, -n_rows:].copy(),
    )


def copied(average: ClippedMean) -> ClippedMean:
    """Return an average with arrays of its own."""
    arrays: dict[str, Any] = {
        each.name: value.copy()
        for each in fields(average)
        if isinstance(value := getattr(average, each.name), np.ndarray)
    }
    return replace(average, **arrays, shares=tuple(share.copy() for share in average.shares))


def rows_of_image(image: Image, part: slice) -> Image:
    """Return some rows of an image, as views; its counts are those of all."""

    def cut(array: Any) -> Any:
        return None if array is None else array[part]

    return image._replace(
        rows=part_of(image.rows, part.start, part.stop),
        covers=cut(image.covers),
        skip=cut(image.skip),
    )


def _engine() -> Callable[..., None]:
    """Return the C kernel's function, or its twin's."""
    if kernel.grow is not None:
        return kernel.grow
    from offsky.kernel import twin_grow

    return twin_grow.grow
