"""Choose the backgrounds for a target and say so, before pixels are read."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from offsky.effect import Run
from offsky.errors import ExposureError, ExposureMismatchError, ParameterError
from offsky.options import Options, without_effect
from offsky.selection.placing import Placement
from offsky.selection.suitability import (
    Candidate,
    Judgement,
    Policy,
    Verdict,
    clip_warning,
    judge,
)
from offsky.values.exposure import Exposure
from offsky.values.window import Window

log = logging.getLogger(__name__)

MOST_EXPOSURES = 65535
"""Samples of one pixel that the number of kept ones (uint16) can count."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The backgrounds that are averaged.

    Attributes
    ----------
    verdicts : tuple of Verdict
        One on every background given, in their order.
    frame : Window or None
        The window of the target, or of the first background; None without backgrounds.
    run : Run or None
        What decides which options have no effect; None without backgrounds.
    """

    verdicts: tuple[Verdict, ...] = ()
    frame: Window | None = None
    run: Run | None = None

    @property
    def used(self) -> tuple[int, ...]:
        """Places of those used in the list given."""
        return tuple(i for i, each in enumerate(self.verdicts) if each.fate == "used")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of those used."""
        return tuple(verdict.name for verdict in self.verdicts if verdict.fate == "used")

    @property
    def dropped(self) -> tuple[tuple[str, str], ...]:
        """Names of the others, with the reason."""
        return tuple((v.name, "; ".join(v.remarks)) for v in self.verdicts if v.fate == "dropped")


def check_target(target: Exposure) -> None:
    """Raise ExposureError unless the target has a DQ to combine flags into."""
    if "DQ" in target.missing:
        raise ExposureError(
            f"{target.name}: no DQ image, so that there is no place for the backgrounds' "
            "flags; expected a calibrated exposure such as _rate.fits"
        )


def choose_backgrounds(
    target: Exposure | None,
    backgrounds: Sequence[Exposure],
    *,
    policy: Policy,
    options: Options,
) -> Selection:
    """Judge backgrounds by their headers, and log a table.

    Parameters
    ----------
    target : Exposure or None
        What the average will be subtracted from.
    backgrounds : sequence of Exposure
        The exposures to average.
    policy : Policy
        How strict to be.
    options : Options
        How they will be averaged, to warn where that cannot work.

    Returns
    -------
    Selection

    Raises
    ------
    ExposureMismatchError
        Where one may not be used with the target, or none is left for an average alone.
    """
    if not backgrounds:
        if target is None:
            raise ParameterError("no backgrounds to average; name at least one file")
        return Selection()
    if len(backgrounds) > MOST_EXPOSURES:
        raise ExposureMismatchError(
            f"{len(backgrounds)} backgrounds; the most is {MOST_EXPOSURES}: average them in groups"
        )
    judgement = judge(
        None if target is None else candidate_of(target),
        [candidate_of(background) for background in backgrounds],
        policy,
    )
    _log_verdicts(judgement)
    selection = Selection(judgement.verdicts, judgement.frame)
    used = [backgrounds[i] for i in selection.used]
    n_integrations = tuple(each.shape[0] if len(each.shape) == 3 else 1 for each in used)
    run = Run(len(used), target is not None, n_integrations)
    if options.errors == "propagate":
        _log_errors(target, [each.name for each in used if not each.has_variances])
    for exposure in used:
        for extension, effect in (("ERR", "errors count as unknown"), ("DQ", "flags as none")):
            if extension in exposure.missing:
                log.warning("%s: no %s image, its %s", exposure.name, extension, effect)
    useless_clip = clip_warning(len(used), options)
    if useless_clip is not None:
        log.warning("%s", useless_clip)
    for sentence in without_effect(
        options, len(used), subtracts=run.subtracts, n_integrations=n_integrations
    ):
        log.warning("%s", sentence)
    return replace(selection, run=run)


def candidate_of(exposure: Exposure) -> Candidate:
    """Return what is judged of an exposure."""
    n_rows, n_columns = exposure.shape[-2:]
    placement = Placement(exposure.name, (n_rows, n_columns), exposure.metadata)
    return Candidate(placement, exposure.same_as)


def _log_errors(target: Exposure | None, bare: list[str]) -> None:
    """Say where errors cannot be propagated in full.

    Parameters
    ----------
    target : Exposure or None
        The target.
    bare : list of str
        Backgrounds without VAR_POISSON and VAR_RNOISE.
    """
    if bare:
        more = f" and {len(bare) - 1} more" if len(bare) > 1 else ""
        log.warning(
            "%s%s: no VAR_POISSON and VAR_RNOISE; of the average only ERR is known", bare[0], more
        )
    if target is None:
        return
    if not target.has_variances:
        effect = "no errors are propagated" if "ERR" in target.missing else "ERR alone is updated"
        log.warning("%s: no VAR_POISSON and VAR_RNOISE; %s", target.name, effect)
    elif bare:
        log.warning(
            "%s: the average's whole variance is added to VAR_RNOISE, since its parts by Poisson "
            "and by read noise are not known",
            target.name,
        )


def _log_verdicts(judgement: Judgement) -> None:
    width = max(len(verdict.name) for verdict in judgement.verdicts)
    for verdict in judgement.verdicts:
        remarks = "; ".join(verdict.remarks)
        level = logging.WARNING if remarks else logging.INFO
        log.log(level, "%-*s  %-7s  %s", width, verdict.name, verdict.fate, remarks)
    for warning in judgement.warnings:
        log.warning("%s", warning)
