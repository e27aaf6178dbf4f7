"""Average exposures block by block of rows, on several threads."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array
from offsky.combine.images import combine_rows
from offsky.options import Options
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure, Rows, Scratch

# All threads' blocks together.  Small enough to be in the third-level cache between
# being read and being averaged, large enough that a read is some hundred kB.
BLOCK_BYTES = 24 * 2**20


def block_rows(row_bytes: int, n_rows: int, n_threads: int) -> int:
    """Return the height of the blocks that `n_threads` work on at a time.

    Parameters
    ----------
    row_bytes : int
        Memory for one row of every exposure.
    n_rows : int
        Rows of the image, at least 1.
    n_threads : int
        Blocks in memory at a time.

    Returns
    -------
    int
        From 1 to `n_rows`; no more than an even share for each thread.
    """
    even_share = -(-n_rows // n_threads)
    affordable = BLOCK_BYTES // n_threads // max(row_bytes, 1)
    return max(1, min(affordable, even_share, 256))


# What aligning the reads of a block takes, of a few hundred exposures.
_SCRATCH_MARGIN = 2**16

Inspector = Callable[[int, Sequence[Rows]], None]
Consumer = Callable[[int, int, ClippedMean], None]
Progress = Callable[[int, int], None]
T = TypeVar("T")


def stream_average(
    exposures: Sequence[Exposure],
    consume: Consumer,
    *,
    options: Options,
    threads: int,
    inspect: Inspector | None = None,
    alongside: Sequence[Callable[[], None]] = (),
    rows_per_block: int | None = None,
    progress: Progress | None = None,
    weights: NDArray[np.float64] | None = None,
    errors: bool = True,
    room: Callable[[int, int], Mapping[str, Array]] | None = None,
) -> tuple[NDArray[np.int64], int]:
    """Average exposures and hand over the result block by block.

    Each row of each exposure is read once. In memory are, at a time, one block of
    rows of all exposures for each thread.

    Parameters
    ----------
    exposures : sequence of Exposure
        At least one, all of the same (ny, nx).
    consume : callable
        Called with (first row, last row + 1, average of these rows), once for each
        row, in any order and from several threads at a time.
    options : Options
        How to average.
    threads : int
        Threads to work on.
    inspect : callable or None
        Called with (first row, that block of every exposure) before it is averaged.
    alongside : sequence of callables
        Other work for the same threads, begun first.
    rows_per_block : int or None
        Height of a block; None to fit the memory. The result does not depend on it.
    progress : callable or None
        Called with the number of rows just done and that of all.
    weights : ndarray, shape (n_exposures,), or None
        Of each exposure in the mean, as of `offsky.rule.exposure_weights`.
    errors : bool
        Whether ERR is read, and that of the average made.
    room : callable or None
        Called with (first row, last row + 1), for where to put parts of the result; as of
        `offsky.combine.combine_rows`.

    Returns
    -------
    n_rejected : ndarray of int64, shape (n_exposures,)
        Samples of each exposure that were clipped.
    n_err_estimated : int
        Times that the ERR of a kept sample was estimated.
    """

    def work(first: int, last: int, rows: Sequence[Rows]) -> tuple[NDArray[np.int64], int]:
        if inspect is not None:
            inspect(first, rows)
        own = None if room is None else room(first, last)
        average = combine_rows(rows, options, weights, errors=errors, room=own)
        consume(first, last, average)
        return average.n_rejected, average.n_err_estimated

    parts = each_block(
        exposures,
        work,
        threads=threads,
        alongside=alongside,
        rows_per_block=rows_per_block,
        progress=progress,
        errors=errors,
    )
    n_rejected = np.zeros(len(exposures), dtype=np.int64)
    for rejected, _ in parts:
        n_rejected += rejected
    return n_rejected, sum(n_estimated for _, n_estimated in parts)


def each_block(
    exposures: Sequence[Exposure],
    work: Callable[[int, int, Sequence[Rows]], T],
    *,
    threads: int,
    alongside: Sequence[Callable[[], None]] = (),
    rows_per_block: int | None = None,
    progress: Progress | None = None,
    errors: bool = True,
) -> list[T]:
    """Read exposures block by block of rows, each row once, and work on each block.

    Parameters
    ----------
    work : callable
        Called with (first row, last row + 1, these rows of every exposure), in any
        order and from several threads at a time; the rows are valid until it returns.
    exposures, threads, alongside, rows_per_block, progress, errors
        As for `stream_average`.

    Returns
    -------
    list
        What `work` returned, from the first block to the last.
    """
    n_rows = exposures[0].shape[-2]
    row_bytes = sum(exposure.row_bytes for exposure in exposures)
    height = rows_per_block or block_rows(row_bytes, n_rows, threads)
    scratches: SimpleQueue[Scratch] = SimpleQueue()
    for _ in range(threads):
        scratches.put(Scratch(height * row_bytes + _SCRATCH_MARGIN))

    def work_on(first: int) -> T:
        last = min(first + height, n_rows)
        scratch = scratches.get()
        try:
            scratch.clear()
            rows = [each.read_rows(first, last, scratch, errors=errors) for each in exposures]
            result = work(first, last, rows)
        finally:
            scratches.put(scratch)
        if progress is not None:
            progress(last - first, n_rows)
        return result

    pool = ThreadPoolExecutor(threads)
    try:
        others = [pool.submit(task) for task in alongside]
        blocks = [pool.submit(work_on, first) for first in range(0, n_rows, height)]
        everything: list[Future[Any]] = [*others, *blocks]
        wait(everything, return_when=FIRST_EXCEPTION)
        for other in others:
            other.result()
        return [block.result() for block in blocks]
    finally:
        # After an error, or Ctrl-C, blocks not yet begun are not begun.
        pool.shutdown(wait=True, cancel_futures=True)
