"""Averages of arrays: checks, the choice of kernel or twin, threads, cubes."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offsky import _kernel, clip
from offsky.clip import Array, ClippedMean
from offsky.errors import ParameterError
from offsky.exposure import Rows, as_flags, as_samples
from offsky.options import Options

log = logging.getLogger(__name__)

MOST_EXPOSURES = 65535
"""Samples of one pixel that n_kept (uint16) can count."""

# Pixels that one thread takes at a time: enough to make its start-up invisible.
_CHUNK = 65536


def clipped_mean(
    sci: ArrayLike,
    err: ArrayLike | None = None,
    dq: ArrayLike | None = None,
    sigma: float = 3.0,
    maxiters: int | None = None,
    threads: int | None = None,
) -> ClippedMean:
    """Average a stack of images along its first axis, rejecting outliers.

    Parameters
    ----------
    sci : array_like, shape (n, ...)
        Samples of n exposures, of any dtype, byte order and layout; never modified.
    err, dq : array_like, shape of `sci`, optional
        Their uncertainties and their data-quality flags.
    sigma : float
        Rejection threshold in standard deviations, above zero.
    maxiters : int or None
        Most clipping passes; None repeats until nothing is rejected, 0 clips
        nothing.
    threads : int or None
        Threads to use; None for one a core. The result does not depend on it.

    Returns
    -------
    ClippedMean
        ``sci`` and ``err`` (float32), ``dq`` (uint32) and ``n_kept`` (uint16), of
        shape ``sci.shape[1:]``.

    Raises
    ------
    ParameterError
        For a threshold, a number of passes or shapes that make no sense.

    Notes
    -----
    Kept are the samples that ``astropy.stats.sigma_clip(sci, sigma, maxiters=maxiters,
    axis=0)`` keeps: finite, and within `sigma` population standard deviations of the
    median of those still kept, bounds included.

    ``err = sqrt(sum(err_i**2)) / n_kept`` over the kept samples. A kept sample whose
    own ERR is not finite takes the mean variance of the others; where none of them is
    finite, the result's ERR is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> kept = clipped_mean(np.array([[1.0], [2.0], [np.nan]]))
    >>> float(kept.sci[0]), int(kept.n_kept[0])
    (1.5, 2)
    """
    options = Options(sigma=sigma, maxiters=maxiters)
    stack = as_samples(np.asarray(sci))
    if stack.ndim < 1 or not 1 <= len(stack) <= MOST_EXPOSURES:
        raise ParameterError(
            f"sci of shape {stack.shape}: the first axis holds the exposures, "
            f"1 to {MOST_EXPOSURES}; put them there"
        )
    errors = None if err is None else as_samples(np.asarray(err))
    flags = None if dq is None else as_flags(np.asarray(dq))
    for name, array in (("err", errors), ("dq", flags)):
        if array is not None and array.shape != stack.shape:
            raise ParameterError(
                f"{name} of shape {array.shape} beside sci of shape {stack.shape}: "
                "give one value a sample"
            )
    return average_planes(
        list(stack),
        None if errors is None else list(errors),
        None if flags is None else list(flags),
        options=options,
        threads=count_threads(threads),
    )


def combine_rows(exposures: Sequence[Rows], options: Options) -> ClippedMean:
    """Average the same rows of several exposures, in the calling thread.

    Parameters
    ----------
    exposures : sequence of Rows
        (n_rows, nx) or (nints, n_rows, nx) each. Cubes are first averaged along
        their integrations, clipped in the same way.
    options : Options
        How to average.

    Returns
    -------
    ClippedMean
        Arrays of shape (n_rows, nx), with ERR and DQ; ``n_rejected`` counts
        rejected integrations too.
    """
    return combine_images([reduce_rows(rows, options) for rows in exposures], options)


class Image(NamedTuple):
    """Rows of one exposure as an image, and what making it of integrations told."""

    rows: Rows
    n_rejected: int = 0
    n_err_estimated: int = 0


def reduce_rows(rows: Rows, options: Options) -> Image:
    """Average the integrations of a cube's rows; those of an image stay as they are."""
    if rows.sci.ndim == 2:
        return Image(rows)
    image = average_planes(
        list(rows.sci),
        None if rows.err is None else list(rows.err),
        None if rows.dq is None else list(rows.dq),
        dq_flips=[rows.dq_flip] * len(rows.sci),
        options=options,
        wide=True,
    )
    return Image(
        Rows(image.sci, image.err, image.dq), int(image.n_rejected.sum()), image.n_err_estimated
    )


def combine_images(images: Sequence[Image], options: Options) -> ClippedMean:
    """Average the same rows of several exposures that are images by now.

    Parameters
    ----------
    images : sequence of Image
        As `reduce_rows` makes them.
    options : Options
        How to average.

    Returns
    -------
    ClippedMean
        As of `combine_rows`.
    """
    average = average_planes(
        [image.rows.sci for image in images],
        [image.rows.err for image in images],
        [image.rows.dq for image in images],
        dq_flips=[image.rows.dq_flip for image in images],
        options=options,
    )
    return ClippedMean(
        average.sci,
        average.err,
        average.dq,
        average.n_kept,
        average.n_rejected + np.array([image.n_rejected for image in images], dtype=np.int64),
        average.n_err_estimated + sum(image.n_err_estimated for image in images),
    )


def average_planes(
    sci: Sequence[Array],
    err: Sequence[Array | None] | None,
    dq: Sequence[Array | None] | None,
    *,
    options: Options,
    dq_flips: Sequence[int] | None = None,
    wide: bool = False,
    threads: int = 1,
) -> ClippedMean:
    """Average planes of one shape; `wide` keeps the result in float64."""
    shape, n_pixels = sci[0].shape, sci[0].size
    real = np.float64 if wide else np.float32
    mean: NDArray[np.floating] = np.empty(n_pixels, dtype=real)
    error: NDArray[np.floating] | None = None if err is None else np.empty(n_pixels, dtype=real)
    flags = None if dq is None else np.empty(n_pixels, dtype=np.uint32)
    n_kept = np.empty(n_pixels, dtype=np.uint16)
    sci_planes = [_flat(plane) for plane in sci]
    err_planes = None if err is None else [_flat_or_none(plane) for plane in err]
    dq_planes = None if dq is None else [_flat_or_none(plane) for plane in dq]
    flips = None if dq_flips is None else np.array(dq_flips, dtype=np.uint32)

    def work(first: int) -> tuple[NDArray[np.int64], int]:
        rejected = np.zeros(len(sci), dtype=np.int64)
        n_estimated = _clip_mean()(
            sci_planes,
            err_planes,
            dq_planes,
            flips,
            options.sigma,
            -1 if options.maxiters is None else options.maxiters,
            first,
            min(first + chunk, n_pixels),
            mean,
            error,
            flags,
            n_kept,
            rejected,
        )
        return rejected, n_estimated

    if threads == 1:
        chunk = n_pixels
        parts = [work(0)]
    else:
        chunk = _CHUNK
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(work, range(0, n_pixels, chunk)))
    n_rejected = np.zeros(len(sci), dtype=np.int64)
    for rejected, _ in parts:
        n_rejected += rejected
    return ClippedMean(
        mean.reshape(shape),
        None if error is None else error.reshape(shape),
        None if flags is None else flags.reshape(shape),
        n_kept.reshape(shape),
        n_rejected,
        sum(n_estimated for _, n_estimated in parts),
    )


def count_threads(threads: int | None) -> int:
    """Return the threads to use: those asked for, or one a core we may run on."""
    if threads is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if threads < 1:
        raise ParameterError(f"threads is {threads}: give one or more, or none for all cores")
    return threads


@cache
def _clip_mean() -> Callable[..., int]:
    """Return the C kernel, or its twin with one warning."""
    if _kernel.clip_mean is not None:
        return _kernel.clip_mean
    log.warning(
        "offsky was installed without a C compiler: averaging in NumPy, with the same "
        "results, much slower; install a compiler and reinstall offsky"
    )
    return clip.clip_mean


def _flat(plane: Array) -> Array:
    return np.require(plane, requirements=["C", "A"]).reshape(-1)


def _flat_or_none(plane: Array | None) -> Array | None:
    return None if plane is None else _flat(plane)
