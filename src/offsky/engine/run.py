"""Run a pass: rows of all exposures once, averages of them, products of these."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, local
from typing import TYPE_CHECKING

import numpy as np

from offsky.combine.blocks import each_block
from offsky.combine.images import Image, absent_image, make_image
from offsky.engine.averaging import Averaging
from offsky.engine.framing import cut_of
from offsky.engine.order import Progress
from offsky.engine.passes import Member, Pass
from offsky.engine.prepared import Opened
from offsky.engine.product import Making
from offsky.options import Options
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows, Scratch, Wanted, part_of
from offsky.values.mask import PackedMask
from offsky.values.window import Window

if TYPE_CHECKING:
    from offsky.engine.band import Band


class _Own(local):
    """Memory of each thread: for one average, and for one cube until it is reduced."""

    def __init__(self) -> None:
        self.average = Scratch()
        self.cube = Scratch()


_own = _Own()


_ERR_STEP = 16


@dataclass(slots=True, eq=False)
class ErrCount:
    """How many samples of some rows have an ERR that rejection and weights can use."""

    n_samples: int = 0
    n_usable: int = 0
    lock: Lock = field(default_factory=Lock)

    def see(self, first: int, rows: Rows) -> None:
        """Count every 16th row of an exposure, from its row `first` on."""
        if rows.err is None:
            return
        part = slice(-first % _ERR_STEP, None, _ERR_STEP)
        sci, err = rows.sci[..., part, :], rows.err[..., part, :]
        known = np.isfinite(sci)
        with np.errstate(invalid="ignore"):
            usable = known & (err > 0) & (err < np.inf)
        with self.lock:
            self.n_samples += int(np.count_nonzero(known))
            self.n_usable += int(np.count_nonzero(usable))


@dataclass(slots=True, eq=False)
class PassRun:
    """A pass at work.

    Attributes
    ----------
    pass_ : Pass
        The pass.
    opened : Opened
        Its exposures.
    averagings : sequence of Averaging
        One for each recipe.
    options : Options
        How they are made.
    wanted : Wanted
        The planes that are read.
    broken : dict
        By their keys, the exposures that cannot be read, with the error.
    err_counts : dict
        By their keys, how many samples of exposures have an ERR that serves; empty where
        nothing depends on it.
    """

    pass_: Pass
    opened: Opened
    averagings: Sequence[Averaging]
    options: Options
    wanted: Wanted
    broken: dict[Hashable, Exception]
    err_counts: dict[Hashable, ErrCount] = field(default_factory=dict)

    def run(self, *, height: int, row_bytes: int, threads: int, progress: Progress | None) -> None:
        """Read every row once; average, keep and subtract."""
        if self.options.reject == "error" or self.options.weight == "variance":
            members = (m for each in self.averagings for m in each.recipe.members)
            self.err_counts.update({member.facts.key: ErrCount() for member in members})
        alongside = [product.copy_rest for each in self.averagings for product in each.products]
        bands = None
        if any(averaging.grows for averaging in self.averagings):
            from offsky.engine.band import chains

            bands = chains(
                self.pass_.first_row,
                self.pass_.last_row,
                height,
                threads,
                lambda band: partial(self.work, band=band),
            )
        each_block(
            self.pass_.first_row,
            self.pass_.last_row,
            self.work,
            height=height,
            row_bytes=row_bytes,
            threads=threads,
            alongside=alongside,
            progress=progress,
            chains=bands,
        )

    def work(self, first: int, last: int, scratch: Scratch, band: "Band | None" = None) -> None:
        """Work on rows [first, last) of the detector; `band` is there if rejection grows."""
        block = _Block(self, first, last, scratch, band)
        for averaging in self.averagings:
            if averaging.is_alive:
                try:
                    if band is not None and averaging.grows:
                        block.make_grown(averaging, band)
                    elif band is None or band.holds(first, last):
                        block.make(averaging)
                except Exception as error:
                    averaging.error = averaging.error or error
        if band is not None:
            block.leave(band)


_Place = tuple[Hashable, Window, int]
"""An exposure, a frame, and the mask by which samples are left out."""


class _Block:
    """Rows [first, last) of the detector, of every exposure that has some of them."""

    def __init__(
        self, run: PassRun, first: int, last: int, scratch: Scratch, band: "Band | None" = None
    ) -> None:
        self._run = run
        self._first = first
        self._last = last
        self._images: dict[_Place, Image] = {}
        self._rows: dict[Hashable, Rows] = {}
        self._spans = _spans(run, first, last)
        places = {facts.key: i for i, facts in enumerate(run.pass_.exposures)}
        targets = {product.target_key for each in run.averagings for product in each.products}
        for key, span in self._spans.items():
            if key in run.broken:
                continue
            exposure = run.opened.exposures[places[key]]
            is_cube = len(exposure.shape) == 3
            try:
                # A cube becomes an image at once: its rows are many.
                memory = scratch
                if is_cube and key not in targets:
                    memory = _own.cube
                    memory.clear()
                rows = exposure.read_rows(*span, memory, run.wanted)
                if key in run.err_counts and (band is None or band.holds(first, last)):
                    run.err_counts[key].see(span[0], rows)
                if is_cube:
                    self._reduce(key, rows)
                if memory is scratch:
                    self._rows[key] = rows
            except Exception as error:
                run.broken[key] = error

    def _reduce(self, key: Hashable, rows: Rows) -> None:
        """Make every image of a cube that some average of this block needs."""
        for averaging in self._run.averagings:
            frame_rows = self._rows_of(averaging.recipe.frame)
            if not averaging.is_alive or frame_rows is None:
                continue
            pairs = zip(averaging.recipe.members, averaging.prepared.masks, strict=True)
            for member, mask in pairs:
                place = key, averaging.recipe.frame, id(mask)
                if member.facts.key == key and place not in self._images:
                    self._images[place] = self._image(member, averaging, frame_rows, mask, rows)

    def _rows_of(self, frame: Window) -> tuple[int, int] | None:
        """Return the rows of a frame that are in this block."""
        first, last = max(0, self._first - frame.y0), min(frame.ny, self._last - frame.y0)
        return (first, last) if first < last else None

    def make(self, averaging: Averaging) -> None:
        """Make these rows of one average, and of its products."""
        rows = self._rows_of(averaging.recipe.frame)
        if rows is None:
            return
        images = [image for _, image in self._images_of(averaging, rows)]
        _own.average.clear()
        average = averaging.average(*rows, images, _own.average)
        averaging.see(*rows, images, average.dq)
        self._subtract(averaging, *rows, average)

    def make_grown(self, averaging: Averaging, band: "Band") -> None:
        """Make the rows of one average that are settled now, and of its products."""
        rows = self._rows_of(averaging.recipe.frame)
        if rows is None:
            return
        images = self._images_of(averaging, rows)
        counts = band.holds(self._first, self._last)
        _own.average.clear()
        for piece in band.push(averaging, rows, images, _own.average, counts=counts):
            if averaging.members is not None:
                averaging.see(piece.first, piece.last, piece.kept(), piece.average.dq)
            self._subtract(averaging, piece.first, piece.last, piece.average, band)

    def leave(self, band: "Band") -> None:
        """Leave the last rows for the next block."""
        targets = {p.target_key for each in self._run.averagings for p in each.products}
        rows = {
            key: (self._spans[key][0], rows) for key, rows in self._rows.items() if key in targets
        }
        band.keep(self._images, rows)

    def _images_of(
        self, averaging: Averaging, frame_rows: tuple[int, int]
    ) -> list[tuple[_Place, Image]]:
        """Return the images of an average's exposures, by their places."""
        frame = averaging.recipe.frame
        images = []
        for member, mask in zip(averaging.recipe.members, averaging.prepared.masks, strict=True):
            key = member.facts.key
            if key in self._run.broken:
                raise self._run.broken[key]
            place = key, frame, id(mask)
            if place not in self._images:
                rows = self._rows.get(key)
                self._images[place] = self._image(member, averaging, frame_rows, mask, rows)
            images.append((place, self._images[place]))
        return images

    def _subtract(
        self,
        averaging: Averaging,
        first: int,
        last: int,
        average: ClippedMean,
        band: "Band | None" = None,
    ) -> None:
        """Subtract rows of an average from the targets of its products."""
        for product in averaging.products:
            failure = self._run.broken.get(product.target_key)
            if failure is not None:
                # A writer would read these rows once more.
                product.error = product.error or failure
                continue
            rows = self._target_rows(product, first, last)
            if rows is None and band is not None:
                rows = band.target_rows(product.target_key, first, last)
            product.subtract(first, last, average, rows)

    def _image(
        self,
        member: Member,
        averaging: Averaging,
        frame_rows: tuple[int, int],
        mask: PackedMask | None,
        rows: Rows | None,
    ) -> Image:
        """Make the image of one exposure in a frame; `rows` are those that were read."""
        window, frame = member.window, averaging.recipe.frame
        (begin, end), span = frame_rows, self._spans.get(member.facts.key)
        shift = frame.y0 - window.y0
        if (
            rows is None
            or span is None
            or min(span[1], end + shift) <= max(span[0], begin + shift)
        ):
            return absent_image((end - begin, frame.nx))
        cut = cut_of(window, frame, frame_rows, span)
        skip = None if mask is None else mask.rows(*span)
        return make_image(rows, self._run.options, cut=cut, skip=skip)

    def _target_rows(self, product: Making, first: int, last: int) -> Rows | None:
        """Return rows of a target that the pass has read; None where it has not."""
        key = product.target_key
        span, rows = self._spans.get(key), self._rows.get(key)
        if rows is None or span is None:
            return None
        # A target's own window is the frame.
        if not span[0] <= first < last <= span[1]:
            return None
        return part_of(rows, first - span[0], last - span[0])


def _spans(run: PassRun, first: int, last: int) -> dict[Hashable, tuple[int, int]]:
    """Return which rows of each exposure some average still needs of a block."""
    spans: dict[Hashable, tuple[int, int]] = {}
    windows = {f.key: w for f, w in zip(run.pass_.exposures, run.pass_.windows, strict=True)}
    for averaging in run.averagings:
        if not averaging.is_alive:
            continue
        frame = averaging.recipe.frame
        begin, end = max(first, frame.y0), min(last, frame.y0 + frame.ny)
        keys = [member.facts.key for member in averaging.recipe.members]
        keys += [p.target_key for p in averaging.products if p.target_key in windows]
        for key in keys:
            window = windows[key]
            if window.overlap(frame) is None:
                continue
            own = max(begin, window.y0) - window.y0, min(end, window.y0 + window.ny) - window.y0
            if own[0] < own[1]:
                known = spans.get(key, own)
                spans[key] = min(known[0], own[0]), max(known[1], own[1])
    return spans
