"""Rules that find each target's backgrounds from headers alone: pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from math import asin, cos, degrees, hypot, radians, sin, sqrt
from typing import Literal

from offsky.errors import ExposureMismatchError, ParameterError
from offsky.selection.precedents import Precedents
from offsky.selection.suitability import (
    CONFIGURATION,
    Candidate,
    Judgement,
    Policy,
    judge,
    same_configuration,
)
from offsky.units import kind_of
from offsky.values.metadata import Metadata

Source = Literal["associations", "dedicated", "nods", "dithers"]

SOURCES: tuple[Source, ...] = ("associations", "dedicated", "nods", "dithers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """How products are made from exposures.

    Attributes
    ----------
    source : str
        "associations": as written in them. "dedicated": exposures with BKGDTARG true
        are backgrounds of all others of the same configuration. "nods" and "dithers":
        each exposure's backgrounds are the others of its group.
    max_days : float or None
        Most days between a target and a background.
    nearest : int or None
        Use only so many backgrounds, those nearest in time.
    min_backgrounds : int or None
        A product with fewer is skipped. None for 1, and for 0 in associations, where
        a product without backgrounds is a copy.
    min_separation : float or None
        Least distance of a background's pointing from the target's, in arcsec.

    Raises
    ------
    ParameterError
        For a value out of range.
    """

    source: Source = "associations"
    max_days: float | None = None
    nearest: int | None = None
    min_backgrounds: int | None = None
    min_separation: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.source not in SOURCES:
            raise ParameterError(
                f"products from {self.source!r}: expected one of {', '.join(SOURCES)}"
            )
        limits = (("max_days", 0), ("nearest", 1), ("min_backgrounds", 0), ("min_separation", 0))
        for name, least in limits:
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ParameterError(f"{name} is {value}: give {least} or more, or none at all")

    @property
    def has_limits(self) -> bool:
        """Whether times or pointings count."""
        limits = (self.max_days, self.min_separation, self.nearest)
        return any(limit is not None for limit in limits)

    @property
    def least(self) -> int:
        """Backgrounds that a product needs."""
        if self.min_backgrounds is not None:
            return self.min_backgrounds
        return 0 if self.source == "associations" else 1


_DAYS_TO_MJD = datetime(1858, 11, 17, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class Examined:
    """An exposure of which the headers have been read; equal only to itself.

    Attributes
    ----------
    path : str
        The file.
    candidate : Candidate
        Its name, shape, header and identity.
    """

    path: str
    candidate: Candidate

    @property
    def metadata(self) -> Metadata:
        """Its header."""
        return self.candidate.metadata

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.candidate.name

    @cached_property
    def mid_time(self) -> float | None:
        """When it was taken, in days (MJD); None where its header does not say."""
        return mid_time(self.metadata)

    @cached_property
    def configuration(self) -> tuple[object, ...]:
        """What a background has in common with its target; None where it is not known."""
        values = (getattr(self.metadata, name) for name in (*CONFIGURATION, "family"))
        unit = self.metadata.unit
        return (
            *(value.strip().upper() if isinstance(value, str) else value for value in values),
            None if unit is None else kind_of(unit),
        )


@dataclass(frozen=True, slots=True)
class Paired:
    """Backgrounds for one target.

    Attributes
    ----------
    target : str
        Path.
    backgrounds : tuple of str
        Those to use.
    dropped : tuple of (str, str)
        The others, each with the reason.
    skipped : str or None
        Why there will be no product.
    problem : str or None
        Why it is expected to fail.
    pattern : int or None
        Number of the nod or dither pattern that the target belongs to.
    """

    target: str
    backgrounds: tuple[str, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    skipped: str | None = None
    problem: str | None = None
    pattern: int | None = None


def choose_dedicated(
    exposures: Sequence[Examined], pairing: Pairing, policy: Policy
) -> list[Paired]:
    """Give every target the exposures with BKGDTARG true that are like it.

    Parameters
    ----------
    exposures : sequence of Examined
        Targets and backgrounds; imprints (IS_IMPRT true) are left out.
    pairing : Pairing
        Which of them to leave out.
    policy : Policy
        How strict to be.

    Returns
    -------
    list of Paired
        One for each exposure whose BKGDTARG is not true.
    """
    exposures = [each for each in exposures if not each.metadata.is_imprint]
    backgrounds = _ByConfiguration([each for each in exposures if each.metadata.bkgdtarg])
    targets = [each for each in exposures if not each.metadata.bkgdtarg]
    precedents = Precedents(policy)
    return [
        choose(
            target,
            backgrounds.like(target),
            pairing,
            policy,
            none="no dedicated background (BKGDTARG) of its configuration",
            precedents=precedents,
        )
        for target in targets
    ]


class _ByConfiguration:
    """Exposures that are found by a configuration like theirs.

    Parameters
    ----------
    exposures : sequence of Examined
        Those to find.

    Notes
    -----
    As of `same_configuration`, what a header does not say is like everything. Exposures
    are sorted by which values they have; those of each sort are looked up by the values
    that the target has as well.
    """

    def __init__(self, exposures: Sequence[Examined]) -> None:
        self._exposures = exposures
        self._by_known: dict[tuple[int, ...], list[int]] = {}
        for i, exposure in enumerate(exposures):
            self._by_known.setdefault(_known_values(exposure.configuration), []).append(i)
        self._tables: dict[object, dict[object, list[int]]] = {}
        self._found: dict[tuple[object, ...], list[Examined]] = {}

    def like(self, target: Examined) -> list[Examined]:
        """Return those of a target's configuration, in their order."""
        configuration = target.configuration
        if configuration not in self._found:
            if all(value is None or isinstance(value, str | int) for value in configuration):
                self._found[configuration] = self._look_up(configuration)
            else:
                # Numbers are alike that are nearly equal.
                self._found[configuration] = [
                    each
                    for each in self._exposures
                    if same_configuration(target.metadata, each.metadata)
                ]
        return self._found[configuration]

    def _look_up(self, configuration: tuple[object, ...]) -> list[Examined]:
        numbers: list[int] = []
        known = set(_known_values(configuration))
        for names, members in self._by_known.items():
            common = tuple(i for i in names if i in known)
            table = self._tables.get((names, common))
            if table is None:
                table = self._tables[names, common] = {}
                for member in members:
                    values = self._exposures[member].configuration
                    table.setdefault(tuple(values[i] for i in common), []).append(member)
            numbers += table.get(tuple(configuration[i] for i in common), [])
        return [self._exposures[i] for i in sorted(numbers)]


def _known_values(configuration: tuple[object, ...]) -> tuple[int, ...]:
    """Return the places of a configuration where its header says something."""
    return tuple(i for i, value in enumerate(configuration) if value is not None)


def choose_others(exposures: Sequence[Examined], pairing: Pairing, policy: Policy) -> list[Paired]:
    """Give every target the other exposures of its nod or dither pattern.

    Parameters
    ----------
    exposures : sequence of Examined
        Dedicated backgrounds (BKGDTARG true) and imprints (IS_IMPRT true) are left out.
    pairing : Pairing
        Which of the others to leave out.
    policy : Policy
        How strict to be.

    Returns
    -------
    list of Paired
        One for each of the other exposures, in their order.
    """
    patterns: dict[object, list[Examined]] = {}
    targets = [
        (each, _pattern(each))
        for each in exposures
        if not each.metadata.bkgdtarg and not each.metadata.is_imprint
    ]
    for target, key in targets:
        patterns.setdefault(key, []).append(target)
    numbers = {key: number for number, key in enumerate(patterns)}
    precedents = Precedents(policy)
    found = []
    for target, key in targets:
        if key is None:
            missing = "its header does not say its programme, observation and visit group"
            found.append(Paired(target.path, skipped=missing))
            continue
        others = [each for each in patterns[key] if not _is_own(target, each)]
        paired = choose(
            target, others, pairing, policy, none="alone in its pattern", precedents=precedents
        )
        found.append(replace(paired, pattern=numbers[key]))
    return found


def _is_own(target: Examined, other: Examined) -> bool:
    """Tell whether an exposure is the target, or another segment of the target's exposure."""
    ours, theirs = target.metadata, other.metadata
    if other is target:
        return True
    if ours.segment is None or ours.segment == theirs.segment:
        return False
    return ours.identity is not None and ours.identity == theirs.identity


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
        near = set(sorted(kept, key=lambda each: _days_between(target, each))[: pairing.nearest])
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
        days = _days_between(target, background)
        if days > pairing.max_days:
            return f"{days:.3g} days from the target, more than {pairing.max_days:g}"
    if pairing.min_separation is not None:
        arcsec = separation(target, background)
        if arcsec < pairing.min_separation:
            return f'{arcsec:.3g}" from the target, less than {pairing.min_separation:g}"'
    if pairing.nearest is not None:
        # Also where there are few enough: the plan must not hang on their number.
        _days_between(target, background)
    return None


def _pattern(exposure: Examined) -> object:
    """Return what the exposures of one nod or dither pattern have in common."""
    m = exposure.metadata
    if m.program is None or m.observation is None or m.visit_group is None:
        return None
    window = (exposure.candidate.placement.shape, m.xstart, m.ystart, m.xsize, m.ysize)
    return (m.program, m.observation, m.visit_group, exposure.configuration, window)


def mid_time(m: Metadata) -> float | None:
    """Return the time of an exposure, in days (MJD); None where its header does not say."""
    if m.mid_time is not None:
        return float(m.mid_time)
    if m.start_time is not None:
        return float(m.start_time if m.end_time is None else (m.start_time + m.end_time) / 2)
    if m.date_beg is not None:
        try:
            begin = datetime.fromisoformat(m.date_beg)
        except ValueError:
            pass
        else:
            zoned = begin if begin.tzinfo else begin.replace(tzinfo=UTC)
            return (zoned - _DAYS_TO_MJD).total_seconds() / 86400
    return None


def _days_between(a: Examined, b: Examined) -> float:
    """Return the days between two exposures; raise ParameterError if a header does not say."""
    if a.mid_time is None or b.mid_time is None:
        timeless = a if a.mid_time is None else b
        raise ParameterError(
            f"{timeless.name}: its header does not say when it was taken (EXPMID, EXPSTART, "
            "DATE-BEG); leave it out, or plan without limits in time"
        )
    return abs(a.mid_time - b.mid_time)


def separation(a: Examined, b: Examined) -> float:
    """Return how far two exposures were pointed from each other.

    Parameters
    ----------
    a, b : Examined
        Two exposures.

    Returns
    -------
    float
        Arcsec: between the reference points of their WCS (RA_REF, DEC_REF), else between
        the telescope's axes (RA_V1, DEC_V1), else between their dither offsets (XOFFSET,
        YOFFSET) in the same observation. On a moving target only the offsets count: the
        sky goes by, the target does not.

    Raises
    ------
    ParameterError
        If the headers do not say.
    """
    moving = any((each.metadata.target_type or "").upper() == "MOVING" for each in (a, b))
    if not moving:
        for names in (("ra_ref", "dec_ref"), ("ra_v1", "dec_v1")):
            places = _known([a, b], names)
            if places is not None:
                return _great_circle(*places)
    offsets = _known([a, b], ("x_offset", "y_offset"))
    same = (a.metadata.program, a.metadata.observation) == (
        b.metadata.program,
        b.metadata.observation,
    )
    if offsets is not None and same:
        (x1, y1), (x2, y2) = offsets
        return hypot(x2 - x1, y2 - y1)
    raise ParameterError(
        f"{a.name} and {b.name}: their headers do not say how far apart they are (RA_REF and "
        "DEC_REF, RA_V1 and DEC_V1, or XOFFSET and YOFFSET of one observation); leave one out, "
        "or plan without a least separation"
    )


def _known(
    exposures: Iterable[Examined], names: tuple[str, str]
) -> list[tuple[float, float]] | None:
    places = []
    for exposure in exposures:
        x, y = (getattr(exposure.metadata, name) for name in names)
        if x is None or y is None:
            return None
        places.append((float(x), float(y)))
    return places


def _great_circle(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return the angle between two places on the sky, in arcsec (haversine)."""
    (ra1, dec1), (ra2, dec2) = ((radians(x), radians(y)) for x, y in (a, b))
    h = sin((dec2 - dec1) / 2) ** 2 + cos(dec1) * cos(dec2) * sin((ra2 - ra1) / 2) ** 2
    return 3600 * degrees(2 * asin(min(1.0, sqrt(h))))
