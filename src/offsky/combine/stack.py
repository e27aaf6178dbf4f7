"""Averages of arrays that people have: checks, then the engine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offsky.arrays import DO_NOT_USE, Array, as_flags, as_samples
from offsky.combine.blocks import (
    GROWN_BLOCK_BYTES,
    LEAST_GROWN,
    bands_of,
    block_rows,
    edges_of,
)
from offsky.combine.images import Combination, Image
from offsky.combine.planes import MOST_EXPOSURES, average_planes, count_threads
from offsky.combine.rule import grows
from offsky.errors import ParameterError
from offsky.given import Given, plain_numbers, take_apart
from offsky.options import Options, as_options
from offsky.units import relation
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows

if TYPE_CHECKING:
    from offsky.combine.grow import Piece
    from offsky.kernel.contract import Marks


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
        Samples of n exposures, of any dtype, byte order and layout; never modified. Masked
        samples (`numpy.ma`, astropy's `Masked` and `CCDData`) are left out; units are
        compared, and carried; the uncertainty of `NDData` is its `err`.
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
    bounds included. Where ``options.reject`` is "error", the typical ERR of each exposure, and
    the scatter of its samples if that is to be measured, are told from some of the pixels,
    with rows along the last axis.

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
    if options is None:
        options = Options(sigma=sigma, maxiters=maxiters)
    options = as_options(options)
    stack, unit, errors, flags, variances = _planes(sci, err, dq, var_poisson, var_rnoise)
    if stack.ndim < 1 or not 1 <= len(stack) <= MOST_EXPOSURES:
        raise ParameterError(
            f"sci of shape {stack.shape}: the first axis holds the exposures, "
            f"1 to {MOST_EXPOSURES}; put them there"
        )
    depths, n_threads = _depths(stack, errors, flags, options), count_threads(threads)
    numbers = None
    if weights is not None:
        numbers = plain_numbers("weights", weights).astype(np.float64, copy=False)
    if errors is not None and stack.size and grows(options, len(stack)):
        combination = Combination(options, numbers, depths=depths)
        average = _grown(stack, [errors, flags, *variances], combination, n_threads)
    else:
        lists = [None if each is None else list(each) for each in (errors, flags, *variances)]
        average = average_planes(
            list(stack),
            *lists[:2],
            variances=lists[2:],
            options=options,
            threads=n_threads,
            weights=numbers,
            depths=depths,
        )
    return average if unit is None else replace(average, unit=unit)


def _grown(
    stack: Array, others: list[Array | None], combination: Combination, threads: int
) -> ClippedMean:
    """Average images, those of the last two axes, with rejection that grows.

    `others` are ERR, DQ, VAR_POISSON and VAR_RNOISE.
    """
    n, shape = len(stack), stack.shape[1:]
    size = (1, *shape)[-2:] if shape else (1, 1)
    sci = stack.reshape(n, -1, *size)
    rest = [None if each is None else each.reshape(n, -1, *size) for each in others]
    n_images = stack[0].size // (size[0] * size[1])
    names: list[tuple[str, type]] = [("sci", np.float32), ("n_kept", np.uint16)]
    for name, dtype, plane in zip(_NAMES, _DTYPES, others, strict=True):
        if plane is not None and (combination.options.errors != "none" or name[:3] != "var"):
            names.append((name, dtype))
    room = {name: np.empty((n_images, *size), dtype=dtype) for name, dtype in names}

    def work(job: tuple[int, int, int]) -> tuple[list[ClippedMean], list[Piece]]:
        k, begin, end = job
        own = [None if each is None else each[:, k] for each in rest]
        parts = {name: plane[k] for name, plane in room.items()}
        return _grow_rows(sci[:, k], own, combination, begin, end, height, parts)

    row_bytes = sum(plane[:, 0, 0].nbytes for plane in (sci, *rest) if plane is not None)
    height = max(LEAST_GROWN, block_rows(row_bytes, size[0], threads, GROWN_BLOCK_BYTES))
    jobs = [(k, *band) for k in range(n_images) for band in bands_of(0, size[0], threads)]
    with ThreadPoolExecutor(threads) as pool:
        made = list(pool.map(work, jobs))
    blocks = [block for own, _ in made for block in own]
    pieces = [piece for _, own in made for piece in own]
    n_estimated = sum(each.n_err_estimated for each in blocks)
    whole = {name: plane.reshape(shape) for name, plane in room.items()}
    return ClippedMean(
        whole["sci"],
        whole.get("err"),
        whole.get("dq"),
        whole["n_kept"],
        _sum([each.n_rejected for each in blocks] + [piece.n_grown for piece in pieces]),
        n_estimated + sum(piece.n_err_estimated for piece in pieces),
        whole.get("var_poisson"),
        whole.get("var_rnoise"),
        sum(each.n_samples for each in blocks),
        _sum([each.n_masked for each in blocks]),
    )


def _sum(counts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    total: NDArray[np.int64] = np.sum(counts, axis=0)
    return total


_NAMES = ("err", "dq", "var_poisson", "var_rnoise")
_DTYPES = (np.float32, np.uint32, np.float32, np.float32)


def _grow_rows(
    sci: Array,
    others: list[Array | None],
    combination: Combination,
    begin: int,
    end: int,
    height: int,
    room: dict[str, Array],
) -> tuple[list[ClippedMean], list[Piece]]:
    """Average rows [begin, end) of some images into their room; return what to count."""
    from offsky.combine.grow import MARGIN, PASSES, Grower

    ny, nx = sci.shape[1:]
    grower = Grower(combination, (ny, nx), begin, end)
    counted, pieces = [], []

    def rows(a: int, b: int) -> list[Image]:
        parts = [[None] * len(sci) if each is None else list(each[:, a:b]) for each in others]
        return [
            Image(Rows(own, err, dq, var_poisson=poisson, var_rnoise=rnoise))
            for own, err, dq, poisson, rnoise in zip(sci[:, a:b], *parts, strict=True)
        ]

    edges = edges_of(0, ny, begin, end, height, PASSES)
    for a, b in pairwise(edges):
        if a == b:
            continue
        images, tail = rows(a, b), rows(max(edges[0], a - MARGIN), a) if a > edges[0] else []

        def average(marks: Marks, images: list[Image] = images, a: int = a, b: int = b) -> Any:
            if not begin <= a < end:
                return combination.average(images, marks=marks)
            own = {name: plane[a:b] for name, plane in room.items()}
            counted.append(combination.average(images, room=own, marks=marks))
            return counted[-1]

        for piece in grower.push(a, b, images, tail, average):
            pieces.append(piece)
            for name, plane in room.items():
                plane[piece.first : piece.last] = getattr(piece.average, name)
    return counted, pieces


def _depths(
    stack: Array, errors: Array | None, flags: Array | None, options: Options
) -> NDArray[np.float64] | None:
    """Tell the depths of exposures from some of their pixels, where they are rejected by it."""
    n, nx = len(stack), stack.shape[-1]
    if options.reject != "error" or errors is None or n < 2 or stack.size == 0:
        return None
    # What only an option needs is imported there: a cold run waits for less.
    from offsky.combine.depths import depth_columns, depth_rows, measure_depths

    sci, err = (each.reshape(n, -1, nx) for each in (stack, errors))
    rows = depth_rows(sci.shape[1])
    part = (slice(None), slice(rows.start, None, rows.step), depth_columns(nx, len(rows), n))
    samples = sci[part].astype(np.float64)
    if flags is not None:
        samples[(flags.reshape(n, -1, nx)[part] & np.uint32(DO_NOT_USE)) != 0] = np.nan
    return measure_depths(
        list(samples.reshape(n, -1)),
        list(err[part].reshape(n, -1)),
        ratios=options.err_scale == "measure",
    ).numbers


def _planes(
    sci: Any, err: Any, dq: Any, var_poisson: Any, var_rnoise: Any
) -> tuple[Array, str | None, Array | None, Array | None, list[Array | None]]:
    """Return the samples, their unit, ERR, DQ and variances; masked samples as NaN."""
    own = take_apart("sci", sci)
    given = {"err": err, "dq": dq, "var_poisson": var_poisson, "var_rnoise": var_rnoise}
    parts = {name: take_apart(name, each) for name, each in given.items() if each is not None}
    if own.err is not None:
        if err is not None:
            raise ParameterError("err is given, and sci has an uncertainty; give one of them")
        parts["err"] = Given(own.err)
    mask = own.mask
    for name, part in parts.items():
        if part.values.shape != own.values.shape:
            raise ParameterError(
                f"{name} of shape {part.values.shape} beside sci of shape {own.values.shape}: "
                "give one value a sample"
            )
        if part.err is not None:
            raise ParameterError(f"{name} has an uncertainty, which would be lost; give its data")
        _check_unit(name, part.unit, own.unit)
        if part.mask is not None:
            # What is masked in one of its planes is left out.
            mask = part.mask if mask is None else mask | part.mask
    flags = parts.get("dq")
    return (
        as_samples(own._replace(mask=mask).filled()),
        own.unit,
        None if "err" not in parts else as_samples(parts["err"].values),
        None if flags is None else as_flags(flags.values),
        [
            None if name not in parts else as_samples(parts[name].values)
            for name in ("var_poisson", "var_rnoise")
        ],
    )


def _check_unit(name: str, found: str | None, unit: str | None) -> None:
    """Raise ParameterError where the unit of a plane contradicts that of the samples."""
    if found is None:
        return
    power = 1 if name == "err" else 2
    if name == "dq" or unit is None or relation(found, unit, power) != "same":
        raise ParameterError(
            f"{name} has the unit {found!r} where sci has {unit or 'none'!r}; convert it, or give "
            "its numbers (.value)"
        )
