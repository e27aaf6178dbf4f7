"""Averages of arrays: checks, the choice of kernel or twin, threads, cubes."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offsky import _kernel, averaging, clip
from offsky.averaging import Averages, Planes
from offsky.clip import Array, ClippedMean
from offsky.errors import ParameterError
from offsky.exposure import Rows, as_flags, as_samples
from offsky.options import Options
from offsky.rule import is_plain_clip, median_factors, rule_of

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
    *,
    options: Options | None = None,
    weights: ArrayLike | None = None,
    var_poisson: ArrayLike | None = None,
    var_rnoise: ArrayLike | None = None,
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
    options : Options or None
        How to average, in every respect, instead of `sigma` and `maxiters`.
    weights : array_like, shape (n,), optional
        Of each exposure in the mean, above zero.
    var_poisson, var_rnoise : array_like, shape of `sci`, optional
        Variances, averaged too where ``options.errors`` is "propagate".

    Returns
    -------
    ClippedMean
        ``sci``, ``err`` and variances (float32), ``dq`` (uint32) and ``n_kept``
        (uint16), of shape ``sci.shape[1:]``.

    Raises
    ------
    ParameterError
        For a threshold, a number of passes or shapes that make no sense.

    Notes
    -----
    Kept are, unless `options` say otherwise, the samples that
    ``astropy.stats.sigma_clip(sci, sigma, maxiters=maxiters, axis=0)`` keeps: finite, and
    within `sigma` population standard deviations of the median of those still kept,
    bounds included.

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
    options = Options(sigma=sigma, maxiters=maxiters) if options is None else options
    stack = as_samples(np.asarray(sci))
    if stack.ndim < 1 or not 1 <= len(stack) <= MOST_EXPOSURES:
        raise ParameterError(
            f"sci of shape {stack.shape}: the first axis holds the exposures, "
            f"1 to {MOST_EXPOSURES}; put them there"
        )
    errors = None if err is None else as_samples(np.asarray(err))
    flags = None if dq is None else as_flags(np.asarray(dq))
    variances = [
        None if var is None else as_samples(np.asarray(var)) for var in (var_poisson, var_rnoise)
    ]
    for name, array in (
        ("err", errors),
        ("dq", flags),
        ("var_poisson", variances[0]),
        ("var_rnoise", variances[1]),
    ):
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
        weights=None if weights is None else np.asarray(weights, dtype=np.float64),
        variances=[None if var is None else list(var) for var in variances],
    )


def combine_rows(
    exposures: Sequence[Rows],
    options: Options,
    weights: NDArray[np.float64] | None = None,
    *,
    errors: bool = True,
    room: Mapping[str, Array] | None = None,
) -> ClippedMean:
    """Average the same rows of several exposures, in the calling thread.

    Parameters
    ----------
    exposures : sequence of Rows
        (n_rows, nx) or (nints, n_rows, nx) each. Cubes are first averaged along
        their integrations, clipped in the same way.
    options : Options
        How to average.
    weights : ndarray, shape (n_exposures,), or None
        Of each exposure in the mean, above zero; None for equal ones.
    errors : bool
        Whether to make ERR of the average.
    room : mapping of str to ndarray, or None
        Where to put parts of the result, by the names of `ClippedMean`: contiguous, of
        their shapes and types. The others get arrays of their own.

    Returns
    -------
    ClippedMean
        Arrays of shape (n_rows, nx), with ERR and DQ; ``n_rejected`` counts
        rejected integrations too. Variances where they are to be propagated and every
        exposure that reaches these rows has them.
    """
    images = [reduce_rows(rows, options) for rows in exposures]
    return combine_images(images, options, weights, errors=errors, room=room)


class Image(NamedTuple):
    """Rows of one exposure as an image, and what making it of integrations told."""

    rows: Rows
    n_rejected: int = 0
    n_err_estimated: int = 0


def reduce_rows(rows: Rows, options: Options) -> Image:
    """Average the integrations of a cube's rows; those of an image stay as they are.

    Integrations are rejected as exposures are, and their flags combined so. But they
    count alike, their average is the mean, and `bad_fraction` is one of exposures.
    """
    if rows.sci.ndim == 2:
        return Image(rows)
    image = average_planes(
        list(rows.sci),
        None if rows.err is None else list(rows.err),
        None if rows.dq is None else list(rows.dq),
        dq_flips=[rows.dq_flip] * len(rows.sci),
        options=options.changed(combine="mean", weight="equal", bad_fraction=None),
        wide=True,
        variances=[
            None if var is None else list(var) for var in (rows.var_poisson, rows.var_rnoise)
        ],
    )
    return Image(
        Rows(
            image.sci,
            image.err,
            image.dq,
            var_poisson=image.var_poisson,
            var_rnoise=image.var_rnoise,
            covers=rows.covers,
        ),
        int(image.n_rejected.sum()),
        image.n_err_estimated,
    )


def combine_images(
    images: Sequence[Image],
    options: Options,
    weights: NDArray[np.float64] | None = None,
    *,
    errors: bool = True,
    room: Mapping[str, Array] | None = None,
) -> ClippedMean:
    """Average the same rows of several exposures that are images by now.

    Parameters
    ----------
    images : sequence of Image
        As `reduce_rows` makes them.
    options, weights, errors, room
        As for `combine_rows`.

    Returns
    -------
    ClippedMean
        As of `combine_rows`.
    """
    rows = [image.rows for image in images]
    average = average_planes(
        [each.sci for each in rows],
        [each.err for each in rows] if errors else None,
        [each.dq for each in rows],
        dq_flips=[each.dq_flip for each in rows],
        options=options,
        weights=weights,
        variances=[
            _of_all_that_reach(rows, [each.var_poisson for each in rows]),
            _of_all_that_reach(rows, [each.var_rnoise for each in rows]),
        ],
        covers=[each.covers for each in rows],
        room=room,
    )
    return replace(
        average,
        n_rejected=average.n_rejected
        + np.array([image.n_rejected for image in images], dtype=np.int64),
        n_err_estimated=average.n_err_estimated + sum(image.n_err_estimated for image in images),
    )


def _of_all_that_reach(
    rows: Sequence[Rows], planes: list[Array | None]
) -> list[Array | None] | None:
    """Return planes; None where one is missing of an exposure that reaches these rows."""
    for each, plane in zip(rows, planes, strict=True):
        if plane is None and (each.covers is None or each.covers.any()):
            return None
    return planes


def average_planes(
    sci: Sequence[Array],
    err: Sequence[Array | None] | None,
    dq: Sequence[Array | None] | None,
    *,
    options: Options,
    dq_flips: Sequence[int] | None = None,
    wide: bool = False,
    threads: int = 1,
    weights: NDArray[np.float64] | None = None,
    variances: Sequence[Sequence[Array | None] | None] = (None, None),
    covers: Sequence[Array | None] | None = None,
    room: Mapping[str, Array] | None = None,
) -> ClippedMean:
    """Average planes of one shape; `wide` keeps the result in float64.

    `weights` count where ``options.weight`` is not "equal"; `variances` are VAR_POISSON
    and VAR_RNOISE, used where ``options.errors`` is "propagate"; `room` is as for
    `combine_rows`.
    """
    if options.errors == "none":
        variances = (None, None)
    shape, n_pixels = sci[0].shape, sci[0].size

    def place(name: str, dtype: type) -> Array:
        own = None if room is None else room.get(name)
        return np.empty(n_pixels, dtype=dtype) if own is None else own.reshape(-1)

    real = np.float64 if wide else np.float32
    planes = Planes(
        [_flat(plane) for plane in sci],
        *(_flat_planes(kind) for kind in (err, dq, *variances, covers)),
    )
    out = Averages(
        place("sci", real),
        None if err is None else place("err", real),
        None if dq is None else place("dq", np.uint32),
        place("n_kept", np.uint16),
        np.zeros(len(sci), dtype=np.int64),
        *(None if var is None else np.empty(n_pixels, dtype=real) for var in variances),
    )
    engine, chosen = _engine(), _chosen_weights(options, weights, len(sci))
    flips = None if dq_flips is None else np.array(dq_flips, dtype=np.uint32)
    plain = is_plain_clip(options) and chosen is None and not any(variances)
    factors = median_factors(len(sci)) if options.combine == "median" else None

    def work(first: int) -> tuple[NDArray[np.int64], int]:
        rejected = np.zeros(len(sci), dtype=np.int64)
        last = min(first + chunk, n_pixels)
        if plain:
            maxiters = -1 if options.maxiters is None else options.maxiters
            n_estimated = engine.clip_mean(
                planes.sci, planes.err, planes.dq, flips,
                options.sigma, 0 if options.reject == "none" else maxiters, first, last,
                out.sci, out.err, out.dq, out.n_kept, rejected,
            )  # fmt: skip
        else:
            n_estimated = engine.average(
                planes, flips, chosen, factors, rule_of(options), first, last,
                out._replace(n_rejected=rejected),
            )  # fmt: skip
        return rejected, n_estimated

    if threads == 1:
        chunk = n_pixels
        parts = [work(0)]
    else:
        chunk = _CHUNK
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(work, range(0, n_pixels, chunk)))
    for rejected, _ in parts:
        out.n_rejected[:] += rejected
    return ClippedMean(
        out.sci.reshape(shape),
        None if out.err is None else out.err.reshape(shape),
        None if out.dq is None else out.dq.reshape(shape),
        out.n_kept.reshape(shape),
        out.n_rejected,
        sum(n_estimated for _, n_estimated in parts),
        None if out.var_poisson is None else out.var_poisson.reshape(shape),
        None if out.var_rnoise is None else out.var_rnoise.reshape(shape),
    )


def _chosen_weights(
    options: Options, weights: NDArray[np.float64] | None, n: int
) -> NDArray[np.float64] | None:
    """Return the weights to use, 1 the largest of them; None where all are equal."""
    if options.weight == "equal":
        return None
    if weights is None or weights.shape != (n,) or not np.all((weights > 0) & (weights < np.inf)):
        raise ParameterError(
            f"weights {weights} for {n} exposures: give each a finite one above zero"
        )
    return np.ascontiguousarray(weights / weights.max())


def count_threads(threads: int | None) -> int:
    """Return the threads to use: those asked for, or one a core we may run on."""
    if threads is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if threads < 1:
        raise ParameterError(f"threads is {threads}: give one or more, or none for all cores")
    return threads


class _Engine(NamedTuple):
    """What averages: the plain clip, and all the other options."""

    clip_mean: Callable[..., int]
    average: Callable[..., int]


@cache
def _engine() -> _Engine:
    """Return the C kernel, or its twin with one warning."""
    if _kernel.clip_mean is not None and _kernel.average is not None:
        return _Engine(_kernel.clip_mean, _kernel.average)
    log.warning(
        "offsky was installed without a C compiler: averaging in NumPy, with the same "
        "results, much slower; install a compiler and reinstall offsky"
    )
    return _Engine(clip.clip_mean, averaging.average)


def _flat(plane: Array) -> Array:
    """Return a plane as the kernel takes it: flat, contiguous, aligned."""
    if not (plane.flags.c_contiguous and plane.flags.aligned):
        plane = np.require(plane, requirements=["C", "A"])
    return plane.reshape(-1)


def _flat_planes(planes: Sequence[Array | None] | None) -> list[Array | None] | None:
    """Return planes so, of those that are there."""
    if planes is None:
        return None
    return [None if plane is None else _flat(plane) for plane in planes]
