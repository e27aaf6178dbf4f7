"""Choose the backgrounds for a target and say so, before pixels are read."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from offsky.combine.placed import place_exposure
from offsky.combine.planes import MOST_EXPOSURES
from offsky.combine.variances import WithVariances
from offsky.combine.whole import Assembled
from offsky.effect import Run
from offsky.errors import ExposureError, ExposureMismatchError
from offsky.options import Options, without_effect
from offsky.selection.placing import Placement
from offsky.selection.suitability import Candidate, Judgement, Policy, Verdict, clip_warning, judge
from offsky.values.exposure import Exposure
from offsky.values.metadata import Metadata
from offsky.values.window import Window

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
    run : Run or None
        What decides which options have no effect; None without backgrounds.
    """

    exposures: list[Exposure]
    verdicts: tuple[Verdict, ...]
    frame: Window | None = None
    run: Run | None = None

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
    chosen = [
        (background, verdict.window)
        for background, verdict in zip(backgrounds, judgement.verdicts, strict=True)
        if verdict.fate == "used"
    ]
    _log_choice(judgement)
    if options.errors == "propagate":
        bare = [background.name for background, _ in chosen if not background.has_variances]
        _log_errors(target, bare)
        if not bare:
            chosen = [(WithVariances(background), window) for background, window in chosen]
    used = [
        placed
        for background, window in chosen
        if (placed := place_exposure(background, window, judgement.frame)) is not None
    ]
    for exposure in used:
        for extension, effect in (("ERR", "errors count as unknown"), ("DQ", "flags as none")):
            if extension in exposure.missing:
                log.warning("%s: no %s image, its %s", exposure.name, extension, effect)
    useless_clip = clip_warning(len(used), options)
    if useless_clip is not None:
        log.warning("%s", useless_clip)
    n_integrations = tuple(each.shape[0] if len(each.shape) == 3 else 1 for each in used)
    run = Run(len(used), target is not None, n_integrations)
    for sentence in without_effect(
        options, len(used), subtracts=run.subtracts, n_integrations=n_integrations
    ):
        log.warning("%s", sentence)
    return Choice(used, judgement.verdicts, judgement.frame, run)


def warn_of_gaps(
    assembled: Assembled, options: Options, n_err_unknown: int = 0, *, target: bool = True
) -> None:
    """Log what the averaging met that the headers could not tell.

    Parameters
    ----------
    assembled : Assembled
        The average.
    options : Options
        What it was made by.
    n_err_unknown : int
        Pixels of a target whose average has no known error.
    target : bool
        Whether it was subtracted from one.
    """
    if assembled.n_uncovered:
        fate = "set to NaN" if options.uncovered == "nan" else "not subtracted"
        if not target:
            fate = "NaN in the average"
        log.warning(
            "%d pixels have no background sample; they are %s", assembled.n_uncovered, fate
        )
    if assembled.average.n_err_estimated:
        log.warning(
            "%d pixels have samples without a finite ERR; theirs was taken to be like the others'",
            assembled.average.n_err_estimated,
        )
    if n_err_unknown:
        log.warning(
            "the error of the average is not known at %d pixels; there the target's errors stay "
            "as they were, without it",
            n_err_unknown,
        )


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
