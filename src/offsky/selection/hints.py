"""What could be a target's background where none is marked: a way out for the user."""

from collections.abc import Sequence

from offsky.errors import ParameterError
from offsky.selection.alike import ByConfiguration
from offsky.selection.apart import separation
from offsky.selection.examined import Examined, Pool

# Of a survey with thousands of observations the first will do.
_MOST_LOOKED_AT = 50
# Closer than this (arcsec), another observation shows the target itself.
_NEAREST = 5.0


class Hints:
    """Looks for backgrounds that are not marked.

    Parameters
    ----------
    exposures : sequence of Examined
        All there are.
    """

    def __init__(self, exposures: Sequence[Examined]) -> None:
        sky = [each for each in exposures if not each.metadata.is_imprint]
        marked = [each for each in sky if each.metadata.bkgdtarg]
        self._any_marked = bool(marked)
        self._marked = ByConfiguration(marked)
        self._others = ByConfiguration(
            [each for each in sky if not each.metadata.bkgdtarg], ("program",)
        )
        self._known: dict[tuple[int, object], str] = {}
        # The pools live as long as this does, so that no id is used again.
        self._first: dict[int, dict[object, Examined]] = {}

    def of(self, target: Examined) -> str:
        """Return why a target has no dedicated background, and what could be one."""
        why = (
            "no dedicated background (BKGDTARG) of its programme and configuration"
            if self._any_marked
            else "no exposure has BKGDTARG"
        )
        pool = self._others.like(target)
        key = id(pool), target.plain("observation")
        if key not in self._known:
            self._known[key] = self._hint(target, pool)
        return f"{why}{self._known[key]}"

    def _hint(self, target: Examined, pool: Pool) -> str:
        elsewhere = self._marked.like(target).members
        if elsewhere:
            n = len(elsewhere)
            return f"; {n} of other programmes or subarrays fit: --any-programme or --backgrounds"
        others = [
            each
            for number, each in self._first_of(pool).items()
            if number not in (target.metadata.observation, None)
        ]
        places = [(_apart(target, each), each) for each in others[:_MOST_LOOKED_AT]]
        fitting = [(far, each) for far, each in places if far is None or far > _NEAREST]
        if not fitting:
            return ""
        far, other = min(fitting, key=lambda place: (place[0] is None, place[0]))
        number = str(other.metadata.observation).lstrip("0")
        away = "" if far is None else f" and points {_angle(far)} away"
        return (
            f"; observation {number} has the same configuration{away}: --backgrounds obs:{number}"
        )

    def _first_of(self, pool: Pool) -> dict[object, Examined]:
        """Return the first exposure of each observation in a pool."""
        if id(pool) not in self._first:
            first: dict[object, Examined] = {}
            for each in pool.members:
                first.setdefault(each.metadata.observation, each)
            self._first[id(pool)] = first
        return self._first[id(pool)]


def _apart(target: Examined, other: Examined) -> float | None:
    try:
        return separation(target, other)
    except ParameterError:
        return None


def _angle(arcsec: float) -> str:
    """Return an angle in the unit that suits it."""
    if arcsec < 60:
        return f'{arcsec:.2g}"'
    return f"{arcsec / 60:.1f}'" if arcsec < 3600 else f"{arcsec / 3600:.1f} degrees"
