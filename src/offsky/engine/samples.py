"""Levels and noise of exposures, told from some of their rows."""

import logging
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from offsky.arrays import Array, Mask
from offsky.combine.images import Adjustments, Cut, make_image
from offsky.combine.rule import exposure_weights
from offsky.engine.framing import columns_of
from offsky.engine.passes import Member, Pass, Recipe
from offsky.engine.prepared import Opened, Prepared
from offsky.measure.levels import LevelMatch, level_rows, match_levels, unusable
from offsky.options import Options
from offsky.values.exposure import Rows, Scratch, Wanted
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


class Samples:
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
        # Integrations may be rejected by their ERR.
        by_err = len(exposure.shape) == 3 and self._options.uses_errors
        wanted = Wanted(by_err or any(slot.purpose == "noise" for slot in slots))
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
        columns = columns_of(window, slot.frame)
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
        columns = columns_of(window, slot.frame)
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
