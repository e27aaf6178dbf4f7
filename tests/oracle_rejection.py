"""Leave-one-out rejection and growing, written out from their formulas, sample by sample.

Nothing in here calls offsky. Each z is found from the other samples themselves, not from the
identity that makes it one sum, so that the identity can be judged as well.
"""

from math import sqrt

import numpy as np


def z_of_sample(x: list[float], s: list[float], kept: list[int], i: int) -> float:
    """Return how far sample i is from the weighted mean of the other kept ones, in sigma."""
    others = [k for k in kept if k != i]
    total = sum(1 / s[k] ** 2 for k in others)
    mean = sum(x[k] / s[k] ** 2 for k in others) / total
    return (x[i] - mean) / sqrt(s[i] ** 2 + 1 / total)


def kept_of_pixel(
    x: list[float],
    s: list[float],
    low: float,
    high: float,
    least: int = 1,
    passes: int | None = None,
    doubts: list[float] | None = None,
) -> list[int]:
    """Return the samples of a pixel that are kept, the worst of the others rejected first.

    The worst is the one with the largest |z| in units of its own threshold; of equal ones
    the higher sample goes, of equal samples the first. At least `least` samples stay, and the
    last one always; at most `passes` go. How near to a tie each decision was is added to
    `doubts`, relative: below some 1e-12 rounding decides.
    """
    kept = [i for i in range(len(x)) if np.isfinite(x[i])]
    while len(kept) > max(least, 1) and passes != 0 and len({x[i] for i in kept}) > 1:
        excess = []
        for i in kept:
            z = z_of_sample(x, s, kept, i)
            excess.append((z / high if z > 0 else -z / low, x[i], -i))
        worst = max(excess)
        if doubts is not None:
            others = [e[0] for e in excess if e[1] != worst[1] and len(kept) > 2]
            doubts += [abs(worst[0] / other - 1) for other in (1.0, *others) if other > 0]
        # The two z of a pair are equal but for their sign: the higher one decides and goes.
        if len(kept) == 2:
            worst = max(excess, key=lambda e: e[1])
        if worst[0] <= 1:
            break
        kept.remove(-worst[2])
        passes = None if passes is None else passes - 1
    return kept


def kept_of_images(x: np.ndarray, s: np.ndarray, low: float, high: float) -> np.ndarray:
    """Tell which samples of (n, ny, nx) leave-one-out rejection keeps."""
    kept = np.zeros(x.shape, dtype=bool)
    for row, column in np.ndindex(x.shape[1:]):
        pixel = x[:, row, column].tolist(), s[:, row, column].tolist()
        kept[kept_of_pixel(*pixel, low, high), row, column] = True
    return kept


def grown(x: np.ndarray, s: np.ndarray, kept: np.ndarray, above: float, passes: int) -> np.ndarray:
    """Tell which samples of (n, ny, nx) are still kept after growing.

    In each pass a kept sample goes if one of its eight neighbours in the same exposure was
    finite and rejected before that pass, and it lies more than `above` sigma over the weighted
    mean of the kept samples of its pixel.
    """
    n = len(x)
    for _ in range(passes):
        before, kept = kept, kept.copy()
        for i, row, column in np.argwhere(before):
            rows = slice(max(row - 1, 0), row + 2)
            columns = slice(max(column - 1, 0), column + 2)
            rejected = ~before[i, rows, columns] & np.isfinite(x[i, rows, columns])
            if not rejected.any():
                continue
            there = [k for k in range(n) if before[k, row, column]]
            weights = [1 / s[k, row, column] ** 2 for k in there]
            mean = sum(w * x[k, row, column] for w, k in zip(weights, there, strict=True))
            mean /= sum(weights)
            if x[i, row, column] > mean + above * s[i, row, column]:
                kept[i, row, column] = False
    return kept
