"""The clipped mean in plain NumPy: what the C kernel is judged by.

It serves in the kernel's place where offsky was installed without a compiler:
the same results, bit for bit, some forty times slower.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array
from offsky.kernel.contract import SIGMA, Rule
from offsky.kernel.twin_reject import kept_samples


def clip_mean(
    sci: Sequence[Array],
    err: Sequence[Array | None] | None,
    dq: Sequence[Array | None] | None,
    dq_flip: NDArray[np.uint32] | None,
    sigma: float,
    maxiters: int,
    first: int,
    last: int,
    out_sci: NDArray[np.floating],
    out_err: NDArray[np.floating] | None,
    out_dq: NDArray[np.uint32] | None,
    out_n_kept: NDArray[np.uint16],
    n_rejected: NDArray[np.int64],
    /,
) -> int:
    """Average pixels [first, last) of flat planes; the kernel's twin.

    Parameters
    ----------
    sci, err, dq : sequence of ndarray, each (n_pixels,)
        One plane an exposure: float32 or float64, DQ uint32, any byte order.
        ``err`` and ``dq`` may be None, as may be single planes of theirs.
    dq_flip : ndarray of uint32, shape (n_exposures,), or None
        What to XOR each exposure's DQ with (FITS inverts the top bit).
    sigma, maxiters
        As in `offsky.clipped_mean`, with -1 for "until nothing is rejected".
    first, last : int
        The pixels to work on.
    out_sci, out_err, out_dq, out_n_kept : ndarray, each (n_pixels,)
        Filled at [first, last).
    n_rejected : ndarray of int64, shape (n_exposures,)
        Added to.

    Returns
    -------
    int
        Pixels at which the ERR of a kept sample was estimated.
    """
    window = slice(first, last)
    samples = np.array([plane[window] for plane in sci], dtype=np.float64)
    finite = np.isfinite(samples)
    kept = kept_samples(samples, None, Rule(SIGMA, sigma, sigma, maxiters))
    n_rejected += (finite & ~kept).sum(axis=1)

    n_kept = kept.sum(axis=0)
    total = np.zeros(samples.shape[1:])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for sample, keep in zip(samples, kept, strict=True):
            total += np.where(keep, sample, 0.0)
        out_sci[window] = total / n_kept
    out_n_kept[window] = n_kept
    if dq is not None and out_dq is not None:
        out_dq[window] = 0
        for i, flags in enumerate(dq):
            if flags is not None:
                flip = np.uint32(0) if dq_flip is None else dq_flip[i]
                out_dq[window] |= flags[window].astype(np.uint32) ^ flip
    if err is None or out_err is None:
        return 0

    variance = np.zeros_like(total)
    n_known = np.zeros_like(n_kept)
    with np.errstate(over="ignore"):
        for plane, keep in zip(err, kept, strict=True):
            if plane is not None:
                error = plane[window].astype(np.float64)
                known = keep & np.isfinite(error)
                variance += np.where(known, error, 0.0) ** 2
                n_known += known
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        out_err[window] = np.sqrt(variance / (n_kept * n_known))
    return int(((n_known != n_kept) & (n_known > 0)).sum())
