"""Run a pass: rows of all exposures once, averages of them, products of these."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock, local
from typing import TYPE_CHECKING

import numpy as np

from offsky.arrays import Array
from offsky.combine.blocks import each_block
from offsky.combine.images import Image, absent_image, combine_images, make_image
from offsky.combine.whole import Assembly, Finished
from offsky.engine.framing import cut_of
from offsky.engine.order import Progress
from offsky.engine.passes import Member, Pass, Recipe
from offsky.engine.prepared import Opened, Prepared
from offsky.engine.product import Making
from offsky.options import Options
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows, Scratch, Wanted, part_of
from offsky.values.mask import PackedMask
from offsky.values.window import Window

if TYPE_CHECKING:
    from offsky.measure.members import Members


class Averaging:
    """One average that a pass makes.

    Parameters
    ----------
    recipe : Recipe
        What it is made of.
    prepared : Prepared
        What it needs beside rows.
    products : sequence of Making
        The products that are written while it is made.
    options : Options
        How it is made.
    has_variances : bool
        Whether all of its exposures have VAR_POISSON and VAR_RNOISE.
    members : Members or None
        Where to gather what rows of the backgrounds show; None where nobody observes.
    """

    def __init__(
        self,
        recipe: Recipe,
        prepared: Prepared,
        products: Sequence[Making],
        options: Options,
        *,
        has_variances: bool,
        members: "Members | None" = None,
    ) -> None:
        propagates = options.errors == "propagate"
        kept = recipe.kept(propagates=propagates)
        self.recipe = recipe
        self.prepared = prepared
        self.products = products
        self.members = members
        self.error = prepared.error
        self.errors = options.uses_errors or (kept.errors and kept.whole)
        self.variances = propagates and has_variances
        shape = recipe.frame.ny, recipe.frame.nx
        self._groups = recipe.groups if kept.n_shares else None
        self._assembly = Assembly(shape, len(recipe.members), kept)
        self._options = options

    @property
    def is_alive(self) -> bool:
        """Whether somebody still waits for it."""
        if self.error is not None:
            return False
        return self.recipe.is_whole or any(product.error is None for product in self.products)

    def average(
        self, first: int, last: int, images: Sequence[Image], scratch: Scratch
    ) -> ClippedMean:
        """Average rows [first, last) of the frame, and count them."""
        room = self._assembly.room(
            first, last, scratch, errors=self.errors, variances=self.variances
        )
        average = combine_images(
            images if self.variances else [_without_variances(image) for image in images],
            self._options,
            weights=self.prepared.weights,
            adjustments=self.prepared.adjustments,
            depths=None if self.prepared.depths is None else self.prepared.depths.numbers,
            errors=self.errors,
            groups=self._groups,
            room=room,
        )
        self._assembly.add(average)
        return average

    def flags_if_kept(self, images: Sequence[Image]) -> Array | None:
        """Return the flags of the average of some rows, if only those of kept samples counted."""
        if self._options.dq != "or":
            return None
        average = combine_images(
            [_without_variances(image) for image in images],
            self._options.changed(dq="kept", bad_fraction=None),
            weights=self.prepared.weights,
            adjustments=self.prepared.adjustments,
            errors=self._options.uses_errors,
        )
        return average.dq

    def finish(self) -> Finished:
        """Return the average; all of its rows are made."""
        depths, finished = self.prepared.depths, self._assembly.finish()
        if depths is None or not depths.is_measured:
            return finished
        return replace(finished, err_ratios=tuple(map(float, depths.ratios)))


def _without_variances(image: Image) -> Image:
    if image.rows.var_poisson is None and image.rows.var_rnoise is None:
        return image
    return image._replace(rows=image.rows._replace(var_poisson=None, var_rnoise=None))


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
        each_block(
            self.pass_.first_row,
            self.pass_.last_row,
            self.work,
            height=height,
            row_bytes=row_bytes,
            threads=threads,
            alongside=alongside,
            progress=progress,
        )

    def work(self, first: int, last: int, scratch: Scratch) -> None:
        """Work on rows [first, last) of the detector."""
        block = _Block(self, first, last, scratch)
        for averaging in self.averagings:
            if averaging.is_alive:
                try:
                    block.make(averaging)
                except Exception as error:
                    averaging.error = averaging.error or error


_Place = tuple[Hashable, Window, int]
"""An exposure, a frame, and the mask by which samples are left out."""


class _Block:
    """Rows [first, last) of the detector, of every exposure that has some of them."""

    def __init__(self, run: PassRun, first: int, last: int, scratch: Scratch) -> None:
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
                if key in run.err_counts:
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
        frame = averaging.recipe.frame
        frame_rows = self._rows_of(frame)
        if frame_rows is None:
            return
        images = []
        for member, mask in zip(averaging.recipe.members, averaging.prepared.masks, strict=True):
            key = member.facts.key
            if key in self._run.broken:
                raise self._run.broken[key]
            place = key, frame, id(mask)
            if place not in self._images:
                rows = self._rows.get(key)
                self._images[place] = self._image(member, averaging, frame_rows, mask, rows)
            images.append(self._images[place])
        _own.average.clear()
        average = averaging.average(*frame_rows, images, _own.average)
        if averaging.members is not None:
            averaging.members.see(*frame_rows, images, average.dq, averaging.flags_if_kept)
        for product in averaging.products:
            failure = self._run.broken.get(product.target_key)
            if failure is not None:
                # A writer would read these rows once more.
                product.error = product.error or failure
                continue
            product.subtract(*frame_rows, average, self._target_rows(product, *frame_rows))

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
