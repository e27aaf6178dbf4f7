"""Averages of arrays: checks, the choice of kernel or twin, threads, cubes."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offsky import kernel
from offsky.arrays import Array
from offsky.combine.rule import is_plain_clip, median_factors, rule_of
from offsky.errors import ParameterError
from offsky.kernel import twin_average, twin_clip
from offsky.kernel.contract import Averages, Planes
from offsky.options import Options, shown
from offsky.values.average import ClippedMean

log = logging.getLogger(__name__)

MOST_EXPOSURES = 65535
"""Samples of one pixel that n_kept (uint16) can count."""

# Pixels that one thread takes at a time: enough to make its start-up invisible.
_CHUNK = 65536


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
    whole = isinstance(threads, Integral) and not isinstance(threads, bool)
    if not whole or threads < 1:
        raise ParameterError(
            f"threads is {shown(threads)}: give one or more, or None for all cores"
        )
    return int(threads)


class _Engine(NamedTuple):
    """What averages: the plain clip, and all the other options."""

    clip_mean: Callable[..., int]
    average: Callable[..., int]


@cache
def _engine() -> _Engine:
    """Return the C kernel, or its twin with one warning."""
    if kernel.clip_mean is not None and kernel.average is not None:
        return _Engine(kernel.clip_mean, kernel.average)
    log.warning(
        "offsky was installed without a C compiler: averaging in NumPy, with the same "
        "results, much slower; install a compiler and reinstall offsky"
    )
    return _Engine(twin_clip.clip_mean, twin_average.average)


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
