"""Find exposures of the same configuration among many."""

from collections.abc import Sequence, Set

from offsky.selection.examined import Examined, Pool
from offsky.selection.suitability import differ, same_configuration


class ByConfiguration:
    """Exposures that are found by a configuration like theirs.

    Parameters
    ----------
    exposures : sequence of Examined
        Those to find.
    also : sequence of str
        Fields of `Metadata` that have to agree beside the configuration.
    free : set of str
        Paths of those that need not agree in these.

    Notes
    -----
    As of `same_configuration`, what a header does not say is like everything. Exposures
    are sorted by which values they have; those of each sort are looked up by the values
    that the target has as well.
    """

    def __init__(
        self,
        exposures: Sequence[Examined],
        also: Sequence[str] = (),
        free: Set[str] = frozenset(),
    ) -> None:
        self._exposures = exposures
        self._also = tuple(also)
        self._free = free
        self._values = [self._values_of(each) for each in exposures]
        self._by_known: dict[tuple[int, ...], list[int]] = {}
        for i, values in enumerate(self._values):
            self._by_known.setdefault(_known_values(values), []).append(i)
        self._tables: dict[object, dict[object, list[int]]] = {}
        self._found: dict[tuple[object, ...], Pool] = {}

    def like(self, target: Examined) -> Pool:
        """Return those of a target's configuration, in their order."""
        values = self._values_of(target)
        if values not in self._found:
            if all(value is None or isinstance(value, str | int) for value in values):
                members = self._look_up(values)
            else:
                # Numbers are alike that are nearly equal.
                members = [each for each in self._exposures if self._is_like(target, each)]
            self._found[values] = Pool(members)
        return self._found[values]

    def _values_of(self, exposure: Examined) -> tuple[object, ...]:
        return (*exposure.configuration, *self._more(exposure))

    def _more(self, exposure: Examined) -> list[object]:
        if exposure.path in self._free:
            return [None] * len(self._also)
        return [exposure.plain(name) for name in self._also]

    def _is_like(self, target: Examined, other: Examined) -> bool:
        return same_configuration(target.metadata, other.metadata) and not any(
            map(differ, self._more(target), self._more(other))
        )

    def _look_up(self, wanted: tuple[object, ...]) -> list[Examined]:
        numbers: list[int] = []
        known = set(_known_values(wanted))
        for names, members in self._by_known.items():
            common = tuple(i for i in names if i in known)
            table = self._tables.get((names, common))
            if table is None:
                table = self._tables[names, common] = {}
                for member in members:
                    values = self._values[member]
                    table.setdefault(tuple(values[i] for i in common), []).append(member)
            numbers += table.get(tuple(wanted[i] for i in common), [])
        return [self._exposures[i] for i in sorted(numbers)]


def _known_values(values: tuple[object, ...]) -> tuple[int, ...]:
    """Return the places where a header says something."""
    return tuple(i for i, value in enumerate(values) if value is not None)
