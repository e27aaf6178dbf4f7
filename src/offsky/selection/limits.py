"""Choose among the backgrounds that a target could have: by limits and by suitability."""

from collections.abc import Sequence
from dataclasses import replace

from offsky.errors import ExposureMismatchError, ParameterError
from offsky.selection.apart import days_between, separation
from offsky.selection.examined import Dropped, Examined, Paired, dropped_files
from offsky.selection.pairing import Pairing, in_arcsec_or_fwhm
from offsky.selection.precedents import Precedents
from offsky.selection.readout import match_readout
from offsky.selection.suitability import Judgement, Policy, judge
from offsky.values.fwhm import point_fwhm

SUBTRACTED = "its background has been subtracted already (S_BKDSUB is COMPLETE)"


def choose(
    target: Examined,
    backgrounds: Sequence[Examined],
    pairing: Pairing,
    policy: Policy,
    *,
    none: str = "no backgrounds",
    as_written: bool = False,
    dropped: Sequence[Dropped] = (),
    afterwards: Sequence[Dropped] = (),
    among: tuple[str, ...] | None = None,
    precedents: Precedents | None = None,
) -> Paired:
    """Choose among the backgrounds that a target could have.

    Parameters
    ----------
    target : Examined
        The target.
    backgrounds : sequence of Examined
        In the order they will be averaged in.
    pairing : Pairing
        Limits in time, distance and number.
    policy : Policy
        How strict to be.
    none : str
        What to say where there is nothing to choose among.
    as_written : bool
        The list was written by someone: what does not fit is a problem, as it is in a
        single run, and not to be left out quietly.
    dropped : sequence of Dropped
        What a rule has left out of `backgrounds`.
    afterwards : sequence of Dropped
        More of them, true of whatever has no other reason.
    among : tuple of str or None
        The paths of all backgrounds and more, as of `Dropped`; None for those of `backgrounds`.
    precedents : Precedents or None
        What is known of other targets, by the same policy; None for this one alone.

    Returns
    -------
    Paired

    Raises
    ------
    ParameterError
        If the pairing needs a time or a pointing that a header does not give.
    """
    left_out = list(dropped)
    if among is None:
        among = tuple(each.path for each in backgrounds)
    if not (as_written or policy.force):
        if target.metadata.status == "COMPLETE" and backgrounds:
            return Paired(target.path, skipped=SUBTRACTED)
        subtracted = [each.path for each in backgrounds if each.metadata.status == "COMPLETE"]
        if subtracted:
            left_out.append(Dropped(SUBTRACTED, tuple(subtracted)))
            backgrounds = [each for each in backgrounds if each.metadata.status != "COMPLETE"]
    if pairing.match_readout:
        backgrounds, otherwise = match_readout(target, backgrounds)
        left_out += _by_reason(otherwise)
    beyond = Beyond(pairing)
    kept = beyond.sort_out(target, backgrounds) if pairing.has_limits else backgrounds
    problem = None
    if kept:
        candidates = [each.candidate for each in kept]
        if not (precedents or Precedents(policy)).all_used(target.candidate, candidates):
            kept, unfit, problem = _judged(target, kept, policy, as_written)
            left_out += _by_reason(unfit)
    if pairing.nearest is not None:
        kept = beyond.nearest(target, kept)
    if beyond.reasons:
        left_out.append(Dropped("; ".join(beyond.reasons), among))
    left_out += afterwards
    paired = Paired(target.path, tuple(each.path for each in kept), tuple(left_out), None, problem)
    if len(kept) < pairing.least and problem is None:
        return replace(paired, skipped=_too_few(paired, pairing.least, none))
    return paired


def _too_few(paired: Paired, least: int, none: str) -> str:
    """Return why there are too few backgrounds."""
    reasons = [(reason, len(files)) for reason, files in dropped_files(paired) if files]
    n_kept = len(paired.backgrounds)
    n_all = n_kept + sum(n for _, n in reasons)
    if not n_all:
        return none
    why = "; ".join(f"{n} dropped: {reason}" for reason, n in reasons)
    left = f"{n_kept} of {n_all} backgrounds left, fewer than {least}"
    return f"{left} ({why})" if why else left


def _by_reason(dropped: Sequence[tuple[str, str]]) -> list[Dropped]:
    """Return files that were dropped for one reason as one entry."""
    files: dict[str, list[str]] = {}
    for path, reason in dropped:
        files.setdefault(reason, []).append(path)
    return [Dropped(reason, tuple(paths)) for reason, paths in files.items()]


class Beyond:
    """Sorts out backgrounds that are beyond the limits of a pairing.

    Parameters
    ----------
    pairing : Pairing
        The limits.

    Attributes
    ----------
    reasons : list of str
        What was sorted out, one sentence for each limit.
    """

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self.reasons: list[str] = []

    def sort_out(self, target: Examined, backgrounds: Sequence[Examined]) -> list[Examined]:
        """Return those within the limits of time and distance."""
        pairing = self._pairing
        kept = list(backgrounds)
        if pairing.max_days is not None:
            days = [days_between(target, each) for each in kept]
            far = [each for each in days if each > pairing.max_days]
            if far:
                days_away = f"{_range(far)} day{'' if _range(far) == '1' else 's'}"
                self.reasons.append(f"{days_away} from the target, more than {pairing.max_days:g}")
                kept = [b for b, d in zip(kept, days, strict=True) if d <= pairing.max_days]
        least, limit = _least_separation(target, pairing)
        if least is not None:
            arcsec = [separation(target, each) for each in kept]
            near = [each for each in arcsec if each < least]
            if near:
                self.reasons.append(f'{_range(near)}" from the target, less than {limit}')
                kept = [b for b, s in zip(kept, arcsec, strict=True) if s >= least]
        return kept

    def nearest(self, target: Examined, backgrounds: Sequence[Examined]) -> Sequence[Examined]:
        """Return those nearest in time, as many as the pairing wants."""
        wanted = self._pairing.nearest
        # Also where there are few enough: the plan must not hang on their number.
        days = {each: days_between(target, each) for each in backgrounds}
        if wanted is None or len(backgrounds) <= wanted:
            return backgrounds
        near = set(sorted(backgrounds, key=days.__getitem__)[:wanted])
        self.reasons.append(f"not among the {wanted} nearest in time")
        return [each for each in backgrounds if each in near]


def _least_separation(target: Examined, pairing: Pairing) -> tuple[float | None, str]:
    """Return the least separation in arcsec, and in words."""
    arcsec, in_fwhm = in_arcsec_or_fwhm(pairing.min_separation)
    if in_fwhm is None:
        return arcsec, f'{arcsec or 0:g}"'
    m = target.metadata
    fwhm = point_fwhm(m)
    if fwhm is None:
        raise ParameterError(
            f"{target.name}: no width of a point source is known for its filter (FILTER "
            f"{m.filter or 'not given'}); give --min-separation in arcsec"
        )
    return in_fwhm * fwhm, f'{in_fwhm:g} FWHM ({in_fwhm * fwhm:.3g}")'


def _range(values: Sequence[float]) -> str:
    least, most = f"{min(values):.3g}", f"{max(values):.3g}"
    return least if least == most else f"{least} to {most}"


def _judged(
    target: Examined, backgrounds: Sequence[Examined], policy: Policy, as_written: bool
) -> tuple[Sequence[Examined], list[tuple[str, str]], str | None]:
    """Sort out what a single run would not use: kept, dropped with reason, problem."""
    try:
        judgement = judge(target.candidate, [each.candidate for each in backgrounds], policy)
    except ExposureMismatchError as error:
        if as_written:
            return backgrounds, [], str(error)
    else:
        return (*_sorted_out(backgrounds, judgement), None)

    # One of them, or some together, may not be used: first each by itself.
    fitting: list[Examined] = []
    dropped: list[tuple[str, str]] = []
    for background in backgrounds:
        try:
            judge(target.candidate, [background.candidate], policy)
        except ExposureMismatchError as error:
            dropped.append((background.path, _bare(str(error), background.name)))
        else:
            fitting.append(background)
    if not fitting:
        return fitting, dropped, None
    try:
        judgement = judge(target.candidate, [each.candidate for each in fitting], policy)
    except ExposureMismatchError as error:
        return fitting, dropped, str(error)
    kept, unfit = _sorted_out(fitting, judgement)
    return kept, dropped + unfit, None


def _sorted_out(
    backgrounds: Sequence[Examined], judgement: Judgement
) -> tuple[list[Examined], list[tuple[str, str]]]:
    kept, dropped = [], []
    for background, verdict in zip(backgrounds, judgement.verdicts, strict=True):
        if verdict.fate == "used":
            kept.append(background)
        else:
            dropped.append((background.path, "; ".join(verdict.remarks)))
    return kept, dropped


def _bare(message: str, name: str) -> str:
    """Return a message without the file's name and the ways out that are the user's."""
    return message.removeprefix(f"{name}: ").partition("; leave it out")[0]
