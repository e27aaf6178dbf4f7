"""The imprints of planned products: found, and said where there is none that fits."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from offsky.programme.plan import PlannedProduct
from offsky.selection.examined import Examined
from offsky.selection.imprints import ImprintsOfProgramme, choose_imprints, none_fits, one_sided

log = logging.getLogger(__name__)

_Chosen = dict[tuple[int, str], tuple[str, ...]]
"""The imprints of an exposure, by the list that they were chosen from and the exposure."""


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
    known: _Chosen = {}
    if among:
        of_programme = ImprintsOfProgramme(among)
        return tuple(_added(each, examined, of_programme.there, known) for each in products)
    if not any(members):
        if not any(each.metadata.had_imprint for each in examined.values()):
            return tuple(products)
        members = [()] * len(products)
    return tuple(
        _added(product, examined, partial(_same, own), known)
        for product, own in zip(products, members, strict=True)
    )


def _same(imprints: Sequence[Examined], _: Sequence[Examined]) -> Sequence[Examined]:
    return imprints


def _added(
    product: PlannedProduct,
    examined: Mapping[str, Examined],
    find: Callable[[Sequence[Examined]], Sequence[Examined]],
    known: _Chosen,
) -> PlannedProduct:
    """Return a product with its imprints.

    `find` returns those that there are for it; `known` keeps what was chosen among them.
    """
    paths = (product.target, *product.backgrounds)
    if product.skipped is not None or not product.backgrounds:
        return product
    exposures = [examined[path] for path in paths if path in examined]
    if len(exposures) < len(paths):
        return product
    there = find(exposures)
    chosen: list[tuple[str, ...]] = []
    for exposure in exposures:
        key = id(there), exposure.path
        if key not in known:
            known[key] = _chosen(exposure, there)
        chosen.append(known[key])
    had = [
        bool(imprints) or each.metadata.had_imprint
        for each, imprints in zip(exposures, chosen, strict=True)
    ]
    complaint = None if product.force else one_sided(had, paths)
    problem = product.problem or complaint
    if not any(chosen):
        return replace(product, problem=problem)
    return replace(product, imprints=tuple(chosen), problem=problem)


def _chosen(exposure: Examined, there: Sequence[Examined]) -> tuple[str, ...]:
    """Return the paths of an exposure's imprints; say so where none fits."""
    if exposure.metadata.had_imprint:
        return ()
    places = choose_imprints(exposure.metadata, [each.metadata for each in there])
    if there and not places:
        log.warning("%s", none_fits(exposure.path, exposure.metadata, len(there)))
    return tuple(there[i].path for i in places)
