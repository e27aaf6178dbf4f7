"""Which exposures are of one nod or dither pattern."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from offsky.selection.examined import Examined, Pool
from offsky.values.metadata import KEYWORDS, Metadata


@dataclass(frozen=True, slots=True)
class Grouping:
    """What the exposures of one pattern have in common.

    Attributes
    ----------
    needed : tuple of str
        Fields of `Metadata` that must be known.
    agree : tuple of str
        Fields that may be unknown: then they are so in all.
    """

    needed: tuple[str, ...]
    agree: tuple[str, ...] = ()


def find_patterns(
    exposures: Sequence[Examined], grouping: Callable[[Metadata], Grouping | str]
) -> tuple[list[Pool], list[int | str]]:
    """Sort exposures into patterns.

    Parameters
    ----------
    exposures : sequence of Examined
        The targets.
    grouping : callable
        Returns what the pattern of an exposure has in common, or why it is in none.

    Returns
    -------
    patterns : list of Pool
        In the order of their first exposures.
    numbers : list of (int or str)
        For each exposure the place of its pattern, or why it has none.
    """
    numbers: dict[object, int] = {}
    members: list[list[Examined]] = []
    found: list[int | str] = []
    for exposure in exposures:
        wanted = grouping(exposure.metadata)
        key = wanted if isinstance(wanted, str) else _key(exposure, wanted)
        if isinstance(key, str):
            found.append(key)
            continue
        number = numbers.setdefault(key, len(numbers))
        if number == len(members):
            members.append([])
        members[number].append(exposure)
        found.append(number)
    return [Pool(each) for each in members], found


def _key(exposure: Examined, grouping: Grouping) -> tuple[object, ...] | str:
    m = exposure.metadata
    known = [getattr(m, name) for name in grouping.needed]
    if None in known:
        missing = [KEYWORDS[name] for name in grouping.needed if getattr(m, name) is None]
        return f"its header does not say its pattern ({', '.join(missing)})"
    window = (exposure.candidate.placement.shape, m.xstart, m.ystart, m.xsize, m.ysize)
    values = (exposure.plain(name) for name in (*grouping.needed, *grouping.agree))
    # Names of the fields too: an IFU's pattern is not that of a slit.
    return (grouping, *values, exposure.configuration, window)
