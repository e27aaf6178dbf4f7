"""Find exposures of the same configuration among many."""

from collections.abc import Sequence

from offsky.selection.examined import Examined
from offsky.selection.suitability import same_configuration


class ByConfiguration:
    """Exposures that are found by a configuration like theirs.

    Parameters
    ----------
    exposures : sequence of Examined
        Those to find.

    Notes
    -----
    As of `same_configuration`, what a header does not say is like everything. Exposures
    are sorted by which values they have; those of each sort are looked up by the values
    that the target has as well.
    """

    def __init__(self, exposures: Sequence[Examined]) -> None:
        self._exposures = exposures
        self._by_known: dict[tuple[int, ...], list[int]] = {}
        for i, exposure in enumerate(exposures):
            self._by_known.setdefault(_known_values(exposure.configuration), []).append(i)
        self._tables: dict[object, dict[object, list[int]]] = {}
        self._found: dict[tuple[object, ...], list[Examined]] = {}

    def like(self, target: Examined) -> list[Examined]:
        """Return those of a target's configuration, in their order."""
        configuration = target.configuration
        if configuration not in self._found:
            if all(value is None or isinstance(value, str | int) for value in configuration):
                self._found[configuration] = self._look_up(configuration)
            else:
                # Numbers are alike that are nearly equal.
                self._found[configuration] = [
                    each
                    for each in self._exposures
                    if same_configuration(target.metadata, each.metadata)
                ]
        return self._found[configuration]

    def _look_up(self, configuration: tuple[object, ...]) -> list[Examined]:
        numbers: list[int] = []
        known = set(_known_values(configuration))
        for names, members in self._by_known.items():
            common = tuple(i for i in names if i in known)
            table = self._tables.get((names, common))
            if table is None:
                table = self._tables[names, common] = {}
                for member in members:
                    values = self._exposures[member].configuration
                    table.setdefault(tuple(values[i] for i in common), []).append(member)
            numbers += table.get(tuple(configuration[i] for i in common), [])
        return [self._exposures[i] for i in sorted(numbers)]


def _known_values(configuration: tuple[object, ...]) -> tuple[int, ...]:
    """Return the places of a configuration where its header says something."""
    return tuple(i for i, value in enumerate(configuration) if value is not None)
