"""Look at exposures before a pass: sources, levels, noise; what each average needs of them."""

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from offsky.arrays import Array, Float64s, Mask
from offsky.combine.images import Adjustments, Cut, Image, absent_image, make_image
from offsky.combine.rule import exposure_weights
from offsky.engine.passes import Member, Pass, Recipe
from offsky.measure.levels import LevelMatch, level_rows, match_levels, unusable
from offsky.options import Options
from offsky.values.exposure import Exposure, Rows, Scratch, Wanted
from offsky.values.mask import PackedMask
from offsky.values.window import Window

log = logging.getLogger(__name__)

# Rows that the level of one exposure in the table of an average is told from, and those of its
# median ERR. A quarter of a million samples of a full frame give its level to a thousandth
# of the noise of one.
_TABLE_ROWS, _NOISE_ROWS = 128, 64
_MOST_SAMPLES = 2**18
# Rows of one exposure that are read at a time.
_READ_BYTES = 4 * 2**20


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
    levels : tuple of (float or None)
        Median of each exposure once it is adjusted; empty unless the average is saved.
    error : Exception or None
        Why the average cannot be made.
    """

    masks: list[PackedMask | None]
    adjustments: Adjustments | None = None
    weights: Float64s | None = None
    levels: tuple[float | None, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The open exposures of a pass, in its order, and users' masks by their keys."""

    exposures: Sequence[Exposure]
    masks: Mapping[Hashable, PackedMask]


def look(
    pass_: Pass, opened: Opened, options: Options, threads: int
) -> tuple[list[Prepared], dict[Hashable, Exception]]:
    """Look at the exposures of a pass, as far as options ask for it.

    Parameters
    ----------
    pass_ : Pass
        The pass.
    opened : Opened
        Its exposures and masks.
    options : Options
        How they will be averaged.
    threads : int
        Threads to read on.

    Returns
    -------
    prepared : list of Prepared
        One for each recipe.
    broken : dict
        By their keys, the exposures that cannot be read, with the error.

    Notes
    -----
    Of each exposure the union of the rows that its recipes want is read, each row once; with
    ``options.mask_sources`` all of it before. Which rows those are depends on the frame, the
    number of exposures and their sizes, not on the pass. What is kept meanwhile does not grow
    with the number of exposures.
    """
    prepared = [Prepared([opened.masks.get(m.mask) for m in r.members]) for r in pass_.recipes]
    broken: dict[Hashable, Exception] = {}
    if options.mask_sources:
        _find_sources(pass_, opened, options, threads, prepared, broken)
    samples = _Samples(pass_, opened, options, prepared)
    if samples.are_wanted:

        def read(i: int) -> None:
            try:
                samples.read(i)
            except Exception as error:
                broken[pass_.exposures[i].key] = error

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, range(len(pass_.exposures))))

    def settle(i: int) -> None:
        recipe, own = pass_.recipes[i], prepared[i]
        failed = [broken[m.facts.key] for m in recipe.members if m.facts.key in broken]
        try:
            if failed:
                raise failed[0]
            samples.settle(i)
        except Exception as error:
            own.error = error

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(settle, range(len(pass_.recipes))))
    for recipe, own in zip(pass_.recipes, prepared, strict=True):
        if own.error is None:
            _log(recipe, own, opened, pass_)
    return prepared, broken


class _Slot(NamedTuple):
    """Some rows of a frame that are looked at for one purpose."""

    purpose: str  # "level", "noise" or "table"
    frame: Window
    rows: range
    mask: Hashable  # the user's mask
    recipe: int | None  # where sources are left out too, which differ


@dataclass(slots=True)
class _Found:
    """What one exposure shows in one slot."""

    pieces: list[Array] = field(default_factory=list)
    image: Array | None = None


class _Samples:
    """Samples of all exposures at the rows that the recipes of a pass want."""

    def __init__(
        self, pass_: Pass, opened: Opened, options: Options, prepared: Sequence[Prepared]
    ) -> None:
        self._pass = pass_
        self._opened = opened
        self._options = options
        self._prepared = prepared
        self._places = {facts.key: i for i, facts in enumerate(pass_.exposures)}
        # Of each exposure, the slots that it is looked at in, each with a mask.
        self._slots: list[dict[_Slot, PackedMask | None]] = [{} for _ in pass_.exposures]
        self._found: list[dict[_Slot, Array]] = [{} for _ in pass_.exposures]
        self._dtypes: list[np.dtype | None] = [None for _ in pass_.exposures]
        for number, recipe in enumerate(pass_.recipes):
            for k, member in enumerate(recipe.members):
                mask = prepared[number].masks[k]
                for slot in self._slots_of(number, recipe, member):
                    self._slots[self._places[member.facts.key]][slot] = mask

    @property
    def are_wanted(self) -> bool:
        """Whether there is anything to look at."""
        return any(self._slots)

    def _slots_of(self, number: int, recipe: Recipe, member: Member) -> Iterable[_Slot]:
        frame, options = recipe.frame, self._options
        own = number if options.mask_sources else None
        n_integrations = member.facts.shape[0] if member.facts.is_cube else 1
        if options.level != "none" and len(recipe.members) > 1:
            rows = level_rows(frame.ny, frame.nx, len(recipe.members))
            yield _Slot("level", frame, rows, member.mask, own)
        if options.weight == "variance":
            rows = _even(frame, _NOISE_ROWS, n_integrations)
            yield _Slot("noise", frame, rows, member.mask, own)
        if recipe.saves:
            rows = _even(frame, _TABLE_ROWS, n_integrations)
            yield _Slot("table", frame, rows, member.mask, own)

    def read(self, i: int) -> None:
        """Read all rows that are wanted of one exposure, and keep what they show."""
        slots, exposure, window = self._slots[i], self._opened.exposures[i], self._pass.windows[i]
        if not slots:
            return
        wanted = Wanted(any(slot.purpose == "noise" for slot in slots))
        n_own = exposure.shape[-2]
        rows_of = {
            slot: {
                row: frame_row
                for frame_row in slot.rows
                if 0 <= (row := frame_row + slot.frame.y0 - window.y0) < n_own
            }
            for slot in slots
        }
        every = sorted(set().union(*rows_of.values()))
        found = {slot: _Found() for slot in slots}
        n_samples = int(np.prod(exposure.shape)) // n_own
        row_bytes = max(8 * n_samples, exposure.row_bytes(wanted))
        n_rows = max(1, _READ_BYTES // row_bytes)
        scratch = Scratch(min(n_rows, len(every)) * row_bytes)
        for begin in range(0, len(every), n_rows):
            scratch.clear()
            chunk = every[begin : begin + n_rows]
            rows = exposure.pick_rows(chunk, scratch, wanted)
            self._dtypes[i] = rows.sci.dtype.newbyteorder("=")
            for slot, places in rows_of.items():
                picked = [k for k, row in enumerate(chunk) if row in places]
                if picked:
                    part = rows if len(picked) == len(chunk) else _picked(rows, picked)
                    self._see(found[slot], slot, window, part, [chunk[k] for k in picked], i)
        for slot, seen in found.items():
            self._found[i][slot] = self._kept(slot, seen, i)

    def _see(
        self, seen: _Found, slot: _Slot, window: Window, rows: Rows, own_rows: list[int], i: int
    ) -> None:
        """Keep what some rows of an exposure show in a slot."""
        columns = _columns(window, slot.frame)
        if columns is None:
            return
        mask = self._slots[i][slot]
        skip = None if mask is None else mask.pick(own_rows)
        if slot.purpose == "level":
            self._see_level(seen, slot, window, rows, own_rows, skip)
            return
        sci = rows.sci[..., columns[0]]
        usable = np.isfinite(sci)
        if skip is not None:
            usable &= ~skip[:, columns[0]]
        if slot.purpose == "table":
            seen.pieces.append(sci[usable])
        elif rows.err is not None:
            err = rows.err[..., columns[0]]
            seen.pieces.append(err[usable & np.isfinite(err)])

    def _see_level(
        self,
        seen: _Found,
        slot: _Slot,
        window: Window,
        rows: Rows,
        own_rows: list[int],
        skip: Mask | None,
    ) -> None:
        if seen.image is None:
            seen.image = np.full((len(slot.rows), slot.frame.nx), np.nan, dtype=np.float32)
        columns = _columns(window, slot.frame)
        if columns is None:
            return
        whole = slice(0, len(own_rows))
        cut = Cut((len(own_rows), slot.frame.nx), whole, columns[0], whole, columns[1])
        image = make_image(rows, self._options, cut=cut, skip=skip)
        values = image.rows.sci.astype(np.float32)
        if image.rows.dq is not None:
            values[unusable(image.rows.dq, image.rows.dq_flip)] = np.nan
        if image.skip is not None:
            values[image.skip] = np.nan
        shift = slot.frame.y0 - window.y0
        places = [slot.rows.index(row - shift) for row in own_rows]
        seen.image[places] = values

    def _kept(self, slot: _Slot, seen: _Found, i: int) -> Array:
        """Return what is needed of a slot later on: little, but for levels."""
        if slot.purpose == "level":
            if seen.image is None:
                return np.full((len(slot.rows), slot.frame.nx), np.nan, dtype=np.float32)
            return seen.image
        values = np.concatenate(seen.pieces) if seen.pieces else np.empty(0)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        return values if slot.purpose == "noise" and self._scales else _middles(values)

    @property
    def _scales(self) -> bool:
        return self._options.level == "scale"

    def settle(self, number: int) -> None:
        """Find adjustments, weights and levels of one recipe."""
        recipe, own = self._pass.recipes[number], self._prepared[number]
        slots = [{s.purpose: s for s in self._slots_of(number, recipe, m)} for m in recipe.members]
        places = [self._places[member.facts.key] for member in recipe.members]
        found = [
            {purpose: self._found[i][slot] for purpose, slot in each.items()}
            for i, each in zip(places, slots, strict=True)
        ]
        n = len(recipe.members)
        offsets, scales = np.zeros(n), np.ones(n)
        if found and "level" in found[0]:
            match = self._match([each["level"] for each in found])
            offsets, scales = np.array(match.offsets), np.array(match.scales)
            own.adjustments = Adjustments(offsets, scales)
            for member, level, offset, scale in zip(
                recipe.members, match.levels, match.offsets, match.scales, strict=True
            ):
                name = self._opened.exposures[self._places[member.facts.key]].name
                log.info("%s: level %g, offset %+g, factor %.6g", name, level, offset, scale)
        errors: list[float | None] = []
        if self._options.weight == "variance":
            errors = [
                _median(_scaled(each["noise"], abs(scale)).astype(np.float64))
                for each, scale in zip(found, scales, strict=True)
            ]
        n_integrations = [m.facts.shape[0] if m.facts.is_cube else 1 for m in recipe.members]
        own.weights = exposure_weights(self._options, n_integrations, errors)
        if recipe.saves:
            own.levels = tuple(
                _median(_moved(_scaled(each["table"], scale), offset))
                for each, offset, scale in zip(found, offsets, scales, strict=True)
            )

    def _match(self, samples: Sequence[Array]) -> LevelMatch:
        flat = np.stack([each.reshape(-1) for each in samples])
        return match_levels(flat, self._options.level)


def _even(frame: Window, n_rows: int, n_integrations: int) -> range:
    """Return rows of a frame in even steps: about `n_rows`, fewer of long cubes."""
    bounded = max(1, _MOST_SAMPLES // (frame.nx * n_integrations))
    step = max(1, frame.ny // n_rows)
    if n_integrations > 1:
        step = max(step, -(-frame.ny // bounded))
    return range(0, frame.ny, step)


def _picked(rows: Rows, picked: list[int]) -> Rows:
    def part(array: Array | None) -> Array | None:
        return None if array is None else array[..., picked, :]

    return Rows(rows.sci[..., picked, :], part(rows.err), part(rows.dq), rows.dq_flip)


def _columns(window: Window, frame: Window) -> tuple[slice, slice] | None:
    """Return the columns of an exposure that a frame has, and where they lie in it."""
    overlap = window.overlap(frame)
    if overlap is None:
        return None
    return overlap.slices_within(window)[1], overlap.slices_within(frame)[1]


def _middles(values: Array) -> Array:
    """Return the one or two values that the median is the mean of."""
    if values.size == 0:
        return values
    ranks = [(values.size - 1) // 2, values.size // 2]
    return np.partition(values, sorted(set(ranks)))[ranks]


def _median(values: Array) -> float | None:
    return float(np.median(values)) if values.size else None


def _scaled(values: Array, scale: float) -> Array:
    return values if scale == 1 else values * values.dtype.type(scale)


def _moved(values: Array, offset: float) -> Array:
    return values if offset == 0 else values + values.dtype.type(offset)


def _log(recipe: Recipe, own: Prepared, opened: Opened, pass_: Pass) -> None:
    """Say how much of each exposure a found mask leaves out."""


def _find_sources(
    pass_: Pass,
    opened: Opened,
    options: Options,
    threads: int,
    prepared: Sequence[Prepared],
    broken: dict[Hashable, Exception],
) -> None:
    """Find the sources in every exposure of every recipe, and add them to its masks."""
    from offsky.measure.finder import find_in_image, require_finder

    require_finder()
    for frame, height, numbers in _strips(pass_, opened):
        _SourceSearch(pass_, opened, options, prepared, frame, numbers, find_in_image).search(
            height, threads, broken
        )


def _strips(pass_: Pass, opened: Opened) -> Iterable[tuple[Window, int, list[int]]]:
    """Yield frames with the height of their strips and the recipes that are searched so."""
    from offsky.measure.sources import strip_rows

    groups: dict[tuple[Window, int], list[int]] = {}
    places = {facts.key: i for i, facts in enumerate(pass_.exposures)}
    for number, recipe in enumerate(pass_.recipes):
        row_bytes = sum(
            opened.exposures[places[m.facts.key]].row_bytes(Wanted()) + 24 * recipe.frame.nx
            for m in recipe.members
        )
        height = strip_rows(recipe.frame.ny, row_bytes)
        groups.setdefault((recipe.frame, height), []).append(number)
    for (frame, height), numbers in groups.items():
        yield frame, height, numbers


@dataclass(slots=True)
class _SourceSearch:
    """The search for sources in the recipes of one frame, strip by strip."""

    pass_: Pass
    opened: Opened
    options: Options
    prepared: Sequence[Prepared]
    frame: Window
    numbers: list[int]
    finder: Callable[[Array, Array, Mask], Mask]

    def search(self, height: int, threads: int, broken: dict[Hashable, Exception]) -> None:
        from offsky.measure.sources import grown

        shape = self.frame.ny, self.frame.nx
        found = {
            number: [PackedMask(shape) for _ in self.pass_.recipes[number].members]
            for number in self.numbers
        }

        def work(first: int) -> None:
            last = min(first + height, self.frame.ny)
            for number, masks in self._strip(first, last, broken).items():
                for packed, mask in zip(found[number], masks, strict=True):
                    # Rows of different threads are different bytes.
                    packed.put(first, mask)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(0, self.frame.ny, height)))
            grow = [(number, k) for number in self.numbers for k in range(len(found[number]))]

            def put(place: tuple[int, int]) -> None:
                number, k = place
                mask = grown(found[number][k].rows(0, self.frame.ny))
                self._add(number, k, mask)

            list(pool.map(put, grow))

    def _strip(
        self, first: int, last: int, broken: dict[Hashable, Exception]
    ) -> dict[int, list[Mask]]:
        from offsky.measure.sources import OVERLAP, find_in_images

        begin, end = max(0, first - OVERLAP), min(self.frame.ny, last + OVERLAP)
        images: dict[tuple[Hashable, Hashable], Image] = {}
        scratch = Scratch()
        own = slice(first - begin, last - begin)
        masks = {}
        for number in self.numbers:
            members = self.pass_.recipes[number].members
            if any(member.facts.key in broken for member in members):
                continue
            try:
                for member in members:
                    key = member.facts.key, member.mask
                    if key not in images:
                        images[key] = self._image(member, begin, end, scratch, broken)
            except Exception:
                continue
            of_all = [images[member.facts.key, member.mask] for member in members]
            masks[number] = [
                find_in_images(of_all, k, self.finder)[own] for k in range(len(members))
            ]
        return masks

    def _image(
        self,
        member: Member,
        begin: int,
        end: int,
        scratch: Scratch,
        broken: dict[Hashable, Exception],
    ) -> Image:
        place = [facts.key for facts in self.pass_.exposures].index(member.facts.key)
        try:
            return image_of(
                self.opened.exposures[place],
                member.window,
                self.frame,
                (begin, end),
                scratch,
                self.options,
                self.opened.masks.get(member.mask),
            )
        except Exception as error:
            broken[member.facts.key] = error
            raise

    def _add(self, number: int, k: int, in_frame: Mask) -> None:
        """Add a mask of the frame to that of an exposure."""
        recipe, own = self.pass_.recipes[number], self.prepared[number]
        member = recipe.members[k]
        name = self.opened.exposures[
            [facts.key for facts in self.pass_.exposures].index(member.facts.key)
        ].name
        log.info("%s: %.2f %% of the pixels left out as sources", name, 100 * in_frame.mean())
        whole = np.zeros((member.window.ny, member.window.nx), dtype=np.bool_)
        overlap = member.window.overlap(self.frame)
        if overlap is not None:
            whole[overlap.slices_within(member.window)] = in_frame[
                overlap.slices_within(self.frame)
            ]
        own.masks[k] = PackedMask.of(whole).also(own.masks[k])


def image_of(
    exposure: Exposure,
    window: Window,
    frame: Window,
    frame_rows: tuple[int, int],
    scratch: Scratch,
    options: Options,
    mask: PackedMask | None,
) -> Image:
    """Read some rows of a frame of an exposure, and make an image of them."""
    begin, end = frame_rows
    shift = frame.y0 - window.y0
    first, last = max(0, begin + shift), min(exposure.shape[-2], end + shift)
    columns = _columns(window, frame)
    if first >= last or columns is None:
        return absent_image((end - begin, frame.nx))
    rows = exposure.read_rows(first, last, scratch, Wanted())
    cut = cut_of(window, frame, (begin, end), (first, last))
    skip = None if mask is None else mask.rows(first, last)
    return make_image(rows, options, cut=cut, skip=skip)


def cut_of(
    window: Window, frame: Window, frame_rows: tuple[int, int], own_rows: tuple[int, int]
) -> Cut | None:
    """Return which part of rows that were read of an exposure lies in rows of a frame.

    Parameters
    ----------
    window, frame : Window
        Where the exposure and the frame lie; they overlap.
    frame_rows : tuple of int
        Rows [begin, end) of the frame.
    own_rows : tuple of int
        Rows [first, last) of the exposure that were read, some of them in the frame's.

    Returns
    -------
    Cut or None
        None where they are the same.
    """
    if window == frame and frame_rows == own_rows:
        return None
    columns = _columns(window, frame)
    if columns is None:
        raise ValueError("an exposure that does not overlap the frame")
    (begin, end), shift = frame_rows, frame.y0 - window.y0
    first, last = max(own_rows[0], begin + shift), min(own_rows[1], end + shift)
    return Cut(
        (end - begin, frame.nx),
        slice(first - own_rows[0], last - own_rows[0]),
        columns[0],
        slice(first - shift - begin, last - shift - begin),
        columns[1],
    )
