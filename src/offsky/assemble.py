"""Put the blocks of a streamed average together, and sum it up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from offsky.clip import Array, ClippedMean
from offsky.exposure import Exposure, Rows
from offsky.options import Options
from offsky.stream import Consumer, Progress, stream_average


@dataclass(frozen=True, slots=True, eq=False)
class Assembled:
    """A whole average with what is to be said of it.

    Attributes
    ----------
    average : ClippedMean
        Arrays of shape (ny, nx); ``err`` and ``dq`` None unless asked for.
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


def assemble(
    exposures: Sequence[Exposure],
    *,
    options: Options,
    threads: int,
    whole: bool,
    consume: Consumer | None = None,
    alongside: Sequence[Callable[[], None]] = (),
    rows_per_block: int | None = None,
    progress: Progress | None = None,
) -> Assembled:
    """Average exposures as `stream_average` does, and keep the result.

    Parameters
    ----------
    whole : bool
        Keep ERR and DQ of the average too, not only SCI and the number of samples,
        and find the level of each exposure.
    consume : callable or None
        Given every block as well.
    exposures, options, threads, alongside, rows_per_block, progress
        As for `stream_average`.

    Returns
    -------
    Assembled
    """
    shape = exposures[0].shape[-2:]
    sci = np.empty(shape, dtype=np.float32)
    n_kept = np.empty(shape, dtype=np.uint16)
    err = np.empty(shape, dtype=np.float32) if whole else None
    dq = np.empty(shape, dtype=np.uint32) if whole else None

    def keep(first: int, last: int, block: ClippedMean) -> None:
        sci[first:last] = block.sci
        n_kept[first:last] = block.n_kept
        if err is not None and block.err is not None:
            err[first:last] = block.err
        if dq is not None and block.dq is not None:
            dq[first:last] = block.dq
        if consume is not None:
            consume(first, last, block)

    step = max(1, shape[0] // _LEVEL_ROWS)
    samples: list[list[Array]] = [[] for _ in exposures]

    def sample(first: int, block: Sequence[Rows]) -> None:
        for collected, rows in zip(samples, block, strict=True):
            chosen = rows.sci[..., -first % step :: step, :]
            collected.append(chosen[np.isfinite(chosen)])

    n_rejected, n_err_estimated = stream_average(
        exposures,
        keep,
        options=options,
        threads=threads,
        inspect=sample if whole else None,
        alongside=alongside,
        rows_per_block=rows_per_block,
        progress=progress,
    )
    covered = n_kept > 0
    n_uncovered = covered.size - int(np.count_nonzero(covered))
    return Assembled(
        ClippedMean(sci, err, dq, n_kept, n_rejected, n_err_estimated),
        sum(int(np.prod(exposure.shape)) for exposure in exposures),
        n_uncovered,
        _median(sci[covered] if n_uncovered else sci.ravel()),
        tuple(_median(np.concatenate(collected)) for collected in samples) if whole else (),
    )


def _median(values: Array) -> float | None:
    return float(np.median(values)) if values.size else None
