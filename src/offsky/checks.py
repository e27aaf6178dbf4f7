"""Choose the backgrounds for a target and say so, before pixels are read."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from offsky.combine import MOST_EXPOSURES
from offsky.errors import ExposureError, ExposureMismatchError
from offsky.exposure import Exposure
from offsky.metadata import Metadata
from offsky.options import Options
from offsky.placed import place_exposure
from offsky.suitability import Candidate, Judgement, Policy, Verdict, clip_warning, judge
from offsky.window import Placement, Window

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """The backgrounds to average.

    Attributes
    ----------
    exposures : list of Exposure
        Those used, each with the rows and columns of the target.
    verdicts : tuple of Verdict
        What became of every background given.
    frame : Window or None
        The window of the target; None without backgrounds.
    """

    exposures: list[Exposure]
    verdicts: tuple[Verdict, ...]
    frame: Window | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the exposures used."""
        return tuple(exposure.name for exposure in self.exposures)

    @property
    def metadata(self) -> tuple[Metadata, ...]:
        """Headers of the exposures used."""
        return tuple(exposure.metadata for exposure in self.exposures)

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
) -> Choice:
    """Judge backgrounds by their headers, log a table, and place those used.

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
    Choice

    Raises
    ------
    ExposureMismatchError
        Where one may not be used with the target.
    """
    if not backgrounds:
        return Choice([], ())
    if len(backgrounds) > MOST_EXPOSURES:
        raise ExposureMismatchError(
            f"{len(backgrounds)} backgrounds; the most is {MOST_EXPOSURES}: average them in groups"
        )
    judgement = judge(
        None if target is None else _candidate(target),
        [_candidate(background) for background in backgrounds],
        policy,
    )
    used = [
        placed
        for background, verdict in zip(backgrounds, judgement.verdicts, strict=True)
        if verdict.fate == "used"
        and (placed := place_exposure(background, verdict.window, judgement.frame)) is not None
    ]
    _log_choice(judgement)
    for exposure in used:
        for extension, effect in (("ERR", "errors count as unknown"), ("DQ", "flags as none")):
            if extension in exposure.missing:
                log.warning("%s: no %s image, its %s", exposure.name, extension, effect)
    useless_clip = clip_warning(len(used), options)
    if useless_clip is not None:
        log.warning("%s", useless_clip)
    return Choice(used, judgement.verdicts, judgement.frame)


def warn_of_gaps(n_uncovered: int, n_err_estimated: int) -> None:
    """Log what the averaging met that the headers could not tell."""
    if n_uncovered:
        log.warning("%d pixels have no background sample; they are not subtracted", n_uncovered)
    if n_err_estimated:
        log.warning(
            "%d pixels have samples without a finite ERR; theirs was taken to be like the others'",
            n_err_estimated,
        )


def _candidate(exposure: Exposure) -> Candidate:
    n_rows, n_columns = exposure.shape[-2:]
    placement = Placement(exposure.name, (n_rows, n_columns), exposure.metadata)
    return Candidate(placement, exposure.same_as)


def _log_choice(judgement: Judgement) -> None:
    width = max(len(verdict.name) for verdict in judgement.verdicts)
    for verdict in judgement.verdicts:
        remarks = "; ".join(verdict.remarks)
        level = logging.WARNING if remarks else logging.INFO
        log.log(level, "%-*s  %-7s  %s", width, verdict.name, verdict.fate, remarks)
    for warning in judgement.warnings:
        log.warning("%s", warning)
