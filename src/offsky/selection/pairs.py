"""Pairs in time: the k-th exposure at one position with the k-th at the other."""

from collections.abc import Callable, Sequence
from itertools import zip_longest

from offsky.errors import ParameterError
from offsky.selection.examined import Examined

Partner = Examined | str


def partners_of_positions(
    members: Sequence[Examined], position: Callable[[Examined], int | None]
) -> dict[str, Partner]:
    """Pair the exposures of one pattern.

    Parameters
    ----------
    members : sequence of Examined
        The pattern.
    position : callable
        Returns the number of an exposure's position; None for one that has none.

    Returns
    -------
    dict
        By the path of each exposure its partner, or why it has none.
    """
    places: dict[int | None, list[Examined]] = {}
    for each in members:
        places.setdefault(position(each), []).append(each)
    unknown = places.pop(None, [])
    why = "its header does not say its position (PATT_NUM), which --pair needs"
    found: dict[str, Partner] = {each.path: why for each in unknown}
    if len(places) == 2:
        return found | partners(*places.values())
    many = f"{len(places)} position{'' if len(places) == 1 else 's'} where --pair needs two"
    return found | {each.path: many for at in places.values() for each in at}


def partners(a: Sequence[Examined], b: Sequence[Examined]) -> dict[str, Partner]:
    """Pair two lists of exposures.

    Returns
    -------
    dict
        By the path of each exposure its partner, or why it has none.
    """
    found: dict[str, Partner] = {}
    for k, pair in enumerate(zip_longest(_in_time(a), _in_time(b)), start=1):
        for each, other in (pair, pair[::-1]):
            if each is not None:
                found[each.path] = (
                    other or f"number {k} in time, and no number {k} to pair it with"
                )
    return found


def _in_time(exposures: Sequence[Examined]) -> list[Examined]:
    for each in exposures:
        if each.mid_time is None:
            raise ParameterError(
                f"{each.name}: its header does not say when it was taken (EXPMID, EXPSTART, "
                "DATE-BEG), which --pair needs; leave it out"
            )
    return sorted(exposures, key=lambda each: (each.mid_time, each.path))
