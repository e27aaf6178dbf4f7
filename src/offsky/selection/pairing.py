"""How products are made of exposures: the rule, and what a background must be like."""

from dataclasses import dataclass
from typing import Literal

from offsky.errors import ParameterError

Source = Literal["associations", "dedicated", "nods", "dithers"]

SOURCES: tuple[Source, ...] = ("associations", "dedicated", "nods", "dithers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """How products are made from exposures.

    Attributes
    ----------
    source : str
        "associations": as written in them. "dedicated": exposures with BKGDTARG true
        are backgrounds of all others of the same programme and configuration. "nods": each
        exposure's backgrounds are its pattern's exposures at other nods. "dithers": all
        others of its pattern.
    any_programme : bool
        Take dedicated backgrounds of other programmes too.
    add_dedicated : bool
        Add the dedicated backgrounds to those of nods or dithers.
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
    any_programme: bool = False
    add_dedicated: bool = False
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
        _check_sources(self)
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


_ONLY_FROM: dict[str, tuple[Source, ...]] = {
    "add_dedicated": ("nods", "dithers"),
    "any_programme": ("dedicated", "nods", "dithers"),
}
"""What each option is for, where not for every source."""


def _check_sources(pairing: Pairing) -> None:
    """Raise where an option does not go with the source."""
    for name, sources in _ONLY_FROM.items():
        if getattr(pairing, name) and pairing.source not in sources:
            raise ParameterError(
                f"--{name.replace('_', '-')} is for products from {' or '.join(sources)}, not "
                f"from {pairing.source}; leave it out, or say --from {sources[0]}"
            )
    if pairing.any_programme and pairing.source != "dedicated" and not pairing.add_dedicated:
        raise ParameterError(
            "--any-programme is for dedicated backgrounds; give --add-dedicated too, or drop it"
        )
