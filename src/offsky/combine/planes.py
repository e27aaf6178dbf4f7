"""Averages of arrays: checks, the choice of kernel or twin, threads, cubes."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offsky import kernel
from offsky.arrays import Array
from offsky.combine.rule import median_factors, rule_of
from offsky.declared import join_choice
from offsky.errors import ParameterError, shown
from offsky.kernel import twin_average
from offsky.kernel.contract import Averages, Marks, Planes, Rule, Shares
from offsky.options import Options
from offsky.values.average import ClippedMean

log = logging.getLogger(__name__)

MOST_EXPOSURES = 65535
"""Samples of one pixel that n_kept (uint16) can count."""

Numbers = tuple[
    NDArray[np.uint32] | None,
    NDArray[np.float64] | None,
    NDArray[np.float64] | None,
    NDArray[np.float64] | None,
    NDArray[np.float64] | None,
]
Method = Callable[[Planes, Numbers, Rule, int, int, Averages], tuple[int, int]]

# Pixels that one thread takes at a time: enough to make its start-up invisible.
_CHUNK = 65536
# More would only take memory.
_MOST_THREADS = 1024


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
    depths: NDArray[np.float64] | None = None,
    variances: Sequence[Sequence[Array | None] | None] = (None, None),
    covers: Sequence[Array | None] | None = None,
    skip: Sequence[Array | None] | None = None,
    offsets: Sequence[float] | NDArray[np.float64] | None = None,
    scales: Sequence[float] | NDArray[np.float64] | None = None,
    groups: Sequence[int] | None = None,
    room: Mapping[str, Array] | None = None,
    marks: Marks | None = None,
) -> ClippedMean:
    """Average planes of one shape.

    Parameters
    ----------
    sci, err, dq, covers, skip
        One plane an exposure, all of one shape; see `Planes` of `offsky.kernel.contract`.
    options : Options
        How to average.
    dq_flips : sequence of int, or None
        What to XOR each exposure's DQ with; None for nothing.
    wide : bool
        Keep the result in float64.
    threads : int
        Threads to work on. The result does not depend on it.
    weights : ndarray, shape (n_exposures,), or None
        Used where ``options.weight`` is not "equal".
    depths : ndarray, shape (2, n_exposures), or None
        How rejection by "error" compares exposures, see `offsky.kernel.twin_average.average`;
        None where they are alike.
    variances : pair of sequences of planes, or None
        VAR_POISSON and VAR_RNOISE, used where ``options.errors`` is "propagate".
    offsets, scales : sequence of float, or None
        An exposure's SCI is multiplied by its scale, then its offset is added; ERR and
        variances follow the scale.
    groups : sequence of int, or None
        The number of each exposure's group, -1 for none: the share of each group in the mean
        is wanted. None for no groups.
    room : mapping of str to ndarray, or None
        Where to put parts of the result, by the names of `ClippedMean`: contiguous, of
        the planes' shape and of the result's types. The others get arrays of their own.
    marks : Marks or None
        Where to mark what rejection by "error" rejects; planes are then rows of images.
    """
    if options.errors == "none":
        variances = (None, None)
    shape, n_pixels, n = sci[0].shape, sci[0].size, len(sci)

    def place(name: str, dtype: type) -> Array:
        own = None if room is None else room.get(name)
        if own is None:
            return np.empty(n_pixels, dtype=dtype)
        if own.shape != shape or own.dtype != dtype or not own.flags.c_contiguous:
            raise ValueError(f"room for {name}: {own.shape} of {own.dtype}, not {shape}, {dtype}")
        return own.reshape(-1)

    real = np.float64 if wide else np.float32
    poisson, rnoise = variances
    n_rejected, n_masked = np.zeros((2, n), dtype=np.int64)
    out = Averages(
        place("sci", real),
        None if err is None else place("err", real),
        None if dq is None else place("dq", np.uint32),
        place("n_kept", np.uint16),
        n_rejected,
        None if poisson is None else place("var_poisson", real),
        None if rnoise is None else place("var_rnoise", real),
        n_masked,
    )
    shares = _shares(groups, lambda g: place(f"share{g}", real))
    out = out._replace(shares=shares, marks=marks)
    planes, numbers, rule = _given(
        sci, err, dq, options, dq_flips, weights, depths, variances, covers, skip, offsets, scales
    )
    method = METHODS[options.combine]

    def work(first: int) -> tuple[NDArray[np.int64], int, int]:
        own = np.zeros((2, n), dtype=np.int64)
        results = out._replace(n_rejected=own[0], n_masked=own[1])
        last = min(first + chunk, n_pixels)
        return own, *method(planes, numbers, rule, first, last, results)

    if threads == 1:
        chunk = n_pixels
        parts = [work(0)]
    else:
        # No two threads may mark the same row.
        row = 1 if marks is None else marks.shape[1]
        chunk = max(1, _CHUNK // row) * row
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(work, range(0, n_pixels, chunk)))
    for own, _, _ in parts:
        n_rejected += own[0]
        n_masked += own[1]
    return ClippedMean(
        out.sci.reshape(shape),
        None if out.err is None else out.err.reshape(shape),
        None if out.dq is None else out.dq.reshape(shape),
        out.n_kept.reshape(shape),
        n_rejected,
        sum(n_estimated for _, n_estimated, _ in parts),
        None if out.var_poisson is None else out.var_poisson.reshape(shape),
        None if out.var_rnoise is None else out.var_rnoise.reshape(shape),
        sum(n_samples for _, _, n_samples in parts),
        n_masked,
        shares=() if shares is None else tuple(plane.reshape(shape) for plane in shares.planes),
    )


def amend_planes(
    average: ClippedMean,
    marks: Marks,
    sci: Sequence[Array],
    err: Sequence[Array | None] | None,
    dq: Sequence[Array | None] | None,
    *,
    options: Options,
    dq_flips: Sequence[int] | None = None,
    weights: NDArray[np.float64] | None = None,
    depths: NDArray[np.float64] | None = None,
    variances: Sequence[Sequence[Array | None] | None] = (None, None),
    covers: Sequence[Array | None] | None = None,
    skip: Sequence[Array | None] | None = None,
    offsets: Sequence[float] | NDArray[np.float64] | None = None,
    scales: Sequence[float] | NDArray[np.float64] | None = None,
    groups: Sequence[int] | None = None,
) -> tuple[NDArray[np.int64], int]:
    """Average those pixels again from which growing took a sample, in place.

    Parameters
    ----------
    average : ClippedMean
        What `average_planes` made of these planes; its counts stay.
    marks : Marks
        What is rejected; row ``marks.offset`` is the first of these planes.

    Returns
    -------
    n_rejected : ndarray of int64, shape (n_exposures,)
        Samples that growing rejected.
    n_err_estimated : int
        Pixels more at which the ERR of a kept sample is estimated.

    Notes
    -----
    The other parameters are those of `average_planes`.
    """
    planes, numbers, rule = _given(
        sci, err, dq, options, dq_flips, weights, depths, variances, covers, skip, offsets, scales
    )
    n_rejected = np.zeros(len(sci), dtype=np.int64)
    whole = {name: getattr(average, name) for name in _REALS_AND_FLAGS}
    flats: dict[str, Any] = {
        name: None if each is None else each.reshape(-1) for name, each in whole.items()
    }
    out = Averages(
        **flats,
        n_rejected=n_rejected,
        marks=marks,
    )
    if groups is not None:
        shares = [share.reshape(-1) for share in average.shares]
        out = out._replace(shares=Shares(np.array(groups, dtype=np.int32), shares))
    rows = marks.offset, marks.offset + len(average.n_kept)
    if kernel.amend is not None and options.combine in ("mean", "median"):
        factors = median_factors(len(sci)) if options.combine == "median" else None
        amend: Callable[..., int] = kernel.amend
        return n_rejected, amend(planes, *numbers, factors, rule, *rows, out)
    from offsky.kernel import twin_grow

    method = METHODS[options.combine]
    return n_rejected, twin_grow.amend(method, planes, numbers, rule, *rows, out)


_REALS_AND_FLAGS = ("sci", "err", "dq", "n_kept", "var_poisson", "var_rnoise")


def _given(
    sci: Sequence[Array],
    err: Sequence[Array | None] | None,
    dq: Sequence[Array | None] | None,
    options: Options,
    dq_flips: Sequence[int] | None,
    weights: NDArray[np.float64] | None,
    depths: NDArray[np.float64] | None,
    variances: Sequence[Sequence[Array | None] | None],
    covers: Sequence[Array | None] | None,
    skip: Sequence[Array | None] | None,
    offsets: Sequence[float] | NDArray[np.float64] | None,
    scales: Sequence[float] | NDArray[np.float64] | None,
) -> tuple[Planes, Numbers, Rule]:
    """Return what a method is given: planes, numbers of the exposures, and the rule."""
    n = len(sci)
    if options.errors == "none":
        variances = (None, None)
    planes = Planes(
        [flat(plane) for plane in sci],
        *(flat_planes(kind) for kind in (err, dq, *variances, covers, skip)),
    )
    numbers = (
        None if dq_flips is None else np.array(dq_flips, dtype=np.uint32),
        _numbers("offsets", offsets, n),
        _numbers("scales", scales, n),
        _chosen_weights(options, weights, n),
        None if depths is None else np.ascontiguousarray(depths, dtype=np.float64),
    )
    return planes, numbers, rule_of(options)


def _shares(groups: Sequence[int] | None, place: Callable[[int], Array]) -> Shares | None:
    """Return where the shares of groups go; NaN, for a method that tells none."""
    if groups is None:
        return None
    planes = [place(g) for g in range(max(groups) + 1)]
    for plane in planes:
        plane.fill(np.nan)
    return Shares(np.array(groups, dtype=np.int32), planes)


def average_by_mean(
    planes: Planes, numbers: Numbers, rule: Rule, first: int, last: int, out: Averages
) -> tuple[int, int]:
    """Average the kept samples of pixels [first, last) by their mean.

    Parameters
    ----------
    planes : Planes
        What to average.
    numbers : tuple of (ndarray or None)
        DQ flips, offsets, scales, weights and depths of the exposures; None for none.
    rule : Rule
        Which samples are kept.
    first, last : int
        The pixels.
    out : Averages
        Where results go.

    Returns
    -------
    n_err_estimated, n_samples : int
        Pixels at which the ERR of a kept sample was estimated; finite samples that were not
        skipped.
    """
    return _engine()(planes, *numbers, None, rule, first, last, out)


def average_by_median(
    planes: Planes, numbers: Numbers, rule: Rule, first: int, last: int, out: Averages
) -> tuple[int, int]:
    """Average the kept samples by their median, as `average_by_mean` does by their mean."""
    factors = median_factors(len(planes.sci))
    return _engine()(planes, *numbers, factors, rule, first, last, out)


METHODS: dict[str, Method] = {"mean": average_by_mean, "median": average_by_median}
"""What is made of the kept samples, by the option `combine`; see `add_method`."""


def add_method(name: str, method: Method) -> None:
    """Add a method of averaging, which is a choice of the option `combine` from then on.

    Parameters
    ----------
    name : str
        The choice.
    method : callable
        Takes and returns what `average_by_mean` does; called from several threads.
    """
    METHODS[name] = method
    join_choice("combine", name)


def _numbers(
    name: str, values: Sequence[float] | NDArray[np.float64] | None, n: int
) -> NDArray[np.float64] | None:
    """Return one finite number for each exposure, as the kernel takes them."""
    if values is None:
        return None
    numbers = np.array(values, dtype=np.float64)
    if numbers.shape != (n,) or not np.isfinite(numbers).all():
        raise ParameterError(f"{name} {values} for {n} exposures: give each a finite number")
    return numbers


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
    if not whole or not 1 <= threads <= _MOST_THREADS:
        raise ParameterError(
            f"threads is {shown(threads)}: give 1 to {_MOST_THREADS}, or None for all cores"
        )
    return int(threads)


@cache
def _engine() -> Callable[..., tuple[int, int]]:
    """Return the C kernel, or its twin with one warning."""
    if kernel.average is not None:
        return kernel.average
    log.warning(
        "offsky was installed without a C compiler: averaging in NumPy, with the same "
        "results, much slower; install a compiler and reinstall offsky"
    )
    return twin_average.average


def flat(plane: Array) -> Array:
    """Return a plane as the kernel takes it: flat, contiguous, aligned."""
    if not (plane.flags.c_contiguous and plane.flags.aligned):
        plane = np.require(plane, requirements=["C", "A"])
    return plane.reshape(-1)


def flat_planes(planes: Sequence[Array | None] | None) -> list[Array | None] | None:
    """Flatten every plane that is present; keep None for the others."""
    if planes is None:
        return None
    return [None if plane is None else flat(plane) for plane in planes]
