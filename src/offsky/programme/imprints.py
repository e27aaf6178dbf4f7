"""The imprints of planned products: found, and said where there is none that fits."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from offsky.programme.plan import PlannedProduct
from offsky.selection.examined import Examined
from offsky.selection.imprints import ImprintsOfProgramme, choose_imprints, none_fits, one_sided

log = logging.getLogger(__name__)


def add_imprints(
    products: Sequence[PlannedProduct],
    examined: Mapping[str, Examined],
    among: Sequence[Examined],
    members: Sequence[Sequence[Examined]],
) -> tuple[PlannedProduct, ...]:
    """Return products with their imprints.

    Parameters
    ----------
    products : sequence of PlannedProduct
        The products.
    examined : mapping of str to Examined
        Exposures by their paths; a product with others stays as it is.
    among : sequence of Examined
        The imprints among the exposures of a programme.
    members : sequence of sequences of Examined
        The imprints of each product, as associations give them; empty for none.
    """
    if among:
        of_programme = ImprintsOfProgramme(among)
        return tuple(_added(product, examined, of_programme.there) for product in products)
    if not any(members):
        return tuple(products)
    return tuple(
        _added(product, examined, partial(_same, own))
        for product, own in zip(products, members, strict=True)
    )


def _same(imprints: Sequence[Examined], _: Sequence[Examined]) -> Sequence[Examined]:
    return imprints


def _added(
    product: PlannedProduct,
    examined: Mapping[str, Examined],
    find: Callable[[Sequence[Examined]], Sequence[Examined]],
) -> PlannedProduct:
    """Return a product with its imprints; `find` returns those that there are for it."""
    paths = (product.target, *product.backgrounds)
    if product.skipped is not None or not product.backgrounds:
        return product
    exposures = [examined[path] for path in paths if path in examined]
    if len(exposures) < len(paths):
        return product
    there = find(exposures)
    if not there:
        return product
    known = [each.metadata for each in there]
    chosen: list[tuple[str, ...]] = []
    had = []
    for exposure in exposures:
        metadata = exposure.metadata
        places = () if metadata.had_imprint else choose_imprints(metadata, known)
        chosen.append(tuple(there[i].path for i in places))
        had.append(bool(places) or metadata.had_imprint)
        if not had[-1]:
            log.warning("%s", none_fits(exposure.path, exposure.metadata, len(there)))
    complaint = None if product.force else one_sided(had, paths)
    problem = product.problem or complaint
    if not any(chosen):
        return replace(product, problem=problem)
    return replace(product, imprints=tuple(chosen), problem=problem)
