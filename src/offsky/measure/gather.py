"""Gather block means and samples of a product while its rows go by."""

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array, Mask
from offsky.measure.blocks import (
    bin_of,
    block_counts,
    block_means,
    block_union,
    mean_image,
    sampled_rows,
    within,
)
from offsky.measure.scatter import finite_median
from offsky.values.gathered import BACKGROUND, COUNT, TARGET, UNCOVERED, UNUSABLE, Gathered

if TYPE_CHECKING:
    from offsky.measure.members import Members

_DO_NOT_USE = 1


class Plane(NamedTuple):
    """Rows of one image, or of every integration of a cube, with ERR and flags."""

    sci: Array
    err: Array | None = None
    dq: Array | None = None
    dq_flip: int = 0


class Background(NamedTuple):
    """The same rows of the average as it was subtracted."""

    sci: Array
    n_kept: Array
    err: Array | None = None
    dq: Array | None = None


def flags_of(plane: Plane) -> NDArray[np.uint32] | None:
    """Return the flags of an image, those of all integrations together; None without any."""
    if plane.dq is None:
        return None
    raw = plane.dq
    flip = np.uint32(plane.dq_flip)
    if raw.dtype.byteorder == ">" or (raw.dtype.byteorder == "=" and np.little_endian is False):
        raw = raw.astype(np.uint32)
    flags: NDArray[np.uint32] = np.bitwise_xor(raw, flip)
    return flags if flags.ndim == 2 else np.bitwise_or.reduce(flags, axis=0)


class _Flags(NamedTuple):
    """Where an image has any flag, and where it has DO_NOT_USE."""

    flagged: Mask
    unusable: Mask


def _flags(plane: Plane | None) -> _Flags | None:
    flags = None if plane is None else flags_of(plane)
    return None if flags is None else _Flags(flags != 0, (flags & _DO_NOT_USE) != 0)


class _Reduced(NamedTuple):
    """The same rows of everything that becomes a plane, as images."""

    after: Array
    before: Array | None
    average: Array | None
    kept: Array | None
    flagged: Mask | None
    causes: NDArray[np.uint8]

    def part(self, first: int, last: int) -> "_Reduced":
        return _Reduced(*(None if each is None else each[first:last] for each in self))  # type: ignore[arg-type]


class Gathering:
    """Gathers what a report shows of one product.

    Rows may come in any order and from several threads; what is gathered does not depend
    on how they are cut.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) or (nints, ny, nx).
    has_before, has_average : bool
        Whether rows of the target and of the average will be there.
    """

    def __init__(
        self, shape: tuple[int, ...], *, has_before: bool = True, has_average: bool = True
    ) -> None:
        self.shape = shape[-2], shape[-1]
        ny, nx = self.shape
        self.bin = bin_of(self.shape)
        blocks = -(-ny // self.bin), -(-nx // self.bin)

        def plane(wanted: bool) -> Array | None:
            return np.full(blocks, np.nan, dtype=np.float32) if wanted else None

        self._after = np.full(blocks, np.nan, dtype=np.float32)
        self._before, self._average = plane(has_before), plane(has_average)
        self._kept = plane(has_average)
        self._flags = np.zeros(blocks, dtype=np.uint16)
        self.sampled_rows = sampled_rows(ny)
        samples = len(self.sampled_rows), nx
        self._after_samples = np.full(samples, np.nan, dtype=np.float32)
        self._err_samples = np.full(samples, np.nan, dtype=np.float32)
        self._usable = np.zeros(samples, dtype=np.bool_)
        self._average_err: Array | None = None
        n_integrations = shape[0] if len(shape) == 3 else 0
        self._levels = np.full((len(self.sampled_rows), n_integrations), np.nan)
        self._counts = dict.fromkeys(
            ("flagged", "unusable", "flagged_bkg", "unusable_bkg", "zero", "finite", "no_value"), 0
        )
        self._waiting: dict[int, dict[int, _Reduced]] = {}
        self._lock = Lock()

    def see(
        self,
        first: int,
        last: int,
        after: Plane,
        before: Plane | None = None,
        average: Background | None = None,
    ) -> None:
        """Gather rows [first, last) of a product.

        Parameters
        ----------
        first, last : int
            The rows.
        after : Plane
            The product.
        before : Plane or None
            The target.
        average : Background or None
            The average that was subtracted.
        """
        self._sample(first, last, after, average)
        flags, flags_before = _flags(after), _flags(before)
        reduced = _Reduced(
            mean_image(after.sci),
            None if before is None else mean_image(before.sci),
            None if average is None else average.sci,
            None if average is None else average.n_kept,
            None if flags is None else flags.flagged,
            _causes(after.sci.shape[-2:], flags, flags_before, average),
        )
        self._count(reduced, flags, flags_before)
        side, ny = self.bin, self.shape[0]
        begin, end = first + -first % side, last if last == ny else last - last % side
        if begin < end:
            self._put(begin // side, reduced.part(begin - first, end - first))
        # Rows of blocks that are cut wait for the others.
        for row in (*range(first, min(begin, last)), *range(max(end, begin), last)):
            self._put_later(row, reduced.part(row - first, row - first + 1))

    def _put(self, first: int, rows: _Reduced) -> None:
        """Make block means of whole blocks; `first` counts blocks."""
        side = self.bin
        after = block_means(rows.after, side)
        part = slice(first, first + len(after))
        self._after[part] = after
        for plane, values in (
            (self._before, rows.before),
            (self._average, rows.average),
            (self._kept, rows.kept),
        ):
            if plane is not None and values is not None:
                plane[part] = block_means(values, side)
        self._flags[part] = _block_flags(rows, side)

    def _put_later(self, row: int, rows: _Reduced) -> None:
        side = self.bin
        block = row // side
        height = min(side, self.shape[0] - block * side)
        copied = _Reduced(*(None if each is None else np.array(each) for each in rows))  # type: ignore[arg-type]
        with self._lock:
            known = self._waiting.setdefault(block, {})
            known[row] = copied
            if len(known) < height:
                return
            del self._waiting[block]
        in_order = [known[i] for i in sorted(known)]
        whole = _Reduced(
            *(
                None if each[0] is None else np.concatenate(each)  # type: ignore[arg-type]
                for each in zip(*in_order, strict=True)
            )
        )
        self._put(block, whole)

    def _sample(self, first: int, last: int, after: Plane, average: Background | None) -> None:
        """Keep every `SAMPLE_STEP`th row as it is."""
        for i, row in within(self.sampled_rows, first, last):
            own = row - first
            one = (0,) if after.sci.ndim == 3 else ()
            self._after_samples[i] = after.sci[(*one, own)]
            if after.err is not None:
                self._err_samples[i] = after.err[(*one, own)]
            usable = np.isfinite(self._after_samples[i])
            if after.dq is not None:
                dq = after.dq[(*one, own)].astype(np.uint32) ^ np.uint32(after.dq_flip)
                usable &= (dq & _DO_NOT_USE) == 0
            self._usable[i] = usable
            if average is not None and average.err is not None:
                with self._lock:
                    if self._average_err is None:
                        self._average_err = np.full_like(self._after_samples, np.nan)
                self._average_err[i] = average.err[own]
            for k in range(self._levels.shape[1]):
                values = after.sci[k, own]
                values = values[np.isfinite(values)]
                if values.size:
                    self._levels[i, k] = np.median(values)

    def _count(self, rows: _Reduced, flags: _Flags | None, flags_before: _Flags | None) -> None:
        found = {
            "finite": int(np.count_nonzero(np.isfinite(rows.after))),
            "zero": int(np.count_nonzero(rows.after == 0)),
        }
        if rows.kept is not None and rows.before is not None:
            found["no_value"] = int(np.count_nonzero((rows.kept == 0) & ~np.isfinite(rows.before)))
        if flags is not None:
            found["flagged"] = int(np.count_nonzero(flags.flagged))
            found["unusable"] = int(np.count_nonzero(flags.unusable))
            if flags_before is not None:
                new = flags.unusable & ~flags_before.unusable
                found["unusable_bkg"] = int(np.count_nonzero(new))
                unflagged = flags.flagged & ~flags_before.flagged
                found["flagged_bkg"] = int(np.count_nonzero(unflagged))
        with self._lock:
            for name, number in found.items():
                self._counts[name] += number

    def result(self, members: "Members | None" = None) -> Gathered:
        """Return what was gathered; all rows have gone by.

        Parameters
        ----------
        members : Members or None
            What was gathered of the backgrounds.
        """
        counts = self._counts
        with_err = bool(np.isfinite(self._err_samples).any())
        levels = np.array([finite_median(each[:, None])[0] for each in self._levels.T])
        found = Gathered(
            shape=self.shape,
            bin=self.bin,
            after=self._after,
            before=self._before,
            average=self._average,
            kept=self._kept,
            flags=self._flags,
            sampled_rows=self.sampled_rows,
            after_samples=self._after_samples,
            err_samples=self._err_samples if with_err else None,
            usable_samples=self._usable,
            average_err_samples=self._average_err,
            integration_levels=levels,
            n_flagged=counts["flagged"],
            n_unusable=counts["unusable"],
            n_flagged_by_backgrounds=counts["flagged_bkg"],
            n_unusable_by_backgrounds=counts["unusable_bkg"],
            n_zero=counts["zero"],
            n_finite=counts["finite"],
            n_no_value=counts["no_value"],
        )
        return found if members is None else replace(found, **members.result())


def _causes(
    shape: tuple[int, ...], flags: _Flags | None, before: _Flags | None, average: Background | None
) -> NDArray[np.uint8]:
    """Return the causes of flags of each pixel, as of `Gathered.flags`."""
    causes = np.zeros(shape, dtype=np.uint8)

    def add(mask: Mask, cause: int) -> None:
        np.bitwise_or(causes, mask.view(np.uint8) * np.uint8(cause), out=causes)

    if flags is not None:
        add(flags.unusable, UNUSABLE)
    if before is not None:
        add(before.flagged, TARGET)
    if average is not None:
        add(average.n_kept == 0, UNCOVERED)
        if average.dq is not None:
            add(average.dq != 0, BACKGROUND)
    return causes


def _block_flags(rows: _Reduced, side: int) -> NDArray[np.uint16]:
    """Return the number of flagged pixels of each block, and their causes."""
    found = block_union(rows.causes, side).astype(np.uint16)
    if rows.flagged is not None:
        n_flagged = block_counts(rows.flagged, side)
        if side * side > COUNT:
            # In steps of a fifteenth, and none only where there is none.
            n_flagged = -(-n_flagged * COUNT // (side * side))
        found |= np.minimum(n_flagged, np.uint16(COUNT))
    return found
