"""A plan as a table: a headline for each group, equal rows folded, reasons shown."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from offsky.command.printing import Table
from offsky.outcome import counted
from offsky.programme.details import details_of, headline, imprints_of_target
from offsky.programme.plan import Plan, PlannedProduct
from offsky.selection.examined import dropped_files

_MOST_NAMES = 2

Row = tuple[tuple[str, ...], str | None]


def print_products(plan: Plan, *, details: bool) -> None:
    """Print the products of a plan, those that are made together under one headline.

    Parameters
    ----------
    plan : Plan
        The plan.
    details : bool
        Whether to name every background, with its date and separation.
    """
    table = Table("product", "backgrounds", "remarks")
    made = {i for group in plan.groups for i in group.products}
    for group in plan.groups:
        table.add_row(headline(plan, group.products), style="bold")
        members = [plan.products[i] for i in group.products]
        for cells, style in _in_full(plan, members) if details else _folded(members):
            table.add_row(*cells, style=style)
    rest = [each for i, each in enumerate(plan.products) if i not in made]
    if rest:
        table.add_row(f"skipped: {counted(len(rest), 'product', 'products')}", style="bold")
        for cells, style in _in_full(plan, rest) if details else _folded(rest):
            table.add_row(*cells, style=style)
    table.print()


def _folded(products: Iterable[PlannedProduct]) -> Iterator[Row]:
    """Yield a row for all products of which there is the same to say."""
    rows: dict[tuple[object, ...], list[PlannedProduct]] = {}
    for each in products:
        reasons = tuple((reason, len(files)) for reason, files in dropped_files(each) if files)
        said = (len(each.backgrounds), each.skipped, each.problem)
        rows.setdefault(said if each.skipped else (*said, reasons), []).append(each)
    for alike in rows.values():
        first = alike[0]
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        count = "skipped" if first.skipped else str(len(first.backgrounds))
        remark = first.skipped or first.problem or _reasons(first, named=len(alike) == 1)
        style = "yellow" if first.skipped else "red" if first.problem else None
        yield (f"  {first.output}{more}", count, remark), style


def _reasons(product: PlannedProduct, *, named: bool) -> str:
    """Return why backgrounds were dropped, how many, and of one product the first names."""
    shown = []
    for reason, files in dropped_files(product):
        if not files:
            continue
        who = f"{len(files)} dropped"
        if named:
            who = ", ".join(Path(path).name for path in files[:_MOST_NAMES])
            more = len(files) - _MOST_NAMES
            who += f" and {more} more" if more > 0 else ""
        shown.append(f"{who}: {reason}")
    return "; ".join(shown)


def _in_full(plan: Plan, products: Iterable[PlannedProduct]) -> Iterator[Row]:
    """Yield a row for each product, and one for each of its backgrounds."""
    for each in products:
        count = "skipped" if each.skipped else str(len(each.backgrounds))
        style = "yellow" if each.skipped else "red" if each.problem else None
        remark = each.skipped or each.problem or _named(imprints_of_target(each))
        yield (f"  {each.output}", count, remark), style
        for detail in details_of(each, plan.file_of):
            fate = "used" if detail.reason is None else "dropped"
            apart = "" if detail.separation is None else f'{detail.separation:.3g}" away'
            imprints = _named(detail.imprints)
            facts = ", ".join(filter(None, (detail.date, apart, imprints, detail.reason)))
            yield (f"    {Path(detail.file).name}", fate, facts), None


def _named(imprints: Sequence[str]) -> str:
    """Return the names of the imprints of one exposure; nothing where it has none."""
    if not imprints:
        return ""
    names = " and ".join(Path(path).name for path in imprints)
    return f"imprint{'s' * (len(imprints) != 1)} {names}"
