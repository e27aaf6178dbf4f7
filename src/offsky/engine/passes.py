"""Which averages are made of which exposures, in which pass over them: pure.

Orders that want the same average share a recipe; recipes of the same exposures share a pass,
in which each of these is read once. Only headers and shapes are looked at, so that a plan can
arrange, and forecast, what a run will do.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

from offsky.combine.whole import Kept
from offsky.values.window import Window

MOST_EXPOSURES = 512
"""Exposures that a pass reads, unless one average needs more."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What arranging and forecasting know of an exposure.

    Attributes
    ----------
    key : hashable
        Equal for two that are one and the same exposure.
    shape : tuple of int
        (ny, nx), or (nints, ny, nx).
    row_bytes : int
        Memory that reading one row takes, in the planes that a run reads.
    held_bytes : int
        Memory that it takes as long as it is open.
    imprints : tuple of hashable
        What tells the imprints from others that are subtracted from it.
    """

    key: Hashable
    shape: tuple[int, ...]
    row_bytes: int
    held_bytes: int = 0
    imprints: tuple[Hashable, ...] = ()

    @property
    def is_cube(self) -> bool:
        """Whether it has integrations."""
        return len(self.shape) == 3


@dataclass(frozen=True, slots=True)
class Member:
    """One exposure of an average.

    Attributes
    ----------
    facts : Facts
        The exposure.
    window : Window
        Where it lies on the detector.
    mask : hashable
        Equal for two that are left out of by the same mask; None for no mask.
    """

    facts: Facts
    window: Window
    mask: Hashable = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What one order needs, once its backgrounds are chosen.

    Attributes
    ----------
    number : int
        Of the order.
    frame : Window
        What is averaged: the target's window.
    members : tuple of Member
        What it is averaged of.
    target : Facts or None
        The exposure to subtract from; None for an average alone.
    fits : bool
        Whether coefficients are fitted to the whole average.
    saves : bool
        Whether the average is wanted itself.
    changes_errors : bool
        Whether ERR and variances of the target change.
    product_bytes : int
        Memory that the product takes until it is written; 0 where it is written by rows.
    watched : bool
        Whether somebody observes its rows, ERR of the target included.
    """

    number: int
    frame: Window
    members: tuple[Member, ...]
    target: Facts | None = None
    fits: bool = False
    saves: bool = False
    changes_errors: bool = False
    product_bytes: int = 0
    watched: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """One average, and the orders that it is made for.

    Attributes
    ----------
    frame : Window
        What is averaged.
    members : tuple of Member
        What it is averaged of.
    demands : tuple of Demand
        The orders.
    streamed : frozenset of int
        Numbers of the orders whose products are written while the average is made. The
        others are written once it is whole.
    """

    frame: Window
    members: tuple[Member, ...]
    demands: tuple[Demand, ...]
    streamed: frozenset[int] = frozenset()

    @property
    def saves(self) -> bool:
        """Whether an order wants the average itself."""
        return any(demand.saves for demand in self.demands)

    @property
    def is_whole(self) -> bool:
        """Whether the average is kept whole."""
        return self.saves or any(d.number not in self.streamed for d in self.demands)

    @property
    def fits(self) -> bool:
        """Whether an order fits coefficients to it."""
        return any(demand.fits for demand in self.demands)

    def kept(self, *, propagates: bool) -> Kept:
        """Return which planes are kept of it, where errors are propagated or not."""
        n_shares = len(set(self.groups)) - (-1 in self.groups) if propagates else 0
        return Kept(self.is_whole, self.saves or self.fits or propagates, propagates, n_shares)

    @property
    def groups(self) -> tuple[int, ...]:
        """The number of each member's group, -1 for none: those of a group share imprints."""
        numbers, _ = group_imprints([member.facts.imprints for member in self.members])
        return numbers


@dataclass(frozen=True, slots=True)
class Pass:
    """Exposures that are read together once, and the averages made of them.

    Attributes
    ----------
    exposures : tuple of Facts
        Those that are read.
    recipes : tuple of Recipe
        The averages.
    windows : tuple of Window
        Where each exposure lies.
    """

    exposures: tuple[Facts, ...]
    recipes: tuple[Recipe, ...]
    windows: tuple[Window, ...]

    @property
    def first_row(self) -> int:
        """First row of the detector that some frame has."""
        return min(recipe.frame.y0 for recipe in self.recipes)

    @property
    def last_row(self) -> int:
        """Row after the last that some frame has."""
        return max(recipe.frame.y0 + recipe.frame.ny for recipe in self.recipes)

    def parts(self, n_recipes: int) -> list["Pass"]:
        """Return passes of at most `n_recipes` each, of the exposures that those need."""
        if n_recipes >= len(self.recipes):
            return [self]
        return [
            _passed(self.recipes[i : i + n_recipes])
            for i in range(0, len(self.recipes), n_recipes)
        ]


def group_imprints(
    imprints: Sequence[tuple[Hashable, ...]],
) -> tuple[tuple[int, ...], tuple[tuple[Hashable, ...], ...]]:
    """Group exposures by their imprints.

    Parameters
    ----------
    imprints : sequence of tuples
        The imprints of each exposure, empty for none.

    Returns
    -------
    numbers : tuple of int
        The number of each exposure's group, -1 for one without imprints.
    groups : tuple of tuples
        The imprints of each group, in the order of the first exposures.
    """
    known: dict[tuple[Hashable, ...], int] = {}
    numbers = tuple(known.setdefault(each, len(known)) if each else -1 for each in imprints)
    return numbers, tuple(known)


def arrange(demands: Sequence[Demand]) -> list[Pass]:
    """Find the fewest averages, and passes over exposures that several averages share.

    Parameters
    ----------
    demands : sequence of Demand
        What the orders need.

    Returns
    -------
    list of Pass
        In the order of their first demands.

    Notes
    -----
    A recipe joins the pass that has the most of its exposures, if that has at least half of
    them (targets included: a nod or dither pattern is one pass), if all lie where they lie in
    that pass, and if the pass reads no more than `MOST_EXPOSURES`. The time is linear in the
    lengths of all lists.
    """
    recipes: dict[Hashable, list[Demand]] = {}
    for demand in demands:
        of_members = tuple((m.facts.key, m.window, m.mask) for m in demand.members)
        recipes.setdefault((demand.frame, of_members), []).append(demand)
    drafts: list[_Draft] = []
    having: dict[Hashable, list[int]] = {}
    for sharing in recipes.values():
        recipe = Recipe(sharing[0].frame, sharing[0].members, tuple(sharing))
        places = _places(recipe)
        number = _best_pass(recipe, places, drafts, having)
        if number is None:
            number = len(drafts)
            drafts.append(_Draft())
        for key in drafts[number].take(recipe, places):
            having.setdefault(key, []).append(number)
    return [_passed(draft.recipes) for draft in drafts]


@dataclass(slots=True)
class _Draft:
    """A pass that is being arranged."""

    recipes: list[Recipe] = field(default_factory=list)
    places: dict[Hashable, Window] = field(default_factory=dict)

    def take(self, recipe: Recipe, places: dict[Hashable, Window]) -> list[Hashable]:
        """Add a recipe; return the exposures that are new."""
        new = [key for key in places if key not in self.places]
        self.recipes.append(recipe)
        self.places.update(places)
        return new


def _places(recipe: Recipe) -> dict[Hashable, Window]:
    """Return where the exposures of a recipe lie, targets included."""
    places = {member.facts.key: member.window for member in recipe.members}
    for demand in recipe.demands:
        if demand.target is not None:
            places.setdefault(demand.target.key, recipe.frame)
    return places


def _best_pass(
    recipe: Recipe,
    places: dict[Hashable, Window],
    drafts: Sequence[_Draft],
    having: dict[Hashable, list[int]],
) -> int | None:
    """Return the number of the pass that a recipe joins; None for a pass of its own."""
    shared: dict[int, int] = {}
    of_members: dict[int, int] = {}
    members = {member.facts.key for member in recipe.members}
    for key in places:
        for number in having.get(key, ()):
            shared[number] = shared.get(number, 0) + 1
            of_members[number] = of_members.get(number, 0) + (key in members)
    for number in sorted(shared, key=lambda number: (-shared[number], number)):
        if 2 * shared[number] < len(places) and 2 * of_members[number] < len(members):
            continue
        known = drafts[number].places
        if len(known) + len(places) - shared[number] > MOST_EXPOSURES:
            continue
        if all(known.get(key, window) == window for key, window in places.items()):
            return number
    return None


def _passed(recipes: Sequence[Recipe]) -> Pass:
    """Return the pass over the members of some recipes."""
    members = {
        member.facts.key: (member.facts, member.window)
        for recipe in recipes
        for member in recipe.members
    }
    return Pass(
        tuple(facts for facts, _ in members.values()),
        tuple(_streaming(recipe, members) for recipe in recipes),
        tuple(window for _, window in members.values()),
    )


def _streaming(recipe: Recipe, members: dict[Hashable, tuple[Facts, Window]]) -> Recipe:
    """Tell which products of a recipe are written while it is made.

    A target that the pass reads anyway is not to be read again; and a product that has its
    average alone does not wait for it. Many targets that share an average would be many
    open files: they wait.
    """
    demands = [d for d in recipe.demands if d.target is not None and not d.fits]
    streamed = {
        demand.number
        for demand in demands
        if len(recipe.demands) == 1 or (demand.target is not None and demand.target.key in members)
    }
    return replace(recipe, streamed=frozenset(streamed))
