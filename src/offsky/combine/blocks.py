"""Blocks of rows: how high they are, and how threads work on them."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any

from offsky.values.exposure import Scratch

# All threads' blocks together.  Small enough to be in the third-level cache between
# being read and being averaged, large enough that a read is some hundred kB.
BLOCK_BYTES = 24 * 2**20
_MOST_ROWS = 256
# What aligning the reads of a block takes, of a few hundred exposures.
_SCRATCH_MARGIN = 2**16
# Work on so little is done before threads have begun: two of them cost a millisecond.
_TINY_BYTES = 2**17


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
    return max(1, min(affordable, even_share, _MOST_ROWS))


def each_block(
    first_row: int,
    last_row: int,
    work: Callable[[int, int, Scratch], None],
    *,
    height: int,
    row_bytes: int,
    threads: int,
    alongside: Sequence[Callable[[], None]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Work on blocks of rows, on several threads.

    Parameters
    ----------
    first_row, last_row : int
        The rows, [first_row, last_row).
    work : callable
        Called with (first row, last row + 1, memory for this block), once for each row, in
        any order and from several threads at a time.
    height : int
        Rows of a block.
    row_bytes : int
        Memory that one row is expected to take.
    threads : int
        Threads to work on.
    alongside : sequence of callables
        Other work for the same threads, begun first.
    progress : callable or None
        Called with the number of rows just done and that of all.
    """
    scratches: SimpleQueue[Scratch] = SimpleQueue()
    for _ in range(threads):
        scratches.put(Scratch(height * row_bytes + _SCRATCH_MARGIN))

    def work_on(first: int) -> None:
        last = min(first + height, last_row)
        scratch = scratches.get()
        try:
            scratch.clear()
            work(first, last, scratch)
        finally:
            scratches.put(scratch)
        if progress is not None:
            progress(last - first, last_row - first_row)

    if (last_row - first_row) * row_bytes <= _TINY_BYTES:
        for task in alongside:
            task()
        for first in range(first_row, last_row, height):
            work_on(first)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        others: list[Future[Any]] = [pool.submit(task) for task in alongside]
        blocks = [pool.submit(work_on, first) for first in range(first_row, last_row, height)]
        everything = [*others, *blocks]
        wait(everything, return_when=FIRST_EXCEPTION)
        for each in everything:
            if each.done():
                each.result()
    finally:
        # After an error, or Ctrl-C, blocks not yet begun are not begun.
        pool.shutdown(wait=True, cancel_futures=True)
