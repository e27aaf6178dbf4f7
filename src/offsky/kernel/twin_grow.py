"""Rejection that grows to neighbours, in plain NumPy: what the C kernel is judged by."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Float64s, Mask
from offsky.kernel.contract import NONE, OR, Averages, Marks, Planes, Rule
from offsky.kernel.twin_average import factors_of, flags_of, masks_of, reals_of, samples_of
from offsky.kernel.twin_reject import typical_errors, weighted_mean


def grow(
    planes: Planes,
    dq_flip: NDArray[np.uint32] | None,
    offsets: Float64s | None,
    scales: Float64s | None,
    depths: Float64s | None,
    rule: Rule,
    above: float,
    pass_: int,
    first: int,
    last: int,
    marks: Marks,
    /,
) -> None:
    """Reject what lies next to what earlier passes rejected, in rows [first, last) of the marks.

    Parameters
    ----------
    planes, dq_flip, offsets, scales, depths, rule
        As `offsky.kernel.twin_average.average` took them; `planes` has ERR.
    above : float
        How far over the weighted mean of the kept samples a sample must be to go, in units of
        the error that it is judged by.
    pass_ : int
        The number of the pass, from 1: its bits are set.
    first, last : int
        Rows of the marks. Other rows are only read.
    marks : Marks
        What earlier passes rejected.
    """
    nx = marks.shape[1]
    window = slice((first - marks.offset) * nx, (last - marks.offset) * nx)
    samples, errors = _kept_of_planes(planes, dq_flip, offsets, scales, rule, window)
    before = marks._replace(bits=marks.bits[:pass_]).rejected(0, marks.shape[0])
    n = len(samples)
    there = np.isfinite(samples) & ~before[:, first:last].reshape(n, -1)
    weights = np.ones(n) if depths is None else depths[1]
    mean, _ = weighted_mean(samples, there, weights)
    typical = typical_errors(samples, errors, depths)
    bound = above * above * (typical * typical)
    goes = np.zeros_like(there)
    with np.errstate(all="ignore"):
        for i in range(n):
            off = samples[i] - mean
            far = (off > 0) & (off * off * weights[i] > bound)
            goes[i] = there[i] & far & _near(before[i], first, last)
    goes &= there.sum(axis=0) - goes.sum(axis=0) >= max(rule.min_keep, 1)
    n_words = marks.bits.shape[-1]
    padded = np.zeros((n, last - first, 64 * n_words), dtype=np.bool_)
    padded[..., :nx] = goes.reshape(n, -1, nx)
    octets = np.packbits(padded, axis=-1, bitorder="little")
    marks.bits[pass_, :, first:last] = octets.view("<u8")


def amend(
    method: Callable[..., tuple[int, int]],
    planes: Planes,
    numbers: Sequence[Any],
    rule: Rule,
    first: int,
    last: int,
    out: Averages,
) -> int:
    """Average pixels of rows [first, last) of the marks again that growing has changed.

    Parameters
    ----------
    method : callable
        How to average, see `offsky.combine.planes.average_by_mean`.
    planes, numbers, rule
        What it was given for the average of these rows.
    first, last : int
        The rows.
    out : Averages
        The average, changed in place; ``out.marks`` tells what growing rejected, which
        ``out.n_rejected`` counts.

    Returns
    -------
    int
        Pixels more at which the ERR of a kept sample is estimated.
    """
    marks = out.marks
    if marks is None:
        raise ValueError("marks are expected")
    before = marks._replace(bits=marks.bits[:1]).rejected(first, last)
    rejected = marks.rejected(first, last)
    out.n_rejected[:] += (rejected & ~before).sum(axis=(1, 2))
    own = np.flatnonzero((rejected & ~before).any(axis=0))
    if not len(own):
        return 0
    places = own + (first - marks.offset) * marks.shape[1]
    size, n = len(places), len(planes.sci)

    def gathered(kind: Any) -> Any:
        return None if kind is None else [None if p is None else p[places] for p in kind]

    compact = Planes(*(gathered(kind) for kind in planes))
    skipped = masks_of(compact.skip, (n, size), slice(0, size), missing=False)
    results: dict[str, Any] = {
        name: None if getattr(out, name) is None else getattr(out, name)[places]
        for name in _RESULTS
    }
    part = out._replace(
        **results,
        n_rejected=np.zeros(n, dtype=np.int64),
        n_masked=np.zeros(n, dtype=np.int64),
        marks=None,
    )
    if out.shares is not None:
        shares = [plane[places] for plane in out.shares.planes]
        part = part._replace(shares=out.shares._replace(planes=shares))
    rule = rule._replace(method=NONE)
    estimated = []
    for gone in (before, rejected):
        skip = list(skipped | gone.reshape(n, -1)[:, own])
        given = compact._replace(skip=skip), numbers, rule, 0, size, part
        estimated.append(method(*given)[0])
    for name in _RESULTS:
        if getattr(out, name) is not None:
            getattr(out, name)[places] = getattr(part, name)
    if out.shares is not None and part.shares is not None:
        for whole, share in zip(out.shares.planes, part.shares.planes, strict=True):
            whole[places] = share
    return estimated[1] - estimated[0]


_RESULTS = ("sci", "err", "dq", "n_kept", "var_poisson", "var_rnoise")


def _near(rejected: Mask, first: int, last: int) -> Mask:
    """Tell which pixels of rows [first, last) have a neighbour that is rejected."""
    n_rows, nx = rejected.shape
    seeds = np.zeros((n_rows + 2, nx + 2), dtype=np.bool_)
    seeds[1:-1, 1:-1] = rejected
    near = np.zeros((last - first, nx), dtype=np.bool_)
    for dy in range(3):
        for dx in range(3):
            near |= seeds[first + dy : last + dy, dx : dx + nx]
    return near.reshape(-1)


def _kept_of_planes(
    planes: Planes,
    dq_flip: NDArray[np.uint32] | None,
    offsets: Float64s | None,
    scales: Float64s | None,
    rule: Rule,
    window: slice,
) -> tuple[Float64s, Float64s]:
    """Return samples, NaN what is left out, and their ERR."""
    samples = samples_of(planes, offsets, scales, window)
    samples[masks_of(planes.skip, samples.shape, window, missing=False)] = np.nan
    flags = flags_of(planes, dq_flip, window)
    if rule.flags != OR and flags is not None:
        samples[(flags & np.uint32(rule.bad_bits)) != 0] = np.nan
    errors = reals_of(planes.err, samples.shape, window, factors_of(scales, abs))
    if errors is None:
        raise ValueError("marks need ERR")
    return samples, errors
