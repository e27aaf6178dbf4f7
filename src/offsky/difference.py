"""Target minus average, plane by plane: pure arithmetic on rows."""

from typing import NamedTuple

import numpy as np

from offsky.clip import Array, ClippedMean


class SubtractedRows(NamedTuple):
    """SCI and DQ of the same rows of a subtracted target, in the target's types."""

    sci: Array
    dq: Array


def subtract_rows(sci: Array, dq: Array, dq_flip: int, average: ClippedMean) -> SubtractedRows:
    """Subtract the average from rows of the target.

    Parameters
    ----------
    sci, dq : ndarray, (n_rows, nx) or (nints, n_rows, nx)
        The target's; not modified.
    dq_flip : int
        What `dq` is stored XORed with; so is the result.
    average : ClippedMean
        The same rows of the average, (n_rows, nx).

    Returns
    -------
    SubtractedRows
        ``sci`` minus the average in each plane, as it was where the average has no
        sample; ``dq`` OR the average's. In the types and byte orders of the input.

    Notes
    -----
    The difference is taken with the average as it is saved (float32), in the
    target's own precision: target minus saved average gives the saved result.
    """
    level = np.where(average.n_kept > 0, average.sci, np.float32(0))
    flags = np.uint32(0) if average.dq is None else average.dq
    # Inverted bits: set the flags in the value, not in its stored form.
    flipped = np.uint32(dq_flip)
    result_dq = (((dq.astype(np.uint32) ^ flipped) | flags) ^ flipped).astype(dq.dtype)
    result_sci = np.empty_like(sci)
    with np.errstate(invalid="ignore", over="ignore"):
        np.subtract(sci, level, out=result_sci, casting="same_kind")
    return SubtractedRows(result_sci, result_dq)
