"""What the options mean, written once more: one pixel at a time, from the definitions.

astropy decides what "sigma" and "mad" keep; the rest is plain Python. Nothing in here calls
offsky's own algorithms.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from astropy.stats import sigma_clip
from oracle_rejection import kept_of_pixel as kept_by_the_others

from offsky.options import Options

# Decisions nearer to a tie than this are those of rounding.
_A_TIE = 1e-9


class Depth(NamedTuple):
    """The typical ERR of an exposure, and how much the scatter of its samples is of ERR."""

    typical: float = 1.0
    ratio: float = 1.0


def kept_of_pixel(
    sci: Sequence[float],
    err: Sequence[float],
    options: Options,
    depths: Sequence[Depth] | None = None,
) -> list[bool]:
    """Tell which samples of one pixel are kept."""
    there = [i for i, value in enumerate(sci) if isfinite(value)]
    x = [float(sci[i]) for i in there]
    own = [Depth() if depths is None else depths[i] for i in there]
    kept = _kept_of_finite(x, [err[i] for i in there], options, own) if x else []
    return [i in there and kept[there.index(i)] for i in range(len(sci))]


def _kept_of_finite(
    x: list[float], err: list[float], options: Options, depths: list[Depth]
) -> list[bool]:
    n = len(x)
    if options.reject == "none" or options.maxiters == 0:
        return [True] * n
    if options.reject == "minmax":
        n_extremes = options.n_extremes
        while n_extremes and n - 2 * n_extremes < max(1, min(options.min_keep, n)):
            n_extremes -= 1
        # Sorted by value, of equal ones the first exposure's first.
        order = sorted(range(n), key=lambda i: (x[i], i))
        chosen = order[n_extremes : n - n_extremes]
        return [i in chosen for i in range(n)]

    lower = options.sigma if options.sigma_lower is None else options.sigma_lower
    upper = options.sigma if options.sigma_upper is None else options.sigma_upper
    if options.reject == "error":
        judged = _judged_by_error(err, depths)
        if judged is None:
            return [True] * n
        chosen = kept_by_the_others(x, judged, lower, upper, options.min_keep, options.maxiters)
        return [i in chosen for i in range(n)]
    kept, last = _by_astropy(x, lower, upper, options)
    n_least = min(options.min_keep, n)
    if sum(kept) < n_least:
        # Of the lowest and the highest the farther is dropped, of two as far the higher; of
        # equal samples the first of the exposures ranks lowest. Sums are rounded as the
        # centre is, so that the two about a median are as far.
        centre = median(last) if options.center == "median" else _mean(last)
        order = sorted(range(n), key=lambda i: (x[i], i))
        while len(order) > n_least:
            order.pop(-1 if x[order[0]] + x[order[-1]] >= 2 * centre else 0)
        kept = [i in order for i in range(n)]
    return kept


def _judged_by_error(err: Sequence[float], depths: Sequence[Depth]) -> list[float] | None:
    """Return the error that each sample of a pixel is judged by; None where no ERR is known."""
    pairs = zip(err, depths, strict=True)
    known = sorted(e / d.typical for e, d in pairs if isfinite(e) and e > 0)
    if not known:
        return None
    if len(known) == 2:
        known[1] = min(known[1], 2 * known[0])
    return [median(known) * d.typical * d.ratio for d in depths]


def without_ties(
    sci: np.ndarray, err: np.ndarray, options: Options, depths: Sequence[Depth] | None = None
) -> np.ndarray:
    """Return samples (n, n_pixels) without the pixels in which rounding decides what is kept."""
    if options.reject != "error" or options.maxiters == 0:
        return sci
    lower = options.sigma if options.sigma_lower is None else options.sigma_lower
    upper = options.sigma if options.sigma_upper is None else options.sigma_upper
    clear = sci.copy()
    for p in range(sci.shape[1]):
        there = [i for i, value in enumerate(sci[:, p]) if isfinite(value)]
        own = [Depth() if depths is None else depths[i] for i in there]
        s = _judged_by_error([float(err[i, p]) for i in there], own)
        doubts: list[float] = []
        if s is not None:
            x = [float(sci[i, p]) for i in there]
            kept_by_the_others(x, s, lower, upper, options.min_keep, options.maxiters, doubts)
        if any(doubt < _A_TIE for doubt in doubts):
            clear[:, p] = np.nan
    return clear


def _by_astropy(
    x: list[float], lower: float, upper: float, options: Options
) -> tuple[list[bool], list[float]]:
    if len(set(x)) == 1:
        return [True] * len(x), x
    how: dict[str, Any] = {
        "sigma_lower": lower, "sigma_upper": upper, "cenfunc": options.center,
        "stdfunc": "std" if options.reject == "sigma" else "mad_std",
    }  # fmt: skip

    def clip(maxiters: int | None) -> list[bool]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clipped = sigma_clip(
                np.array(x)[:, None], maxiters=maxiters, axis=0, masked=True, **how
            )
        return [not masked for masked in np.ma.getmaskarray(clipped)[:, 0]]

    # The last pass is found by allowing one more at a time; its bounds came from the samples
    # that were inside those of all passes before.
    final = clip(options.maxiters)
    inside, n_passes = list(x), 0
    while True:
        n_passes += 1
        kept = clip(n_passes)
        still = [value for value, keep in zip(x, kept, strict=True) if keep and value in inside]
        if len(still) in (0, len(inside)) or n_passes == options.maxiters:
            return final, inside
        inside = still


def _mean(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


@dataclass
class Average:
    """An average in float64, with the samples kept."""

    sci: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    var_poisson: np.ndarray
    var_rnoise: np.ndarray
    kept: np.ndarray
    n_rejected: np.ndarray


def average_by_options(
    sci: np.ndarray,
    err: np.ndarray,
    dq: np.ndarray,
    variances: tuple[np.ndarray, np.ndarray],
    covers: np.ndarray,
    weights: Sequence[float],
    options: Options,
    median_factors: Sequence[float],
    depths: Sequence[Depth] | None = None,
) -> Average:
    """Average (n, n_pixels), pixel by pixel."""
    n, n_pixels = sci.shape
    if options.weight == "equal":
        weights = [1.0] * n
    out = Average(*np.zeros((2, n_pixels)), np.zeros(n_pixels, np.uint32),
                  *np.zeros((2, n_pixels)), np.zeros((n, n_pixels), bool),
                  np.zeros(n, np.int64))  # fmt: skip
    for p in range(n_pixels):
        flags = [int(flag) for flag in dq[:, p]]
        x = [float(value) for value in sci[:, p].astype(np.float64)]
        if options.dq != "or":
            x = [np.nan if f & options.bad_bits else v for v, f in zip(x, flags, strict=True)]
        errors = [float(value) for value in err[:, p].astype(np.float64)]
        kept = kept_of_pixel(x, errors, options, depths)
        chosen = [i for i in range(n) if kept[i]]
        out.kept[:, p] = kept
        out.n_rejected += [isfinite(x[i]) and not kept[i] for i in range(n)]
        out.dq[p] = _flags(flags, chosen, [bool(c) for c in covers[:, p]], options)
        if not chosen:
            out.sci[p] = out.err[p] = out.var_poisson[p] = out.var_rnoise[p] = np.nan
            continue
        weight = sum(weights[i] for i in chosen)
        factor = 1.0
        if options.combine == "median":
            out.sci[p] = median(x[i] for i in chosen)
            factor = median_factors[len(chosen)]
        else:
            out.sci[p] = sum(weights[i] * x[i] for i in chosen) / weight
        squares = [e * e if isfinite(e) else np.nan for e in errors]
        out.err[p] = factor * sqrt(_variance(squares, chosen, weights))
        for name, planes in zip(("var_poisson", "var_rnoise"), variances, strict=True):
            values = [float(value) for value in planes[:, p].astype(np.float64)]
            getattr(out, name)[p] = factor**2 * _variance(values, chosen, weights)
    return out


def _variance(variances: list[float], chosen: list[int], weights: Sequence[float]) -> float:
    known = [i for i in chosen if isfinite(variances[i])]
    if not known:
        return float("nan")
    mean = sum(weights[i] ** 2 * variances[i] for i in known) / sum(weights[i] ** 2 for i in known)
    filled = {i: variances[i] if i in known else mean for i in chosen}
    total = sum(weights[i] ** 2 * filled[i] for i in chosen)
    return float(total / sum(weights[i] for i in chosen) ** 2)


def _flags(flags: list[int], chosen: list[int], covers: list[bool], options: Options) -> int:
    covering = [flags[i] for i in range(len(flags)) if covers[i]]
    combined = 0
    for flag in flags:
        combined |= flag
    if options.dq == "kept" and chosen:
        combined = 0
        for i in chosen:
            combined |= flags[i]
    if options.dq == "all":
        combined = 2**32 - 1 if covering else 0
        for flag in covering:
            combined &= flag
    if options.dq != "or" and options.bad_fraction is not None:
        n_bad = sum(1 for flag in covering if flag & options.bad_bits)
        if n_bad > options.bad_fraction * len(covering):
            combined |= 1
    return combined
