"""Blocks of rows: how high they are, and how threads work on them."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from itertools import pairwise
from queue import SimpleQueue
from threading import Event
from typing import Any, NamedTuple

from offsky.values.exposure import Scratch

# All threads' blocks together.  Small enough to be in the third-level cache between
# being read and being averaged, large enough that a read is some hundred kB.
BLOCK_BYTES = 24 * 2**20
# Where rejection grows: each block costs a dozen calls for each average, so that fewer and larger
# blocks are faster, though they leave the cache.
GROWN_BLOCK_BYTES = 2 * BLOCK_BYTES
_MOST_ROWS = 256
LEAST_GROWN = 8
"""Rows of a block, at least, where rejection grows: twice those that the next one looks at."""

# Bands look at a few rows of each other.
_LEAST_BAND = 32
# What aligning the reads of a block takes, of a few hundred exposures.
_SCRATCH_MARGIN = 2**16
# Work on so many bytes is done before threads have begun: two of them cost a millisecond.
_TINY_BYTES = 2**17


def is_tiny(row_bytes: int, n_rows: int) -> bool:
    """Tell whether rows are so little work that no thread is begun for them."""
    return n_rows * row_bytes <= _TINY_BYTES


def block_rows(row_bytes: int, n_rows: int, n_threads: int, block_bytes: int = BLOCK_BYTES) -> int:
    """Return the height of the blocks that `n_threads` work on at a time.

    Parameters
    ----------
    row_bytes : int
        Memory for one row of every exposure.
    n_rows : int
        Rows of the image, at least 1.
    n_threads : int
        Blocks in memory at a time.
    block_bytes : int
        Memory for all of them together.

    Returns
    -------
    int
        From 1 to `n_rows`; no more than an even share for each thread.
    """
    even_share = -(-n_rows // n_threads)
    affordable = block_bytes // n_threads // max(row_bytes, 1)
    return max(1, min(affordable, even_share, _MOST_ROWS))


class Chain(NamedTuple):
    """Blocks that one thread works on, one after the other.

    Attributes
    ----------
    work : callable
        Called with (first row, last row + 1, memory for this block), which is kept while the
        next block is worked on.
    blocks : sequence of (int, int)
        The blocks.
    begin, end : int
        The rows that they are for; those outside are looked at as well.
    """

    work: Callable[[int, int, Scratch], None]
    blocks: Sequence[tuple[int, int]]
    begin: int
    end: int


def bands_of(first_row: int, last_row: int, n_threads: int) -> list[tuple[int, int]]:
    """Cut rows into bands: two for each thread, unless they would be low."""
    n_rows = last_row - first_row
    n = max(1, min(2 * n_threads, n_rows // _LEAST_BAND))
    edges = [first_row + n_rows * i // n for i in range(n + 1)]
    return list(pairwise(edges))


def edges_of(
    first_row: int, last_row: int, begin: int, end: int, height: int, margin: int
) -> list[int]:
    """Cut a band into blocks, from the first of their edges to the last.

    Parameters
    ----------
    first_row, last_row : int
        All rows that there are.
    begin, end : int
        The rows of the band.
    height : int
        Rows of a block, at most; at least `LEAST_GROWN`.
    margin : int
        Rows above and below the band that are looked at too, in blocks of their own. No block
        of the band is lower than twice that, unless the band is.
    """
    n_rows = end - begin
    n = max(1, min(-(-n_rows // height), n_rows // (2 * margin)))
    own = [begin + n_rows * i // n for i in range(n + 1)]
    return [max(first_row, begin - margin), *own, min(last_row, end + margin)]


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
    chains: Sequence[Chain] | None = None,
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
    chains : sequence of Chain, or None
        Blocks that are worked on one after the other; None for blocks in any order.
    """
    if chains is None:
        blocks = (
            (first, min(first + height, last_row)) for first in range(first_row, last_row, height)
        )
        chains = [Chain(work, [block], *block) for block in blocks]
    tiny = is_tiny(row_bytes, last_row - first_row)
    stopped = Event()
    # Two for each thread: where blocks follow each other, that before is still looked at.
    scratches: SimpleQueue[tuple[Scratch, Scratch]] = SimpleQueue()
    size = height * row_bytes + _SCRATCH_MARGIN
    for _ in range(1 if tiny else threads):
        scratches.put((Scratch(size), Scratch(size)))

    def work_on(chain: Chain) -> None:
        pair = scratches.get()
        try:
            for i, (first, last) in enumerate(chain.blocks):
                if stopped.is_set():
                    return
                scratch = pair[i % 2]
                scratch.clear()
                chain.work(first, last, scratch)
                n_done = min(last, chain.end) - max(first, chain.begin)
                if progress is not None and n_done > 0:
                    progress(n_done, last_row - first_row)
        finally:
            scratches.put(pair)

    if tiny:
        for task in alongside:
            task()
        for chain in chains:
            work_on(chain)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        others: list[Future[Any]] = [pool.submit(task) for task in alongside]
        everything = [*others, *(pool.submit(work_on, chain) for chain in chains)]
        wait(everything, return_when=FIRST_EXCEPTION)
        for each in everything:
            if each.done():
                each.result()
    finally:
        # After an error, or Ctrl-C, blocks not yet begun are not begun.
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)
