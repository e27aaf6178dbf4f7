"""The imprints of an order: opened, chosen, checked, and joined to their exposures."""

import logging
from collections.abc import Sequence
from typing import Any

from offsky.engine.inputs import Inputs
from offsky.engine.order import Order
from offsky.errors import ExposureMismatchError
from offsky.io.imprinted import ImprintedExposure
from offsky.selection.choose import Selection, candidate_of
from offsky.selection.imprints import (
    choose_imprints,
    imprint_objections,
    none_fits,
    one_sided,
)
from offsky.selection.placing import place
from offsky.selection.suitability import Policy, check_unit, forgive
from offsky.values.exposure import Exposure

log = logging.getLogger(__name__)


def with_imprints(
    order: Order,
    inputs: Inputs,
    target: Exposure | None,
    backgrounds: Sequence[Exposure],
    selection: Selection,
) -> tuple[Exposure | None, list[Exposure]]:
    """Join imprints to the target of an order and to the backgrounds that are used.

    Parameters
    ----------
    order : Order
        The order, with its imprints or those to choose from.
    inputs : Inputs
        Where its files are opened.
    target : Exposure or None
        Its target.
    backgrounds : sequence of Exposure
        All of its backgrounds.
    selection : Selection
        Which of them are used.

    Returns
    -------
    target : Exposure or None
    backgrounds : list of Exposure
        The same, each minus its imprint where it has one. A background that is not used
        stays as it is.

    Raises
    ------
    ExposureError
        For an imprint that is missing, damaged or does not fit, and where some exposures
        have one and others do not.
    """
    used = set(selection.used)
    wanted = [True] * (target is not None) + [i in used for i in range(len(backgrounds))]
    exposures = [*([] if target is None else [target]), *backgrounds]
    corrected = list(exposures)
    if used and (order.imprints or order.imprint_choice):
        given = _given(order, inputs, target, backgrounds)
        for i, (exposure, imprints) in enumerate(zip(exposures, given, strict=True)):
            if wanted[i] and imprints:
                corrected[i] = _joined(exposure, imprints, inputs, order.policy)
    _check_all_alike([each for each, is_used in zip(corrected, wanted, strict=True) if is_used],
                     order.policy)  # fmt: skip
    if target is None:
        return None, corrected
    return corrected[0], corrected[1:]


def _given(
    order: Order, inputs: Inputs, target: Exposure | None, backgrounds: Sequence[Exposure]
) -> list[tuple[Any, ...]]:
    """Return the imprints of the target, if any, and of each background."""
    exposures = [*([] if target is None else [target]), *backgrounds]
    if order.imprints:
        return list(order.imprints if target is not None else order.imprints[1:])
    found: list[tuple[Any, ...]] = []
    known = [inputs.of(each).metadata for each in order.imprint_choice]
    for exposure in exposures:
        chosen = choose_imprints(exposure.metadata, known)
        if not chosen and not exposure.metadata.had_imprint:
            log.warning("%s", none_fits(exposure.name, exposure.metadata, len(known)))
        found.append(tuple(order.imprint_choice[i] for i in chosen))
    return found


def _joined(
    exposure: Exposure, imprints: Sequence[Any], inputs: Inputs, policy: Policy
) -> Exposure:
    """Return an exposure minus its imprints; as it is where that has been done already."""
    if exposure.metadata.had_imprint:
        log.warning(
            "%s: an imprint has been subtracted from it already (S_IMPRNT is COMPLETE); none is "
            "subtracted again",
            exposure.name,
        )
        return exposure
    opened = [inputs.of(each) for each in imprints]
    for imprint in opened:
        _check(exposure, imprint, policy)
    log.info("%s: minus the imprint %s", exposure.name, ", ".join(each.name for each in opened))
    return inputs.imprinted(exposure, opened)


def _check(exposure: Exposure, imprint: Exposure, policy: Policy) -> None:
    """Raise ExposureMismatchError unless an imprint fits an exposure."""
    ours, theirs = candidate_of(exposure), candidate_of(imprint)
    for objection in imprint_objections(ours, theirs):
        log.warning("%s", forgive(policy, f"{imprint.name}: the imprint {objection}"))
    if len(imprint.shape) != 2:
        raise ExposureMismatchError(
            f"{imprint.name}: an imprint of {imprint.shape[0]} integrations; expected an image, "
            "its _rate.fits"
        )
    check_unit(ours, theirs)
    if imprint.shape != exposure.shape[-2:]:
        (ny, nx), (n_rows, n_columns) = imprint.shape, exposure.shape[-2:]
        raise ExposureMismatchError(
            f"{imprint.name}: an imprint of {ny} rows by {nx} columns, where {exposure.name} has "
            f"{n_rows} by {n_columns}; expected one of the same window"
        )
    (own, other), _ = place([ours.placement, theirs.placement])
    if own != other:
        raise ExposureMismatchError(
            f"{imprint.name}: an imprint of {other}, where {exposure.name} has {own}; expected "
            "one of the same window"
        )


def _check_all_alike(exposures: Sequence[Exposure], policy: Policy) -> None:
    """Raise ExposureMismatchError where some have had an imprint subtracted, others not."""
    had = [e.metadata.had_imprint or isinstance(e, ImprintedExposure) for e in exposures]
    complaint = one_sided(had, [each.name for each in exposures])
    if complaint is not None:
        log.warning("%s", forgive(policy, complaint, "give both one, or none"))
