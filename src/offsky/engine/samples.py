"""Levels and noise of exposures, told from some of their rows."""

import logging
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from offsky.arrays import Array, Mask
from offsky.combine.images import Adjustments, Cut, make_image
from offsky.combine.rule import exposure_weights
from offsky.engine.framing import columns_of
from offsky.engine.passes import Member, Pass, Recipe
from offsky.engine.prepared import Opened, Prepared
from offsky.measure.levels import LevelMatch, Levels, pairs_of, unusable
from offsky.measure.pairs import Grid, block_grid
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
_NOTHING = np.empty(0, dtype=np.float32)
# Rows of one exposure that are read at a time.
_READ_BYTES = 4 * 2**20


class _Slot(NamedTuple):
    """Some rows of a frame that are looked at for one purpose."""

    purpose: str  # "level", "depth", "noise" or "table"
    frame: Window
    where: range | Grid
    mask: Hashable  # the user's mask
    recipe: int | None  # where sources are left out too, which differ
    step: int = 1  # of the columns

    @property
    def rows(self) -> Sequence[int]:
        """The rows, ascending."""
        return self.where.rows if isinstance(self.where, Grid) else self.where


_Level = tuple[int, _Slot]
"""The number of an exposure in the pass, and the pixels that its level is told from."""


@dataclass(slots=True)
class _Found:
    """What one exposure shows in one slot."""

    pieces: list[Array] = field(default_factory=list)
    image: Array | None = None
    errors: Array | None = None


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
        self._levels: Levels[_Level] = Levels()
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
            # Lists of one length look at the same pixels, and share what they see.
            blocks = block_grid(frame.ny, frame.nx, len(recipe.members))
            yield _Slot("level", frame, blocks, member.mask, own)
        if options.reject == "error" and len(recipe.members) > 1:
            from offsky.combine.depths import depth_columns, depth_rows

            rows = depth_rows(frame.ny)
            step = depth_columns(frame.nx, len(rows), len(recipe.members)).step
            yield _Slot("depth", frame, rows, member.mask, own, step)
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
        wanted = Wanted(by_err or any(slot.purpose in ("noise", "depth") for slot in slots))
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
        if slot.purpose in ("level", "depth"):
            self._see_image(seen, slot, window, rows, own_rows, skip)
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

    def _see_image(
        self,
        seen: _Found,
        slot: _Slot,
        window: Window,
        rows: Rows,
        own_rows: list[int],
        skip: Mask | None,
    ) -> None:
        if seen.image is None:
            seen.image = _nothing(slot)
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
        places = np.searchsorted(slot.rows, np.array(own_rows) - shift)
        seen.image[places] = values[:, :: slot.step]
        if slot.purpose == "depth" and image.rows.err is not None:
            if seen.errors is None:
                seen.errors = _nothing(slot)
            seen.errors[places] = image.rows.err[:, :: slot.step]

    def _kept(self, slot: _Slot, seen: _Found, i: int) -> Array:
        """Return what is needed of a slot later on: little, but for depths."""
        if isinstance(slot.where, Grid):
            image = _nothing(slot) if seen.image is None else seen.image
            self._levels.add((i, slot), slot.where.pick(image))
            return _NOTHING
        if slot.purpose == "depth":
            parts = (seen.image, seen.errors)
            return np.stack([_nothing(slot) if part is None else part for part in parts])
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
            match = self._match(number)
            offsets, scales = np.array(match.offsets), np.array(match.scales)
            own.adjustments = Adjustments(offsets, scales)
        if found and "depth" in found[0]:
            from offsky.combine.depths import measure_depths

            moved = [
                _moved(_scaled(each["depth"][0], scale), offset).reshape(-1)
                for each, offset, scale in zip(found, offsets, scales, strict=True)
            ]
            spread = [
                _scaled(each["depth"][1], abs(scale)).reshape(-1)
                for each, scale in zip(found, scales, strict=True)
            ]
            measures = self._options.err_scale == "measure"
            own.depths = measure_depths(moved, spread, ratios=measures)
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

    def compare(self, pool: Executor) -> None:
        """Compare the levels of exposures on a pool's threads, each pair once for all recipes."""
        pairs = pairs_of([self._levels_of(i) for i in range(len(self._pass.recipes))])
        list(pool.map(lambda pair: self._levels.compare(*pair), pairs))

    def _levels_of(self, number: int) -> list[_Level]:
        """Return where the levels of a recipe's exposures are told; empty where not wanted."""
        recipe = self._pass.recipes[number]
        return [
            (self._places[member.facts.key], slot)
            for member in recipe.members
            for slot in self._slots_of(number, recipe, member)
            if isinstance(slot.where, Grid)
        ]

    def _match(self, number: int) -> LevelMatch:
        """Match the levels of one recipe, and tell them."""
        levels = self._levels_of(number)
        names = [self._opened.exposures[i].name for i, _ in levels]
        match = self._levels.match(levels, names, self._options.level)
        for name, level, offset, scale in zip(
            names, match.levels, match.offsets, match.scales, strict=True
        ):
            log.info("%s: level %g, offset %+g, factor %.6g", name, level, offset, scale)
        if self._scales and match.is_near_zero:
            lowest = min(range(len(names)), key=match.levels.__getitem__)
            log.warning(
                "%s: the level %.3g is below the noise of a sample (%.3g): factors of such levels "
                "change the noise more than the sky; use level = offset",
                names[lowest],
                match.levels[lowest],
                match.noise,
            )
        return match


def _even(frame: Window, n_rows: int, n_integrations: int) -> range:
    """Return rows of a frame in even steps: about `n_rows`, fewer of long cubes."""
    bounded = max(1, _MOST_SAMPLES // (frame.nx * n_integrations))
    step = max(1, frame.ny // n_rows)
    if n_integrations > 1:
        step = max(step, -(-frame.ny // bounded))
    return range(0, frame.ny, step)


def _nothing(slot: _Slot) -> Array:
    """Return the samples of a slot that an exposure does not reach."""
    return np.full((len(slot.rows), -(-slot.frame.nx // slot.step)), np.nan, dtype=np.float32)


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
