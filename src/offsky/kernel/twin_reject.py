"""Which samples of a pixel are kept, in plain NumPy: what the C kernel is judged by."""

from math import inf, isfinite, isnan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Float64s, Mask
from offsky.kernel.contract import ERROR, MINMAX, NONE, SIGMA, Rule

# Bounds are found by adding n numbers, and every order of addition rounds in its
# own way.  Two orders differ by less than this, times n (1 + sigma) max|x| (Higham,
# Accuracy and Stability of Numerical Algorithms, section 4.2); a sample nearer to a
# bound is decided in astropy's own order.
_ROUNDING = 8 * 2.0**-53

# Doubles whose squares neither overflow nor vanish.
_LARGEST_PLAIN, _SMALLEST_PLAIN_RANGE = 1e150, 1e-140

# The standard deviation of Gaussian noise in median absolute deviations: 1 / Phi^-1(3/4).
MAD_TO_SIGMA = 1.482602218505602


class _Bounds(NamedTuple):
    """Bounds of some pixels, their centres, and where rounding may decide."""

    centre: Float64s
    low: Float64s
    high: Float64s
    unsure: Mask


def kept_samples(
    samples: Float64s, errors: Float64s | None, rule: Rule, depths: Float64s | None = None
) -> Mask:
    """Tell which samples are kept; those not finite never are.

    Parameters
    ----------
    samples, errors : ndarray, shape (n_exposures, n_pixels)
        SCI and ERR, the latter None where there is none.
    rule : Rule
        How to tell.
    depths : ndarray, shape (2, n_exposures), or None
        See `twin_average.average`.
    """
    finite = np.isfinite(samples)
    if rule.method == NONE or rule.maxiters == 0:
        return finite
    if rule.method == ERROR:
        return finite if errors is None else kept_by_error(samples, errors, rule, depths)
    n_finite = finite.sum(axis=0)
    if rule.method == MINMAX:
        least = np.minimum(max(rule.min_keep, 1), n_finite)
        n_dropped = np.minimum(rule.n_extremes, (n_finite - least) // 2)
        return _of_ranks(samples, finite, n_dropped, n_finite - n_dropped)

    changing = n_finite > 0
    centre, low, high = _final_bounds(samples, finite, changing, rule)
    kept = np.asarray((samples >= low) & (samples <= high) & finite)
    few = np.flatnonzero(kept.sum(axis=0) < np.minimum(rule.min_keep, n_finite))
    if few.size:
        kept[:, few] = _nearest(samples[:, few], finite[:, few], centre[few], rule.min_keep)
    return kept


def _final_bounds(
    samples: Float64s, finite: Mask, start: Mask, rule: Rule
) -> tuple[Float64s, Float64s, Float64s]:
    """Return centre and bounds of the last pass, for all pixels; `start` has those to begin with.

    The bounds of a pass are found from the samples inside those of all passes before;
    the last ones then apply to all samples.
    """
    n_pixels = samples.shape[1]
    centre, low, high = np.zeros(n_pixels), np.full(n_pixels, -inf), np.full(n_pixels, inf)
    inside = finite.copy()
    changing = np.flatnonzero(start)
    n_passes = 0
    while changing.size:
        n_passes += 1
        x, window = samples[:, changing], inside[:, changing]
        bounds = _bounds_of(x, window, finite[:, changing], rule)
        for i in np.flatnonzero(bounds.unsure):
            column = x[finite[:, changing[i]], i]
            bounds.centre[i], bounds.low[i], bounds.high[i] = _bounds_in_reference_order(
                column.tolist(), rule
            )
        centre[changing], low[changing], high[changing] = bounds[:3]

        still = window & (x >= bounds.low) & (x <= bounds.high)
        n_inside = still.sum(axis=0)
        settled = bounds.unsure | (n_inside == window.sum(axis=0)) | (n_inside == 0)
        inside[:, changing] = still
        changing = changing[~settled] if n_passes != rule.maxiters else changing[:0]
    return centre, low, high


def _bounds_of(x: Float64s, window: Mask, finite: Mask, rule: Rule) -> _Bounds:
    """Bounds from the samples in `window`."""
    count = window.sum(axis=0)
    least = np.where(finite, x, inf).min(axis=0)
    most = np.where(finite, x, -inf).max(axis=0)
    unsure = np.zeros(len(count), dtype=np.bool_)
    with np.errstate(all="ignore"):
        median = median_of(np.where(window, x, inf), count)
        mean, deviation = _mean_and_deviation(x, window, count)
        centre = mean if rule.about_mean else median
        if rule.method == SIGMA:
            scale = deviation
        else:
            off = np.where(window, abs(x - median), inf)
            scale = MAD_TO_SIGMA * median_of(off, count)
        low, high = centre - rule.lower * scale, centre + rule.upper * scale

        if rule.method == SIGMA and not rule.about_mean:
            threshold = max((t for t in (rule.lower, rule.upper) if isfinite(t)), default=0.0)
            largest = np.maximum(abs(least), abs(most))
            margin = _ROUNDING * finite.sum(axis=0) * (1 + threshold) * largest
            close = finite & ((abs(x - low) <= margin) | (abs(x - high) <= margin))
            plain = (largest < _LARGEST_PLAIN) & (most - least > _SMALLEST_PLAIN_RANGE)
            unsure = close.any(axis=0) | ~plain
    # NaN, from overflow or from no deviation times no bound, excludes nothing.
    low[np.isnan(low)], high[np.isnan(high)] = -inf, inf
    # Equal samples are all kept, also where their sum overflows.
    equal = least == most
    centre, low, high = (np.where(equal, least, bound) for bound in (centre, low, high))
    return _Bounds(centre, low, high, unsure & ~equal)


def kept_by_error(
    samples: Float64s, errors: Float64s, rule: Rule, depths: Float64s | None
) -> Mask:
    """Tell which samples are kept if each is judged against the others of its pixel.

    The errors that samples are judged by are ``t / sqrt(g)``: t is the pixel's typical ERR
    (`typical_errors`) and g the exposure's ``depths[1]``. From the mean M of the kept samples
    with weights g, and G, the sum of these weights, follows how far a sample is from the mean
    of the others, in units of the error of that difference:
    ``z = (x - M) sqrt(g G / (G - g)) / t``. In each pass the sample with the largest z, in
    units of its own threshold, is rejected; of equal ones the higher, then the first. Of two
    samples only the higher can be rejected. Squares are compared.
    """
    kept = np.isfinite(samples)
    n, least = len(samples), max(rule.min_keep, 1)
    weights = np.ones(n) if depths is None else depths[1]
    typical = typical_errors(samples, errors, depths)
    changing = np.flatnonzero(np.isfinite(typical))
    upper, lower = rule.upper * rule.upper, rule.lower * rule.lower
    n_passes = 0
    while changing.size and n_passes != rule.maxiters:
        n_passes += 1
        x, there = samples[:, changing], kept[:, changing]
        count = there.sum(axis=0)
        mean, total = weighted_mean(x, there, weights)
        least_kept = np.where(there, x, inf).min(axis=0)
        most_kept = np.where(there, x, -inf).max(axis=0)
        square = typical[changing] * typical[changing]
        worst, of_worst = np.zeros(len(changing)), np.full(len(changing), -inf)
        place = np.zeros(len(changing), dtype=np.intp)
        with np.errstate(all="ignore"):
            for i in range(n):
                off = x[i] - mean
                threshold = np.where(off > 0, upper, lower)
                excess = off * off * weights[i] / ((total - weights[i]) * threshold)
                judged = there[i] & ((count > 2) | (off > 0))
                worse = (excess > worst) | ((excess == worst) & (x[i] > of_worst))
                chosen = judged & worse
                worst = np.where(chosen, excess, worst)
                of_worst = np.where(chosen, x[i], of_worst)
                place = np.where(chosen, i, place)
            rejected = (worst * total > square) & (count > least) & (least_kept < most_kept)
        kept[place[rejected], changing[rejected]] = False
        changing = changing[rejected]
    return kept


def typical_errors(samples: Float64s, errors: Float64s, depths: Float64s | None) -> Float64s:
    """Return the typical ERR of each pixel's samples; NaN where none is known.

    It is the median of ERR times the exposure's ``depths[0]``, over samples that are there
    and have an ERR above zero. A hit that inflates its own ERR does not move the median of
    three; of two, the larger counts as at most twice the smaller.
    """
    known = np.isfinite(samples) & np.isfinite(errors) & (errors > 0)
    n_known = known.sum(axis=0)
    with np.errstate(all="ignore"):
        scaled = errors if depths is None else errors * depths[0][:, None]
        scaled = np.where(known, scaled, inf)
        least = scaled.min(axis=0)
        second = np.where(known, scaled, -inf).max(axis=0)
        of_two = 0.5 * (np.minimum(second, 2.0 * least) + least)
    typical = median_of(scaled, n_known)
    return np.asarray(np.where(n_known == 2, of_two, typical))


def weighted_mean(x: Float64s, there: Mask, weights: Float64s) -> tuple[Float64s, Float64s]:
    """Return mean and sum of weights of the samples that are there, added in their order."""
    total, weight = np.zeros((2, x.shape[1]))
    with np.errstate(all="ignore"):
        for row, keep, w in zip(x, there, weights, strict=True):
            weight += np.where(keep, w, 0.0)
            total += np.where(keep, w * row, 0.0)
        return total / weight, weight


def median_of(x: Float64s, count: NDArray[np.int_]) -> Float64s:
    """Median of the `count` smallest of each column; NaN where there is none."""
    ordered = np.sort(x, axis=0)
    upper = np.take_along_axis(ordered, np.minimum(count // 2, len(x) - 1)[None], axis=0)[0]
    lower = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, axis=0)[0]
    with np.errstate(all="ignore"):
        middle = np.where(count % 2, upper, 0.5 * (upper + lower))
    return np.where(count > 0, middle, np.nan)


def _mean_and_deviation(
    x: Float64s, window: Mask, count: NDArray[np.int_]
) -> tuple[Float64s, Float64s]:
    """Mean and standard deviation of the samples in `window`, added in their order."""
    total, square = np.zeros(len(count)), np.zeros(len(count))
    for row, keep in zip(x, window, strict=True):
        total += np.where(keep, row, 0.0)
    mean = total / count
    for row, keep in zip(x, window, strict=True):
        square += np.where(keep, row - mean, 0.0) ** 2
    return mean, np.sqrt(square / count)


def _of_ranks(x: Float64s, finite: Mask, first: NDArray[np.int_], last: NDArray[np.int_]) -> Mask:
    """Tell which samples have ranks [first, last); of equal ones the first ranks lower."""
    order = np.argsort(np.where(finite, x, inf), axis=0, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(x))[:, None], axis=0)
    return np.asarray(finite & (rank >= first) & (rank < last))


def _nearest(x: Float64s, finite: Mask, centre: Float64s, n_kept: int) -> Mask:
    """Tell which `n_kept` samples are nearest to the centre; of two as near, the lower."""
    ordered = np.sort(np.where(finite, x, inf), axis=0)
    first, last = np.zeros(len(centre), dtype=np.intp), finite.sum(axis=0)
    for _ in range(len(x)):
        low = np.take_along_axis(ordered, first[None], axis=0)[0]
        high = np.take_along_axis(ordered, last[None] - 1, axis=0)[0]
        with np.errstate(all="ignore"):
            # The two about a median are as near: compared thus, rounding agrees.
            lower_is_nearer = low + high >= 2.0 * centre
        more = last - first > n_kept
        last -= more & lower_is_nearer
        first += more & ~lower_is_nearer
    return _of_ranks(x, finite, first, last)


def _bounds_in_reference_order(x: list[float], rule: Rule) -> tuple[float, float, float]:
    """Centre and bounds as `astropy.stats.sigma_clip` finds them, rounding for rounding.

    It selects the median by exchanging samples in place and then adds them in the
    order that leaves; an exactly tied sample is in or out by that order.
    """
    n_passes = 0
    while True:
        n_passes += 1
        count = len(x)
        upper = _select(x, count // 2)
        centre = upper if count % 2 else 0.5 * (upper + _select(x, count // 2 - 1))
        # A loop, not sum(): that compensates for rounding since Python 3.12.
        total = square = 0.0
        for value in x:
            total += value
        mean = total / count
        for value in x:
            square += (value - mean) * (value - mean)
        deviation = sqrt(square / count) if square == square else square
        low, high = centre - rule.lower * deviation, centre + rule.upper * deviation
        inside = [value for value in x if low <= value <= high]
        if len(inside) in (0, count) or n_passes == rule.maxiters:
            # NaN, from overflow, excludes nothing.
            return centre, -inf if isnan(low) else low, inf if isnan(high) else high
        x = inside


def _select(x: list[float], k: int) -> float:
    """Return the k-th smallest of x, reordering it by Hoare's method (FIND)."""
    left, right = 0, len(x) - 1
    while left < right:
        pivot, up, down = x[k], left, right
        while up <= down:
            while x[up] < pivot:
                up += 1
            while x[down] > pivot:
                down -= 1
            if up <= down:
                x[up], x[down] = x[down], x[up]
                up, down = up + 1, down - 1
        if down < k:
            left = up
        if up > k:
            right = down
    return x[k]
