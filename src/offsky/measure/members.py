"""Gather what the backgrounds of an average show, from some of their rows."""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np

from offsky.arrays import Array
from offsky.combine.images import Image
from offsky.measure.blocks import sampled_rows, within
from offsky.measure.scatter import finite_median, pair_scatters, row_medians
from offsky.values.gathered import MemberSamples

_DO_NOT_USE = 1
# Of so many rows one is looked at, of few rows more of them: of a full frame 64.
_STEP, _LEAST_ROWS = 32, 64
# Of so many of these one tells the level and scatter of the backgrounds.
_MEMBER_STEP = 2
# Backgrounds that are looked at together.
_TOGETHER = 32


class Members:
    """Gathers what some rows show of the backgrounds of an average.

    Parameters
    ----------
    n_rows : int
        Rows of the frame.
    """

    def __init__(self, n_rows: int) -> None:
        self._rows = sampled_rows(n_rows, max(1, min(_STEP, n_rows // _LEAST_ROWS)))
        self._counts = dict.fromkeys(("pixels", "one", "several", "freed"), 0)
        self._tells_freed = True
        self._blocks: list[tuple[int, list[tuple[float, float, float]]]] = []
        self._lock = Lock()

    def see(
        self,
        first: int,
        last: int,
        images: Sequence[Image],
        flags: Array | None,
        flags_if_kept: Callable[[Sequence[Image]], Array | None],
    ) -> None:
        """Look at some of rows [first, last) of the frame.

        Parameters
        ----------
        first, last : int
            The rows.
        images : sequence of Image
            These rows of each background.
        flags : ndarray of uint32 or None
            The flags of their average.
        flags_if_kept : callable
            Returns the flags of the average of some images, if only the flags of kept
            samples counted; None where they do anyway.
        """
        places = within(self._rows, first, last)
        if not places:
            return
        own = [row - first for _, row in places]
        part = slice(own[0], own[-1] + 1, self._rows.step)
        some = [_part_of(image, part) for image in images]
        n_flagging = np.zeros(some[0].rows.sci.shape[-2:], dtype=np.uint16)
        for image in some:
            if image.rows.dq is not None:
                n_flagging += image.rows.dq != np.uint32(image.rows.dq_flip)
        kept = flags_if_kept(some)
        told = [
            (i, _row_samples(some, k)) for k, (i, _) in enumerate(places) if not i % _MEMBER_STEP
        ]
        n_freed = None
        if kept is not None and flags is not None:
            n_freed = int(np.count_nonzero(flags[part] & ~kept & _DO_NOT_USE))
        with self._lock:
            self._counts["pixels"] += n_flagging.size
            self._counts["one"] += int(np.count_nonzero(n_flagging == 1))
            self._counts["several"] += int(np.count_nonzero(n_flagging > 1))
            if n_freed is None:
                self._tells_freed = False
            else:
                self._counts["freed"] += n_freed
            self._blocks += told

    def result(self) -> dict[str, Any]:
        """Return fields of `Gathered`; all rows have gone by."""
        n = self._counts["pixels"]
        if not n:
            return {}
        # In the order of rows, whatever the threads do.
        rows = np.array([each for _, each in sorted(self._blocks)])
        members = tuple(
            MemberSamples(*map(float, finite_median(rows[:, k]))) for k in range(rows.shape[1])
        )
        return {
            "one_background": self._counts["one"] / n,
            "several_backgrounds": self._counts["several"] / n,
            "freed_by_kept": self._counts["freed"] / n if self._tells_freed else None,
            "members": members,
        }


def _row_samples(images: Sequence[Image], k: int) -> list[tuple[float, float, float]]:
    """Return level, scatter and scatter over ERR of row k of each image; NaN where unknown."""
    found: list[tuple[float, float, float]] = []
    # Many at a time, since calls of NumPy take longer than the work on one row.
    for first in range(0, len(images), _TOGETHER):
        some = images[first : first + _TOGETHER]
        sci = np.stack([image.rows.sci[k] for image in some]).astype(np.float32, copy=False)
        ratios = np.full(len(some), np.nan)
        errs = [image.rows.err for image in some]
        with_err = [i for i, err in enumerate(errs) if err is not None]
        if with_err:
            err = np.stack([err[k] for err in errs if err is not None])
            ratios[with_err] = pair_scatters(sci[with_err], err.astype(np.float32, copy=False))
        told = row_medians(sci), pair_scatters(sci), ratios
        found += [(float(a), float(b), float(c)) for a, b, c in zip(*told, strict=True)]
    return found


def _part_of(image: Image, part: slice) -> Image:
    rows = image.rows

    def cut(array: Array | None) -> Array | None:
        return None if array is None else array[..., part, :]

    return image._replace(
        rows=rows._replace(
            sci=rows.sci[..., part, :],
            err=cut(rows.err),
            dq=cut(rows.dq),
            var_poisson=None,
            var_rnoise=None,
        ),
        covers=cut(image.covers),
        skip=cut(image.skip),
    )
