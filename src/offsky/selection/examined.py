"""An exposure whose headers have been read, and the backgrounds that were found for it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from offsky.selection.suitability import CONFIGURATION, Candidate
from offsky.units import kind_of
from offsky.values.metadata import Metadata

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
