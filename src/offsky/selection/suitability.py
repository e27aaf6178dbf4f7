"""Which backgrounds may be used with a target, told from their headers alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isclose, sqrt
from typing import Literal

from offsky.combine.rule import largest_deviation
from offsky.errors import ExposureMismatchError
from offsky.options import Options
from offsky.selection.placing import Placement, place
from offsky.units import relation
from offsky.values.metadata import KEYWORDS, Metadata
from offsky.values.window import Window

TILT_TOLERANCE = 1e-8
"""Largest difference of NIRSpec's grating wheel tilt (the JWST pipeline's)."""

# In these a background has to be like the target ...
CONFIGURATION = (
    *("instrument", "detector", "filter", "pupil", "grating", "band", "channel"),
    # Of one detector they are the same, unless an image has been turned.
    *("fastaxis", "slowaxis"),
)
# ... and in these it should be.
_SHOULD_AGREE = ("readpatt", "exposure_time", "ngroups")

Fate = Literal["used", "dropped"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How strict to be.

    Attributes
    ----------
    force : bool
        Go on with a warning where exposures are of another configuration, are given
        twice, or the target has been subtracted before.
    all_or_nothing_tilt : bool
        Use none of the backgrounds where one has another grating wheel tilt, as the
        JWST pipeline does; else only that one is dropped.
    """

    force: bool = False
    all_or_nothing_tilt: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A background before it is judged, or the target.

    Attributes
    ----------
    placement : Placement
        Its name, shape and header.
    same_as : object
        Equal for two that are the same file or model; hashable.
    """

    placement: Placement
    same_as: object

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.placement.name

    @property
    def metadata(self) -> Metadata:
        """Its header."""
        return self.placement.metadata


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one background.

    Attributes
    ----------
    name : str
        The background.
    window : Window
        Where it lies on the detector.
    fate : str
        "used" or "dropped".
    remarks : tuple of str
        Why, and what else there is to say.
    """

    name: str
    window: Window
    fate: Fate = "used"
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of all backgrounds.

    Attributes
    ----------
    frame : Window
        The window of the target (of the first background, without a target).
    verdicts : tuple of Verdict
        One for each background, in their order.
    warnings : tuple of str
        What holds for all of them.
    """

    frame: Window
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...] = ()

    @property
    def n_used(self) -> int:
        """Backgrounds used."""
        return sum(verdict.fate == "used" for verdict in self.verdicts)


def judge(target: Candidate | None, backgrounds: Sequence[Candidate], policy: Policy) -> Judgement:
    """Decide on each background from headers and shapes.

    Parameters
    ----------
    target : Candidate or None
        What the average will be subtracted from; None to hold the backgrounds
        against the first of them.
    backgrounds : sequence of Candidate
        At least one.
    policy : Policy
        How strict to be.

    Returns
    -------
    Judgement

    Raises
    ------
    ExposureMismatchError
        Where one may not be used and the policy does not forgive it.
    """
    reference = backgrounds[0] if target is None else target
    everything = list(backgrounds) if target is None else [target, *backgrounds]
    # Before windows: of an exposure of another instrument they say nothing.
    objections = _objections(target, reference, backgrounds, policy)
    try:
        windows, assumed = place([candidate.placement for candidate in everything])
    except ExposureMismatchError as error:
        forgiven = [each for of_one in objections for each in of_one]
        if not forgiven:
            raise
        raise ExposureMismatchError(f"{'; '.join(forgiven)}; and {error}") from error
    warnings = [] if assumed is None else [assumed]
    frame = windows[0]
    if target is not None:
        windows = windows[1:]
        if target.metadata.status == "COMPLETE":
            warnings.append(
                forgive(
                    policy,
                    f"{target.name}: its background has been subtracted already (S_BKDSUB is "
                    "COMPLETE); subtracting twice spoils it",
                )
            )

    verdicts = []
    for background, window, own in zip(backgrounds, windows, objections, strict=True):
        verdict = Verdict(background.name, window)
        for objection in own:
            verdict = _remark(verdict, objection)
        check_unit(reference, background)
        for remark in _differences(reference, background):
            verdict = _remark(verdict, remark)
        tilt = _tilt_difference(reference, background)
        if tilt is not None:
            verdict = _remark(replace(verdict, fate="dropped"), tilt)
        elif window.overlap(frame) is None:
            verdict = _remark(replace(verdict, fate="dropped"), f"does not overlap ({window})")
        elif window.overlap(frame) != frame:
            verdict = _remark(verdict, f"covers a part only ({window})")
        verdicts.append(verdict)

    if policy.all_or_nothing_tilt and any(
        _tilt_difference(reference, background) for background in backgrounds
    ):
        verdicts = [
            _remark(replace(verdict, fate="dropped"), "GWA tilt of another background differs")
            if verdict.fate == "used"
            else verdict
            for verdict in verdicts
        ]
    return Judgement(frame, tuple(verdicts), tuple(warnings))


def same_configuration(a: Metadata, b: Metadata) -> bool:
    """Tell whether two exposures are alike as far as both headers say.

    In instrument, detector, filter, pupil, grating, band, channel, axes of readout, kind
    of exposure and unit.
    """
    names = (*CONFIGURATION, "family")
    return not any(differ(getattr(a, name), getattr(b, name)) for name in names) and (
        None in (a.unit, b.unit) or relation(str(a.unit), str(b.unit)) == "same"
    )


def clip_warning(n_exposures: int, options: Options) -> str | None:
    """Say so where the clip by standard deviations can never reject an exposure.

    See `offsky.combine.rule.largest_deviation`; from the mean it is sqrt(n - 1).
    """
    if n_exposures < 2 or options.maxiters == 0 or options.reject != "sigma":
        return None
    by_median = options.center == "median"
    reach = largest_deviation(n_exposures) if by_median else sqrt(n_exposures - 1)
    sides = (options.sigma_lower, options.sigma_upper)
    sigma = min(options.sigma if side is None else side for side in sides)
    if reach >= sigma:
        return None
    # The largest threshold that can still be passed, rounded down. Two samples lie
    # equally far from their median: a lower threshold would reject both.
    remedy = f"a sigma below {int(reach * 10) / 10:g} or " if n_exposures > 2 else ""
    return (
        f"with {n_exposures} backgrounds no sample can be farther than {reach:.2f} standard "
        f"deviations from the {options.center}, so that sigma = {sigma:g} rejects nothing; "
        f"{remedy}more backgrounds would help"
    )


def forgive(policy: Policy, complaint: str, remedy: str = "leave it out") -> str:
    """Return a complaint as a remark where the policy allows it, else raise."""
    if policy.force:
        return complaint
    raise ExposureMismatchError(f"{complaint}; {remedy}, or go on with force (--force)")


def _remark(verdict: Verdict, remark: str) -> Verdict:
    """Add a remark, without the name it may begin with."""
    return replace(verdict, remarks=(*verdict.remarks, remark.removeprefix(f"{verdict.name}: ")))


def _objections(
    target: Candidate | None,
    reference: Candidate,
    backgrounds: Sequence[Candidate],
    policy: Policy,
) -> list[list[str]]:
    """Return the objections to each background; raise the first that is not forgiven."""
    earlier: set[object] = set()
    objections = []
    for background in backgrounds:
        own = _identity_objections(target, earlier, background)
        own += configuration_objections(reference, background)
        earlier.add(background.same_as)
        objections.append([forgive(policy, f"{background.name}: {each}") for each in own])
    return objections


def _identity_objections(
    target: Candidate | None, earlier: set[object], background: Candidate
) -> list[str]:
    objections = []
    if target is not None:
        identity = target.metadata.identity
        if background.same_as == target.same_as:
            objections.append("is the target itself")
        elif identity is not None and identity == background.metadata.identity:
            ours, theirs = target.metadata.segment, background.metadata.segment
            objections.append(
                "is the target's own exposure by its header"
                if ours == theirs or None in (ours, theirs)
                else f"is another segment of the target's own exposure (EXSEGNUM {theirs}, "
                f"the target's is {ours})"
            )
    if background.same_as in earlier:
        objections.append("is named twice")
    return objections


def configuration_objections(reference: Candidate, background: Candidate) -> list[str]:
    """Return in what a background's header differs from its reference's, and must not."""
    ours, theirs = reference.metadata, background.metadata
    objections = [
        f"{KEYWORDS[name]} {_quoted(getattr(theirs, name))} differs from {reference.name}'s "
        f"{_quoted(getattr(ours, name))}"
        for name in CONFIGURATION
        if differ(getattr(ours, name), getattr(theirs, name))
    ]
    if differ(ours.family, theirs.family):
        objections.append(
            f"EXP_TYPE {_quoted(theirs.exp_type)} is another kind than {reference.name}'s "
            f"{_quoted(ours.exp_type)}"
        )
    return objections


def check_unit(reference: Candidate, background: Candidate) -> None:
    """Raise ExposureMismatchError if an exposure is of another unit than its reference."""
    ours, theirs = reference.metadata.unit, background.metadata.unit
    if ours is None or theirs is None:
        return
    related = relation(theirs, ours)
    if related == "same":
        return
    remedy = "calibrate both to the same stage or leave it out"
    if related == "convertible":
        remedy = "convert its SCI, ERR and VAR_* (and BUNIT), or leave it out"
    raise ExposureMismatchError(
        f"{background.name}: unit {theirs!r} differs from {reference.name}'s {ours!r}; {remedy}"
    )


def _differences(reference: Candidate, background: Candidate) -> list[str]:
    ours, theirs = reference.metadata, background.metadata
    return [
        f"{KEYWORDS[name]} {getattr(theirs, name)} (not {getattr(ours, name)})"
        for name in _SHOULD_AGREE
        if differ(getattr(ours, name), getattr(theirs, name))
    ]


def _tilt_difference(reference: Candidate, background: Candidate) -> str | None:
    """Tell how NIRSpec's grating wheel differs; absent on both sides is equal."""
    ours, theirs = reference.metadata, background.metadata
    if (ours.instrument or "").upper() != "NIRSPEC":
        return None
    for name in ("gwa_xtilt", "gwa_ytilt"):
        a, b = getattr(ours, name), getattr(theirs, name)
        for each, facts in ((background, theirs), (reference, ours)):
            if name in dict(facts.odd):
                return f"{each.name}: {KEYWORDS[name]} is {dict(facts.odd)[name]}, no number"
        if a is None and b is None:
            continue
        if a is None or b is None or not isclose(a, b, rel_tol=0, abs_tol=TILT_TOLERANCE):
            return f"{KEYWORDS[name]} {b} differs from {reference.name}'s {a}"
    return None


def differ(a: object, b: object) -> bool:
    """Tell whether two values are both known and differ."""
    if a is None or b is None:
        return False
    if isinstance(a, str) and isinstance(b, str):
        return a.strip().upper() != b.strip().upper()
    if isinstance(a, float | int) and isinstance(b, float | int):
        return not isclose(a, b, rel_tol=1e-6)
    return a != b


def _quoted(value: object) -> str:
    return repr(value)
