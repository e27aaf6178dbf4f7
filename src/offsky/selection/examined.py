"""An exposure whose headers have been read, and the backgrounds that were found for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from math import cos, radians, sin
from typing import Protocol

from offsky.selection.suitability import CONFIGURATION, Candidate
from offsky.units import kind_of
from offsky.values.metadata import Metadata

READOUT = ("readpatt", "ngroups", "integration_time")
"""Fields of a readout. Not EFFEXPTM: the number of integrations may differ."""

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

    @property
    def pointing(self) -> tuple[float, float] | None:
        """Right ascension and declination (RA_REF, DEC_REF), degrees; None for a moving target."""
        m = self.metadata
        if self.is_moving or m.ra_ref is None or m.dec_ref is None:
            return None
        return m.ra_ref, m.dec_ref

    @cached_property
    def direction(self) -> tuple[float, float, float] | None:
        """Where it points, as a unit vector; None for a moving target, or where unknown."""
        if self.pointing is None:
            return None
        ra, dec = map(radians, self.pointing)
        return cos(dec) * cos(ra), cos(dec) * sin(ra), sin(dec)

    @property
    def is_moving(self) -> bool:
        """Whether the target moves across the sky."""
        return (self.metadata.target_type or "").upper() == "MOVING"

    @cached_property
    def readout(self) -> tuple[object, ...]:
        """How it was read out: `READOUT`."""
        return tuple(self.plain(name) for name in READOUT)

    def plain(self, name: str) -> object:
        """Return a field of its header as it is compared: texts without case and spaces."""
        value = getattr(self.metadata, name)
        return value.strip().upper() if isinstance(value, str) else value

    @cached_property
    def configuration(self) -> tuple[object, ...]:
        """What a background has in common with its target; None where it is not known."""
        unit = self.metadata.unit
        values = (self.plain(name) for name in (*CONFIGURATION, "family"))
        return (*values, None if unit is None else kind_of(unit))


@dataclass(frozen=True, slots=True)
class Dropped:
    """Exposures that are not used for a product, and the reason.

    Attributes
    ----------
    reason : str
        Why.
    among : tuple of str
        Paths; many products share one tuple. It is true of those that are neither the
        target, nor used, nor in an entry before: the others are in the tuple because it is
        shared. So a plan does not grow with the square of a pattern.
    """

    reason: str
    among: tuple[str, ...]


class HasBackgrounds(Protocol):
    """A target with backgrounds that are used and others that are not."""

    @property
    def target(self) -> str:
        """Path."""

    @property
    def backgrounds(self) -> tuple[str, ...]:
        """Those to use."""

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """The others."""


def dropped_files(product: HasBackgrounds) -> Iterator[tuple[str, list[str]]]:
    """Yield each reason with the files that are dropped for it.

    Parameters
    ----------
    product : Paired or PlannedProduct
        The product.
    """
    told = {product.target, *product.backgrounds}
    for entry in product.dropped:
        files = [path for path in entry.among if path not in told]
        told.update(files)
        yield entry.reason, files


@dataclass(frozen=True, slots=True)
class Paired:
    """Backgrounds for one target.

    Attributes
    ----------
    target : str
        Path.
    backgrounds : tuple of str
        Those to use.
    dropped : tuple of Dropped
        The others, by reason.
    skipped : str or None
        Why there will be no product.
    problem : str or None
        Why it is expected to fail.
    pattern : int or None
        Number of the nod or dither pattern that the target belongs to.
    """

    target: str
    backgrounds: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    skipped: str | None = None
    problem: str | None = None
    pattern: int | None = None


class Pool:
    """Exposures that several targets choose their backgrounds among.

    Parameters
    ----------
    members : sequence of Examined
        In the order they will be averaged in; targets may be among them.
    """

    def __init__(self, members: Sequence[Examined]) -> None:
        self.members = members
        self.paths = tuple(each.path for each in members)
        self._parts: dict[str, dict[object, tuple[str, ...]]] = {}

    def part(self, name: str, of: Callable[[Examined], object]) -> dict[object, tuple[str, ...]]:
        """Return the paths of the members by a property.

        Parameters
        ----------
        name : str
            The property; what is found for it is kept.
        of : callable
            Returns it of an exposure.
        """
        if name not in self._parts:
            found: dict[object, list[str]] = {}
            for each in self.members:
                found.setdefault(of(each), []).append(each.path)
            self._parts[name] = {key: tuple(paths) for key, paths in found.items()}
        return self._parts[name]


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
