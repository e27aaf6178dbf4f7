"""How many rows are handled together: pure arithmetic."""

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
