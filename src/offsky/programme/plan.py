"""What a programme is: files, products, and the products that are made together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

from offsky.options import Options
from offsky.selection.examined import Dropped
from offsky.selection.pairing import Pairing
from offsky.values.window import Window

Kind = Literal["shared", "leave-one-out"]


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """An input file as it was when the plan was made.

    Attributes
    ----------
    path : str
        Absolute.
    n_bytes : int
        Size of the file.
    modified_ns : int
        When it was last changed, nanoseconds since 1970.
    shape : tuple of int
        (ny, nx), or (nints, ny, nx); empty for a file that could not be read.
    row_bytes : int
        Memory for one row of SCI, ERR and DQ, and of the variances where errors are
        propagated.
    held_bytes : int
        Memory that it takes as long as it is open.
    product_bytes : int
        Memory that a product of it takes until it is written; 0 where it is written by rows.
    start : tuple of int, or None
        Column and row of the detector that its first pixel is, from 1 as SUBSTRT1 and
        SUBSTRT2 say it; None where that hangs on the files that it is used with: it lies
        where those of its shape lie.
    """

    path: str
    n_bytes: int
    modified_ns: int
    shape: tuple[int, ...] = ()
    row_bytes: int = 0
    held_bytes: int = 0
    product_bytes: int = 0
    start: tuple[int, int] | None = None
    label: str = ""
    exp_type: str | None = None
    mid_time: float | None = None
    pointing: tuple[float, float] | None = None

    @property
    def window(self) -> Window | None:
        """Where it lies on the detector; None where that hangs on other files."""
        if self.start is None:
            return None
        n_rows, n_columns = self.shape[-2:]
        return Window(self.start[0] - 1, self.start[1] - 1, n_columns, n_rows)


@dataclass(frozen=True, slots=True)
class PlannedProduct:
    """One exposure to make.

    Attributes
    ----------
    output : str
        Name of the file, in the folder that is chosen when the plan is run.
    target : str
        The exposure to subtract from.
    backgrounds : tuple of str
        Those to average, in this order.
    dropped : tuple of Dropped
        Those not used, by reason.
    options : Options
        How to average.
    force : bool
        Go on with a warning where a single run with ``--force`` would.
    skipped : str or None
        Why nothing will be made.
    problem : str or None
        Why it is expected to fail; it is tried all the same.
    masks : tuple of (str or None)
        The mask of each background; empty where none has one.
    imprints : tuple of tuples of str
        The imprints of the target, then of each background; of several the mean is
        subtracted. Empty where no exposure has one.
    """

    output: str
    target: str
    backgrounds: tuple[str, ...]
    dropped: tuple[Dropped, ...] = ()
    options: Options = field(default_factory=Options)
    force: bool = False
    skipped: str | None = None
    problem: str | None = None
    masks: tuple[str | None, ...] = ()
    imprints: tuple[tuple[str, ...], ...] = ()

    @property
    def mask_files(self) -> tuple[str, ...]:
        """The masks' files, in the order of the backgrounds."""
        return tuple(mask for mask in self.masks if mask is not None)

    @property
    def inputs(self) -> tuple[str, ...]:
        """All files it is made from, but for masks; each imprint once."""
        if not self.imprints:
            return (self.target, *self.backgrounds)
        imprints = dict.fromkeys(each for of_one in self.imprints for each in of_one)
        return (self.target, *self.backgrounds, *imprints)


@dataclass(frozen=True, slots=True)
class Group:
    """Products that are made together, since they read the same files.

    Attributes
    ----------
    kind : str
        "shared": one average for all. "leave-one-out": each has backgrounds of its own
        out of the same few files.
    products : tuple of int
        Their places in the plan's list.
    """

    kind: Kind
    products: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A whole programme.

    Attributes
    ----------
    pairing : Pairing
        How it was made.
    files : tuple of PlannedFile
        All inputs of its products.
    products : tuple of PlannedProduct
        In the order of their inputs; skipped ones too.
    groups : tuple of Group
        Every product that is not skipped is in one.
    left_out : tuple of (str, str)
        Files that were looked at and are not part of it, each with the reason.
    """

    pairing: Pairing
    files: tuple[PlannedFile, ...]
    products: tuple[PlannedProduct, ...]
    groups: tuple[Group, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    @cached_property
    def file_of(self) -> dict[str, PlannedFile]:
        """Each file by its path."""
        return {file.path: file for file in self.files}

    def files_of(self, group: Group) -> set[str]:
        """Return the files that a group reads."""
        return {path for i in group.products for path in self.products[i].inputs}

    def bytes_to_read(self) -> int:
        """Return how much all groups read together."""
        known = self.file_of
        return sum(
            known[path].n_bytes
            for group in self.groups
            for path in self.files_of(group)
            if path in known
        )


def group_products(products: Sequence[PlannedProduct]) -> tuple[Group, ...]:
    """Find which products are best made together.

    Products with the same list of backgrounds share its average. Where several have
    different lists out of the same files, targets included (nods and dithers), they
    are made in one pass over these files.

    Parameters
    ----------
    products : sequence of PlannedProduct
        Skipped ones are left out.

    Returns
    -------
    tuple of Group
        In the order of their first products.
    """
    by_files: dict[object, list[int]] = {}
    for i, product in enumerate(products):
        if product.skipped is None:
            key = (frozenset(product.inputs), product.options, product.force)
            by_files.setdefault(key, []).append(i)
    groups: list[Group] = []
    rest: list[int] = []
    for members in by_files.values():
        lists = {(products[i].backgrounds, products[i].imprints[1:]) for i in members}
        if len(lists) > 1:
            groups.append(Group("leave-one-out", tuple(members)))
        else:
            rest += members
    by_list: dict[object, list[int]] = {}
    for i in rest:
        product = products[i]
        wanted = product.backgrounds, product.imprints[1:]
        by_list.setdefault((wanted, product.options, product.force), []).append(i)
    groups += [Group("shared", tuple(sorted(members))) for members in by_list.values()]
    return tuple(sorted(groups, key=lambda group: group.products))


def merge_groups(groups: Iterable[Group], together: Iterable[Sequence[int]]) -> tuple[Group, ...]:
    """Return groups in which products known to be of one pattern are one group.

    Parameters
    ----------
    groups : iterable of Group
        As found by `group_products`.
    together : iterable of sequences of int
        Products of one nod or dither pattern each.
    """
    group_of = {i: group for group in groups for i in group.products}
    for members in together:
        wanted = sorted({i for i in members if i in group_of})
        inside = {group_of[i].products for i in wanted}
        # Only whole groups: a list may also be shared with products elsewhere.
        if len(inside) < 2 or sum(map(len, inside)) > len(wanted):
            continue
        merged = Group("leave-one-out", tuple(wanted))
        group_of.update(dict.fromkeys(wanted, merged))
    found = {group.products: group for group in group_of.values()}
    return tuple(found[numbers] for numbers in sorted(found))


def split_group(group: Group, n_parts: int) -> list[Group]:
    """Return a group as several of nearly equal size, for as many workers."""
    n = len(group.products)
    n_parts = max(1, min(n_parts, n))
    bounds = [n * i // n_parts for i in range(n_parts + 1)]
    return [Group(group.kind, group.products[begin:end]) for begin, end in pairwise(bounds)]


def balance(plan: Plan, n_workers: int) -> list[Group]:
    """Return the plan's groups, the largest ones split so that no worker is idle.

    Parts of a group of products that share an average make it once each, so that a
    group is split only into parts with at least as many targets as backgrounds.

    Parameters
    ----------
    plan : Plan
        The programme.
    n_workers : int
        Groups worked on at a time.

    Returns
    -------
    list of Group
        The most expensive first.
    """
    cost = {id(group): _cost(plan, group) for group in plan.groups}
    if n_workers == 1:
        return list(plan.groups)
    share = sum(cost.values()) / (2 * n_workers)
    parts: list[Group] = []
    for group in plan.groups:
        n_parts = round(cost[id(group)] / share) if share else 1
        if group.kind == "shared":
            n_backgrounds = len(plan.products[group.products[0]].backgrounds)
            n_parts = min(n_parts, len(group.products) // max(1, n_backgrounds // 2))
        parts += split_group(group, n_parts)
    return sorted(parts, key=lambda group: -_cost(plan, group))


def _cost(plan: Plan, group: Group) -> float:
    """Return what a group costs, in exposures handled; a result counts as two."""
    products = [plan.products[i] for i in group.products]
    n_averaged = (
        len(products[0].backgrounds)
        if group.kind == "shared"
        else sum(len(product.backgrounds) for product in products)
    )
    return n_averaged + 2.0 * len(products)


def absolute(path: Path) -> str:
    """Return a path as plans write it: absolute, links as they are."""
    return str(path.absolute())
