"""Gather what the backgrounds of an average show, from some of their rows."""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np

from offsky.arrays import Array
from offsky.combine.images import Image
from offsky.measure.blocks import sampled_rows, within
from offsky.measure.scatter import finite_median, pair_scatter
from offsky.values.gathered import MemberSamples

_DO_NOT_USE = 1
# Of so many rows one is looked at, of few rows more of them: of a full frame 64.
_STEP, _LEAST_ROWS = 32, 64
# Of so many of these one tells the level and scatter of the backgrounds.
_MEMBER_STEP = 2


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
        levels = [_member(image, places) for image in some]
        with self._lock:
            self._counts["pixels"] += n_flagging.size
            self._counts["one"] += int(np.count_nonzero(n_flagging == 1))
            self._counts["several"] += int(np.count_nonzero(n_flagging > 1))
            if kept is None or flags is None:
                self._tells_freed = False
            else:
                self._counts["freed"] += int(np.count_nonzero(flags[part] & ~kept & _DO_NOT_USE))
            for k, (i, _) in enumerate(places):
                if i % _MEMBER_STEP == 0:
                    self._blocks.append((i, [each[k] for each in levels]))

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


def _member(image: Image, places: list[tuple[int, int]]) -> list[tuple[float, float, float]]:
    """Return level, scatter and scatter over ERR of each row that tells them; NaN of others."""
    nothing = (float("nan"),) * 3
    found = []
    for k, (i, _) in enumerate(places):
        if i % _MEMBER_STEP:
            found.append(nothing)
            continue
        sci = np.asarray(image.rows.sci[k : k + 1], dtype=np.float32)
        level = sci[np.isfinite(sci)]
        if not level.size:
            found.append(nothing)
            continue
        err = image.rows.err
        ratio = float("nan")
        if err is not None:
            ratio = pair_scatter(sci, np.asarray(err[k : k + 1], dtype=np.float32))
        found.append((float(np.median(level)), pair_scatter(sci), ratio))
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
