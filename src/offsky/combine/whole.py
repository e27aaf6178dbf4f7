"""An average that is put together from blocks of rows, in any order."""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array
from offsky.combine.median import median
from offsky.values.average import ClippedMean
from offsky.values.exposure import Scratch


class Kept(NamedTuple):
    """Which planes of an average are kept whole; SCI always is, for its median.

    Attributes
    ----------
    whole : bool
        DQ and the number of samples kept.
    errors : bool
        ERR, where the average is kept whole.
    variances : bool
        VAR_POISSON and VAR_RNOISE, where ERR is kept.
    n_shares : int
        Groups of exposures whose shares in the average are kept, where it is kept whole.
    """

    whole: bool = False
    errors: bool = False
    variances: bool = False
    n_shares: int = 0

    @property
    def pixel_bytes(self) -> int:
        """Memory that a pixel takes."""
        return 4 + self.whole * (6 + self.errors * (4 + 8 * self.variances) + 4 * self.n_shares)


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """An average of which all rows are made, and what is to be said of it.

    Attributes
    ----------
    average : ClippedMean or None
        Arrays of shape (ny, nx); None unless it was kept whole.
    n_rejected, n_masked : tuple of int
        Samples of each exposure that were rejected, and left out by a mask.
    n_samples : int
        Finite samples without those that a mask left out.
    n_uncovered : int
        Pixels without a kept sample.
    n_err_estimated : int
        Pixels at which the ERR of a kept sample was estimated.
    median_level : float or None
        Median of the pixels with one; None where there is none.
    err_ratios : tuple of float
        Scatter of each exposure's samples over their ERR; empty where it was not measured.
    """

    average: ClippedMean | None
    n_rejected: tuple[int, ...]
    n_masked: tuple[int, ...]
    n_samples: int
    n_uncovered: int
    n_err_estimated: int
    median_level: float | None
    err_ratios: tuple[float, ...] = ()


class Assembly:
    """An average that is put together by several threads.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    n_exposures : int
        Exposures that are averaged.
    kept : Kept
        Which planes are kept.
    """

    def __init__(self, shape: tuple[int, int], n_exposures: int, kept: Kept) -> None:
        self._kept = kept
        self._planes: dict[str, Array] = {
            name: np.empty(shape, dtype=dtype) for name, dtype in _planes_of(kept)
        }
        self._has_variances = kept.whole and kept.errors and kept.variances
        self._n_rejected = np.zeros(n_exposures, dtype=np.int64)
        self._n_masked = np.zeros(n_exposures, dtype=np.int64)
        self._n_samples = self._n_covered = self._n_err_estimated = 0
        self._lock = Lock()

    def room(
        self, first: int, last: int, scratch: Scratch, *, errors: bool, variances: bool
    ) -> dict[str, Array]:
        """Return where rows [first, last) of an average are to be put.

        Parameters
        ----------
        first, last : int
            The rows.
        scratch : Scratch
            Memory for planes that are not kept.
        errors, variances : bool
            Whether the average has ERR and variances.
        """
        shape = (last - first, self._planes["sci"].shape[1])
        wanted = [("sci", np.float32), ("dq", np.uint32), ("n_kept", np.uint16)]
        wanted += [("err", np.float32)] * errors
        wanted += [("var_poisson", np.float32), ("var_rnoise", np.float32)] * variances
        wanted += [(f"share{g}", np.float32) for g in range(self._kept.n_shares)]
        return {
            name: self._planes[name][first:last]
            if name in self._planes
            else scratch.array(shape, dtype)
            for name, dtype in wanted
        }

    def add(self, average: ClippedMean) -> None:
        """Count a block that was averaged into its room."""
        n_covered = int(np.count_nonzero(average.n_kept))
        with self._lock:
            self._n_rejected += average.n_rejected
            self._n_masked += average.n_masked
            self._n_samples += average.n_samples
            self._n_err_estimated += average.n_err_estimated
            self._n_covered += n_covered
            # One block without them, and the average has none.
            self._has_variances &= average.var_poisson is not None

    def amend(
        self,
        first: int,
        average: ClippedMean,
        n_rejected: NDArray[np.int64],
        n_err_estimated: int,
    ) -> None:
        """Take rows from `first` on that were averaged again once they were counted.

        Parameters
        ----------
        first : int
            The first of the rows.
        average : ClippedMean
            The rows; its counts are not looked at.
        n_rejected : ndarray of int64, shape (n_exposures,)
            How many samples more are rejected.
        n_err_estimated : int
            Pixels more at which the ERR of a kept sample was estimated.
        """
        shares = {f"share{g}": share for g, share in enumerate(average.shares)}
        for name, plane in self._planes.items():
            part = shares[name] if name in shares else getattr(average, name)
            if part is not None:
                plane[first : first + len(part)] = part
        with self._lock:
            self._n_rejected += n_rejected
            self._n_err_estimated += n_err_estimated

    def finish(self) -> Finished:
        """Return the average with its sums."""
        sci, average = self._planes["sci"], None
        planes, self._planes = self._planes, {}
        if self._kept.whole:
            names = {"var_poisson", "var_rnoise"} if self._has_variances else set()
            average = ClippedMean(
                sci,
                planes.get("err"),
                planes["dq"],
                planes["n_kept"],
                self._n_rejected,
                self._n_err_estimated,
                planes["var_poisson"] if names else None,
                planes["var_rnoise"] if names else None,
                n_samples=self._n_samples,
                n_masked=self._n_masked,
                shares=tuple(planes[f"share{g}"] for g in range(self._kept.n_shares)),
            )
        return Finished(
            average,
            tuple(map(int, self._n_rejected)),
            tuple(map(int, self._n_masked)),
            self._n_samples,
            sci.size - self._n_covered,
            self._n_err_estimated,
            median(sci.ravel(), self._n_covered),
        )


def _planes_of(kept: Kept) -> Sequence[tuple[str, type]]:
    planes: list[tuple[str, type]] = [("sci", np.float32)]
    if kept.whole:
        planes += [("dq", np.uint32), ("n_kept", np.uint16)]
        if kept.errors:
            planes.append(("err", np.float32))
            if kept.variances:
                planes += [("var_poisson", np.float32), ("var_rnoise", np.float32)]
        planes += [(f"share{g}", np.float32) for g in range(kept.n_shares)]
    return planes


def freeze(average: ClippedMean) -> None:
    """Make an average that several threads use read-only.

    `astropy.io.fits` swaps the bytes of an array in place while it writes it, unless it may not
    write to it: others would read swapped bytes meanwhile.
    """
    for name in ("sci", "err", "dq", "n_kept", "var_poisson", "var_rnoise"):
        array: Array | None = getattr(average, name)
        if array is not None:
            array.flags.writeable = False


def rows_of(average: ClippedMean, first: int, last: int) -> ClippedMean:
    """Return rows [first, last) of a whole average; its counts stay those of the whole."""

    def part(array: Array | None) -> Array | None:
        return None if array is None else array[first:last]

    n_kept: NDArray[np.uint16] = average.n_kept[first:last]
    return ClippedMean(
        average.sci[first:last],
        part(average.err),
        part(average.dq),
        n_kept,
        average.n_rejected,
        average.n_err_estimated,
        part(average.var_poisson),
        part(average.var_rnoise),
        n_samples=average.n_samples,
        n_masked=average.n_masked,
        shares=tuple(share[first:last] for share in average.shares),
    )
