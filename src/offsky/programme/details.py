"""What a plan says of each product in full: every file with its date and separation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from offsky.programme.plan import Plan, PlannedFile, PlannedProduct
from offsky.selection.apart import great_circle
from offsky.selection.examined import dropped_files

_MJD_0 = datetime(1858, 11, 17, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Detail:
    """One background of a product.

    Attributes
    ----------
    file : str
        Path.
    date : str or None
        Middle of the exposure, UTC.
    separation : float or None
        Arcsec from the target.
    reason : str or None
        Why it is not used; None for one that is.
    imprints : tuple of str
        Paths of the imprints that are subtracted from it.
    """

    file: str
    date: str | None
    separation: float | None
    reason: str | None = None
    imprints: tuple[str, ...] = ()


def details_of(product: PlannedProduct, known: Mapping[str, PlannedFile]) -> Iterator[Detail]:
    """Yield the backgrounds of a product: those used, then the others.

    Parameters
    ----------
    product : PlannedProduct
        The product.
    known : mapping of str to PlannedFile
        The plan's files by their paths.
    """
    imprints = product.imprints[1:] or ((),) * len(product.backgrounds)
    files: list[tuple[str, str | None, tuple[str, ...]]] = [
        (path, None, own) for path, own in zip(product.backgrounds, imprints, strict=True)
    ]
    files += [(path, reason, ()) for reason, paths in dropped_files(product) for path in paths]
    target = known.get(product.target)
    here = None if target is None else target.pointing
    for path, reason, own in files:
        file = known.get(path)
        there = None if file is None else file.pointing
        apart = None if here is None or there is None else great_circle(here, there)
        yield Detail(path, None if file is None else date_of(file), apart, reason, own)


def imprints_of_target(product: PlannedProduct) -> tuple[str, ...]:
    """Return the paths of the imprints that are subtracted from a product's target."""
    return product.imprints[0] if product.imprints else ()


def date_of(file: PlannedFile) -> str | None:
    """Return when an exposure was taken, to the second; None where its header does not say."""
    if file.mid_time is None:
        return None
    return (_MJD_0 + timedelta(days=file.mid_time)).strftime("%Y-%m-%dT%H:%M:%S")


def as_dict(plan: Plan) -> dict[str, Any]:
    """Return a plan in full, ready for JSON."""
    known = plan.file_of
    return {
        "format": "offsky-plan-details",
        "version": 1,
        "products": [_product(each, known) for each in plan.products],
        "left_out": [{"file": path, "reason": reason} for path, reason in plan.left_out],
    }


def _product(product: PlannedProduct, known: Mapping[str, PlannedFile]) -> dict[str, Any]:
    target = known.get(product.target)
    details = list(details_of(product, known))
    return {
        "output": product.output,
        "target": product.target,
        "label": "" if target is None else target.label,
        "date": None if target is None else date_of(target),
        "imprints": list(imprints_of_target(product)),
        "skipped": product.skipped,
        "problem": product.problem,
        "backgrounds": [
            {**_background(each), "imprints": list(each.imprints)}
            for each in details
            if each.reason is None
        ],
        "dropped": [
            {**_background(each), "reason": each.reason}
            for each in details
            if each.reason is not None
        ],
    }


def _background(detail: Detail) -> dict[str, Any]:
    apart = detail.separation
    return {
        "file": detail.file,
        "date": detail.date,
        "separation_arcsec": None if apart is None else round(apart, 4),
    }


def headline(plan: Plan, numbers: tuple[int, ...]) -> str:
    """Return what some products have in common: "MIRI F1140C MASK1140: 5 targets x 3 backgrounds".

    Parameters
    ----------
    plan : Plan
        The plan.
    numbers : tuple of int
        Places of the products.
    """
    members = [plan.products[i] for i in numbers]
    target = plan.file_of.get(members[0].target)
    label = "" if target is None else target.label
    counts = sorted({len(each.backgrounds) for each in members})
    several = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    n_targets = len(members)
    return (
        f"{label or Path(members[0].target).name}: {n_targets} target{'s' * (n_targets != 1)} x "
        f"{several} background{'s' * (counts[-1] != 1)}"
    )
