"""Put the blocks of a streamed average together, and sum it up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array
from offsky.combine.blocks import Consumer, Progress, stream_average
from offsky.combine.median import median
from offsky.options import Options
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Assembled:
    """A whole average with what is to be said of it.

    Attributes
    ----------
    average : ClippedMean
        Arrays of shape (ny, nx); ``err``, ``dq`` and variances None unless asked for.
    n_samples : int
        Samples read.
    n_uncovered : int
        Pixels without a kept sample.
    median_level : float or None
        Median of the pixels with one; None where there is none.
    levels : tuple of (float or None)
        Median of each exposure, from some rows in even steps (`_LEVEL_ROWS`); empty
        unless asked for.
    """

    average: ClippedMean
    n_samples: int
    n_uncovered: int
    median_level: float | None
    levels: tuple[float | None, ...] = ()


# Rows that the level of one exposure is told from: a quarter of a million samples of
# a full frame give its median to a thousandth of the noise of one.
_LEVEL_ROWS = 128


class Assembly:
    """An average that is put together from blocks, in any order and by several threads.

    Parameters
    ----------
    exposures : sequence of Exposure
        Those averaged, all of the same (ny, nx).
    whole : bool
        Keep ERR and DQ too.
    errors : bool
        Keep ERR; it takes memory, and subtracting does not need it.
    levels : bool
        Find the level of each exposure.
    variances : bool
        Keep VAR_POISSON and VAR_RNOISE, where every block has them.
    """

    def __init__(
        self,
        exposures: Sequence[Exposure],
        *,
        whole: bool,
        errors: bool = False,
        levels: bool = False,
        variances: bool = False,
    ) -> None:
        shape = exposures[0].shape[-2:]
        self._n_samples = sum(int(np.prod(exposure.shape)) for exposure in exposures)
        self._sci = np.empty(shape, dtype=np.float32)
        self._n_kept = np.empty(shape, dtype=np.uint16)
        self._err = np.empty(shape, dtype=np.float32) if whole and errors else None
        self._dq = np.empty(shape, dtype=np.uint32) if whole else None
        keeps = whole and errors and variances
        self._variances = [np.empty(shape, dtype=np.float32) if keeps else None for _ in range(2)]
        self._step = max(1, shape[0] // _LEVEL_ROWS)
        self._samples: list[list[Array]] = [[] for _ in exposures] if levels else []

    def room(self, first: int, last: int) -> dict[str, Array]:
        """Return where rows [first, last) are to be put; see `offsky.combine.combine_rows`."""
        kept = {"sci": self._sci, "err": self._err, "dq": self._dq, "n_kept": self._n_kept}
        return {name: array[first:last] for name, array in kept.items() if array is not None}

    def keep_variances(self, first: int, last: int, block: ClippedMean) -> None:
        """Put the variances of rows [first, last) in their place, where there are any."""
        for i, variance in enumerate((block.var_poisson, block.var_rnoise)):
            kept = self._variances[i]
            if variance is None:
                self._variances[i] = None
            elif kept is not None:
                kept[first:last] = variance

    def inspect(self, first: int, block: Sequence[Rows]) -> None:
        """Look at the exposures' own rows, for their levels."""
        for collected, rows in zip(self._samples, block, strict=True):
            chosen = rows.sci[..., -first % self._step :: self._step, :]
            collected.append(chosen[np.isfinite(chosen)])

    def finish(self, n_rejected: NDArray[np.int64], n_err_estimated: int) -> Assembled:
        """Return the whole, given the sums over its blocks."""
        n_covered = int(np.count_nonzero(self._n_kept))
        return Assembled(
            ClippedMean(
                self._sci,
                self._err,
                self._dq,
                self._n_kept,
                n_rejected,
                n_err_estimated,
                self._variances[0],
                self._variances[1],
            ),
            self._n_samples,
            self._n_kept.size - n_covered,
            median(self._sci.ravel(), n_covered),
            tuple(
                median(np.concatenate(collected), sum(len(each) for each in collected))
                for collected in self._samples
            ),
        )


def assemble(
    exposures: Sequence[Exposure],
    *,
    options: Options,
    threads: int,
    whole: bool,
    errors: bool | None = None,
    levels: bool | None = None,
    consume: Consumer | None = None,
    alongside: Sequence[Callable[[], None]] = (),
    rows_per_block: int | None = None,
    progress: Progress | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Assembled:
    """Average exposures as `stream_average` does, and keep the result.

    Parameters
    ----------
    whole : bool
        Keep ERR and DQ of the average too, not only SCI and the number of samples; with
        ERR also the variances, where ``options.errors`` is "propagate".
    errors, levels : bool or None
        Of these keep ERR, and find the level of each exposure; None to do so if `whole`.
        Where ERR is not kept, and does not matter to the rest, it is not read.
    consume : callable or None
        Given every block as well.
    exposures, options, threads, alongside, rows_per_block, progress, weights
        As for `stream_average`.

    Returns
    -------
    Assembled
    """
    with_levels = whole if levels is None else levels
    with_errors = whole if errors is None else errors
    assembly = Assembly(
        exposures,
        whole=whole,
        errors=with_errors,
        levels=with_levels,
        variances=options.errors == "propagate",
    )

    def keep(first: int, last: int, block: ClippedMean) -> None:
        assembly.keep_variances(first, last, block)
        if consume is not None:
            consume(first, last, block)

    n_rejected, n_err_estimated = stream_average(
        exposures,
        keep,
        options=options,
        threads=threads,
        inspect=assembly.inspect if with_levels else None,
        alongside=alongside,
        rows_per_block=rows_per_block,
        progress=progress,
        weights=weights,
        errors=with_errors or options.uses_errors,
        room=assembly.room,
    )
    return assembly.finish(n_rejected, n_err_estimated)
