"""Choose among the backgrounds that a target could have: by limits and by suitability."""

from collections.abc import Sequence

from offsky.errors import ExposureMismatchError
from offsky.selection.apart import days_between, separation
from offsky.selection.examined import Examined, Paired
from offsky.selection.pairing import Pairing
from offsky.selection.precedents import Precedents
from offsky.selection.suitability import Judgement, Policy, judge


def choose(
    target: Examined,
    backgrounds: Sequence[Examined],
    pairing: Pairing,
    policy: Policy,
    *,
    none: str = "no backgrounds",
    as_written: bool = False,
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
        What to say where `backgrounds` is empty.
    as_written : bool
        The list was written by someone: what does not fit is a problem, as it is in a
        single run, and not to be left out quietly.
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
    dropped: list[tuple[str, str]] = []
    kept: Sequence[Examined] = backgrounds
    if pairing.has_limits:
        kept = []
        for background in backgrounds:
            reason = _limits(target, background, pairing)
            if reason is None:
                kept.append(background)
            else:
                dropped.append((background.path, reason))
    problem = None
    if kept:
        if target.metadata.status == "COMPLETE" and not policy.force and not as_written:
            return Paired(
                target.path,
                dropped=tuple(dropped),
                skipped="its background has been subtracted already (S_BKDSUB is COMPLETE)",
            )
        candidates = [each.candidate for each in kept]
        if not (precedents or Precedents(policy)).all_used(target.candidate, candidates):
            kept, unfit, problem = _judged(target, kept, policy, as_written)
            dropped += unfit
    if pairing.nearest is not None and len(kept) > pairing.nearest:
        near = set(sorted(kept, key=lambda each: days_between(target, each))[: pairing.nearest])
        reason = f"not among the {pairing.nearest} nearest in time"
        dropped += [(each.path, reason) for each in kept if each not in near]
        kept = [each for each in kept if each in near]
    skipped = None
    if len(kept) < pairing.least and problem is None:
        skipped = (
            none
            if not backgrounds
            else f"{len(kept)} of {len(backgrounds)} backgrounds left, fewer than {pairing.least}"
        )
    return Paired(
        target.path,
        tuple(each.path for each in kept),
        tuple(dropped),
        skipped,
        problem,
    )


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


def _limits(target: Examined, background: Examined, pairing: Pairing) -> str | None:
    """Say which limit of the pairing a background is beyond."""
    if pairing.max_days is not None:
        days = days_between(target, background)
        if days > pairing.max_days:
            return f"{days:.3g} days from the target, more than {pairing.max_days:g}"
    if pairing.min_separation is not None:
        arcsec = separation(target, background)
        if arcsec < pairing.min_separation:
            return f'{arcsec:.3g}" from the target, less than {pairing.min_separation:g}"'
    if pairing.nearest is not None:
        # Also where there are few enough: the plan must not hang on their number.
        days_between(target, background)
    return None
