"""The levels of exposures, and what brings them to a common one: plain numbers."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array, Float64s
from offsky.errors import ExposureMismatchError
from offsky.measure.pairs import Difference, block_level, compared, difference

_DO_NOT_USE = np.uint32(1)
# A level is not told from zero if it is below so many of its errors.
_LEAST_ERRORS = 5.0

Compare = Callable[[int, int], Difference | None]
"""Called with two numbers of a list of exposures; how much the first is above the second."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class LevelMatch:
    """The levels of exposures, and what moves each to their mean.

    Attributes
    ----------
    levels : tuple of float
        Level of each, in the unit of SCI.
    offsets, scales : tuple of float
        What to add to each, and to multiply it by; 0 and 1 for nothing.
    noise : float
        Typical noise of a sample; 0 for one exposure.
    """

    levels: tuple[float, ...]
    offsets: tuple[float, ...]
    scales: tuple[float, ...]
    noise: float

    @property
    def is_near_zero(self) -> bool:
        """Whether a level is below the noise of a sample."""
        return min(self.levels) < self.noise


class Levels(Generic[K]):
    """Levels of exposures by keys of any kind; each pair is compared once for all lists.

    One key is one exposure at certain pixels. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._blocks: dict[K, Array] = {}
        self._own_levels: dict[K, float] = {}
        self._differences: dict[tuple[K, K], Difference | None] = {}

    def add(self, key: K, blocks: Array) -> None:
        """Add an exposure's samples, (n_blocks, n_pixels) of float32; they are kept."""
        self._blocks[key] = blocks
        self._own_levels[key] = block_level(blocks)

    def compare(self, first: K, second: K) -> Difference | None:
        """Return how much the first is above the second; None if that cannot be told."""
        if (first, second) in self._differences:
            return self._differences[first, second]
        if (second, first) in self._differences:
            found = self._differences[second, first]
            return None if found is None else found._replace(value=-found.value)
        if first not in self._blocks or second not in self._blocks:
            return None  # one that could not be read
        found = difference(self._blocks[first], self._blocks[second])
        self._differences[first, second] = found
        return found

    def match(self, keys: Sequence[K], names: Sequence[str], how: str) -> LevelMatch:
        """Match the levels of a list of exposures, see `match_levels`."""
        own_levels = [self._own_levels[key] for key in keys]
        return match_levels(names, own_levels, lambda i, j: self.compare(keys[i], keys[j]), how)


def pairs_of(lists: Iterable[Sequence[K]]) -> list[tuple[K, K]]:
    """Return the pairs whose levels some lists compare, each once."""
    pairs: dict[tuple[K, K], None] = {}
    for keys in lists:
        for i, j in compared(len(keys)):
            if (keys[j], keys[i]) not in pairs:
                pairs[keys[i], keys[j]] = None
    return list(pairs)


def match_levels(
    names: Sequence[str], own_levels: Sequence[float], compare: Compare, how: str
) -> LevelMatch:
    """Find the level of each exposure, and what brings it to the mean of all levels.

    Parameters
    ----------
    names : sequence of str
        The exposures.
    own_levels : sequence of float
        The level of each as it is told from itself alone.
    compare : callable
        Returns how much the level of one is above that of another, None where they have too
        few pixels in common.
    how : str
        "offset" or "scale".

    Returns
    -------
    LevelMatch

    Raises
    ------
    ExposureMismatchError
        Where an exposure has common pixels with no other, directly or by way of others, or a
        level to be scaled is not above zero.

    Notes
    -----
    Levels are those that agree best with the differences between pairs: least squares, each
    pair weighted by its number of blocks. Whether levels are matched to that of the first or
    to another makes no difference once the matching is put back: each is moved to the mean
    of the levels.
    """
    n = len(names)
    pairs = {pair: found for pair in compared(n) if (found := compare(*pair)) is not None}
    groups = _connected(n, pairs)
    if len(groups) > 1:
        # Those that are not compared at first may connect them.
        of = {i: number for number, group in enumerate(groups) for i in group}
        apart = [(i, j) for i in range(n) for j in range(i + 1, n) if of[i] != of[j]]
        pairs |= {pair: found for pair in apart if (found := compare(*pair)) is not None}
        groups = _connected(n, pairs)
    if len(groups) > 1:
        raise ExposureMismatchError(_unconnected(names, groups))
    relative = _least_squares(n, pairs)
    relative -= np.mean(relative)
    # What one exposure alone has in its sky does not move the level of all.
    base = float(np.median(np.asarray(own_levels) - relative))
    levels = tuple((base + relative).tolist())
    noise = float(np.median([each.noise for each in pairs.values()])) if pairs else 0.0
    zeros, ones = (0.0,) * n, (1.0,) * n
    if how == "offset":
        return LevelMatch(levels, tuple((-relative).tolist()), ones, noise)
    error = max((each.error for each in pairs.values()), default=0.0)
    lowest = int(np.argmin(levels))
    if not levels[lowest] > _LEAST_ERRORS * error:
        raise ExposureMismatchError(
            f"{names[lowest]}: the level is {levels[lowest]:g} ± {error:.2g}: only levels well "
            "above zero can be matched by a factor; use the option level offset"
        )
    mean = float(np.mean(levels))
    return LevelMatch(levels, zeros, tuple(mean / level for level in levels), noise)


def _connected(n: int, pairs: Mapping[tuple[int, int], Difference]) -> list[list[int]]:
    """Return the groups of exposures that pairs connect, the largest first."""
    group_of = list(range(n))
    for i, j in pairs:
        old, new = group_of[j], group_of[i]
        if old != new:
            group_of = [new if each == old else each for each in group_of]
    groups = [[i for i in range(n) if group_of[i] == g] for g in dict.fromkeys(group_of)]
    return sorted(groups, key=len, reverse=True)


def _unconnected(names: Sequence[str], groups: Sequence[Sequence[int]]) -> str:
    """Return why levels cannot be matched: exposures that have no pixels in common."""
    alone = [names[i] for group in groups[1:] for i in group]
    shown = ", ".join(alone[:3]) + (f" and {len(alone) - 3} more" if len(alone) > 3 else "")
    return (
        f"{shown}: too few usable pixels in common with {names[groups[0][0]]}, directly or by way "
        "of the other backgrounds: levels cannot be matched; check the masks, leave out "
        f"{'that file' if len(alone) == 1 else 'those files'}, or use the option level none"
    )


def _least_squares(n: int, pairs: Mapping[tuple[int, int], Difference]) -> Float64s:
    """Return the levels, the first one 0, that agree best with their differences.

    Elimination in a fixed order, in float64: the same bits on every machine, which a library
    of linear algebra does not promise.
    """
    matrix, right = np.zeros((n, n)), np.zeros(n)
    for (i, j), found in pairs.items():
        weight = float(found.n_blocks)
        matrix[i, i] += weight
        matrix[j, j] += weight
        matrix[i, j] -= weight
        matrix[j, i] -= weight
        right[i] += weight * found.value
        right[j] -= weight * found.value
    # The first row says nothing that the others do not: the first level is 0.
    for k in range(n - 1, 0, -1):
        factors = matrix[1:k, k] / matrix[k, k]
        matrix[1:k, 1:k] -= factors[:, np.newaxis] * matrix[k, 1:k]
        right[1:k] -= factors * right[k]
    levels = np.zeros(n)
    for k in range(1, n):
        known = 0.0
        for i in range(1, k):
            known += matrix[k, i] * levels[i]
        levels[k] = (right[k] - known) / matrix[k, k]
    return levels


def unusable(dq: Array, dq_flip: int) -> NDArray[np.bool_]:
    """Tell where stored flags say DO_NOT_USE."""
    return np.asarray(((dq.astype(np.uint32) ^ np.uint32(dq_flip)) & _DO_NOT_USE) != 0)


def even_rows(n_rows: int, n_columns: int, n_samples: int) -> range:
    """Return rows in even steps that together have about `n_samples` samples.

    The step is odd, so that detectors which read even and odd rows apart show both.
    """
    step = max(1, n_rows * n_columns // n_samples)
    step += step % 2 == 0
    return range((n_rows - 1) % step // 2, n_rows, step)
