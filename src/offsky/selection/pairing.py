"""How products are made of exposures: the rule, and what a background must be like."""

import re
from dataclasses import dataclass
from typing import Literal

from offsky.errors import ParameterError
from offsky.values.metadata import KEYWORDS

Source = Literal["associations", "dedicated", "nods", "dithers", "table"]

SOURCES: tuple[Source, ...] = ("associations", "dedicated", "nods", "dithers", "table")

_IN_FWHM = re.compile(r"\s*([0-9.]+(?:[eE][+-]?\d+)?)\s*fwhm\s*", re.IGNORECASE)
_FIELDS = {keyword: name for name, keyword in KEYWORDS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """How products are made from exposures.

    Attributes
    ----------
    source : str
        "associations": as written in them. "dedicated": exposures with BKGDTARG true
        are backgrounds of all others of the same programme and configuration. "nods": each
        exposure's backgrounds are its pattern's exposures at other nods. "dithers": all
        others of its pattern. "table": as written in a table.
    any_programme : bool
        Take dedicated backgrounds of other programmes too.
    backgrounds : tuple of str
        The backgrounds, whatever their BKGDTARG says: "obs:2", "target:NAME", a folder, files
        or a pattern of names. Then `source` is "dedicated".
    table : str or None
        A table (CSV) with the columns target and background. Then `source` is "table".
    add_dedicated : bool
        Add the dedicated backgrounds to those of nods or dithers.
    group_by : str or None
        Keywords, with commas between, that the exposures of a nod or dither pattern have in
        common, in place of programme, observation and visit group; beside them where the
        text begins with "+".
    pair : bool
        Give each target one background: the k-th in time at one of two positions with the
        k-th at the other, or the k-th target with the k-th dedicated background.
    match_readout : bool
        Leave out backgrounds of another READPATT, NGROUPS or EFFINTTM.
    max_days : float or None
        Most days between a target and a background.
    nearest : int or None
        Use only so many backgrounds, those nearest in time.
    min_backgrounds : int or None
        A product with fewer is skipped. None for 1, and for 0 in associations, where
        a product without backgrounds is a copy.
    min_separation : float, str or None
        Least distance of a background's pointing from the target's, in arcsec; or a text such
        as "1.5fwhm", in widths of a point source in the target's filter.

    Raises
    ------
    ParameterError
        For a value out of range, or options that do not go together.
    """

    source: Source = "associations"
    any_programme: bool = False
    backgrounds: tuple[str, ...] = ()
    table: str | None = None
    add_dedicated: bool = False
    group_by: str | None = None
    pair: bool = False
    match_readout: bool = False
    max_days: float | None = None
    nearest: int | None = None
    min_backgrounds: int | None = None
    min_separation: float | str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for given, source in ((self.backgrounds, "dedicated"), (self.table, "table")):
            if given and self.source == "associations":
                object.__setattr__(self, "source", source)
        if self.source not in SOURCES:
            raise ParameterError(
                f"products from {self.source!r}: expected one of {', '.join(SOURCES)}"
            )
        _check_sources(self)
        limits = (("max_days", 0), ("nearest", 1), ("min_backgrounds", 0))
        for name, least in limits:
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ParameterError(f"{name} is {value}: give {least} or more, or none at all")
        in_arcsec_or_fwhm(self.min_separation)
        _ = self.grouping

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
        return 0 if self.is_written else 1

    @property
    def is_written(self) -> bool:
        """Whether someone has written down which backgrounds a target has."""
        return self.source in ("associations", "table")

    @property
    def grouping(self) -> tuple[bool, tuple[str, ...]]:
        """Whether `group_by` adds, and its fields of `Metadata`."""
        if self.group_by is None:
            return True, ()
        adds = self.group_by.startswith("+")
        keys = [key.strip().upper() for key in self.group_by.removeprefix("+").split(",")]
        for key in keys:
            if key not in _FIELDS:
                raise ParameterError(
                    f"group_by has {key!r}: expected keywords such as {', '.join(_OFTEN)}, with "
                    "commas between them"
                )
        return adds, tuple(_FIELDS[key] for key in keys)


_OFTEN = ("PROGRAM", "OBSERVTN", "VISITGRP", "ACT_ID", "TARGPROP", "FILTER")


def in_arcsec_or_fwhm(separation: float | str | None) -> tuple[float | None, float | None]:
    """Return a least separation in arcsec, and the one in FWHM; None for what is not given.

    Raises
    ------
    ParameterError
        For what is neither, or below zero.
    """
    if separation is None:
        return None, None
    found = _IN_FWHM.fullmatch(separation) if isinstance(separation, str) else None
    try:
        value = float(found[1] if found is not None else separation)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise ParameterError(
            f"min_separation is {separation}: give 0 or more, in arcsec or as in '1.5fwhm', or "
            "none at all"
        )
    return (value, None) if found is None else (None, value)


_ONLY_FROM: dict[str, tuple[Source, ...]] = {
    "add_dedicated": ("nods", "dithers"),
    "any_programme": ("dedicated", "nods", "dithers"),
    "backgrounds": ("dedicated",),
    "table": ("table",),
    "group_by": ("nods", "dithers"),
    "pair": ("nods", "dithers", "dedicated"),
}
"""What each option is for, where not for every source."""


def _check_sources(pairing: Pairing) -> None:
    """Raise where an option does not go with the source, or with another."""
    for name, sources in _ONLY_FROM.items():
        if getattr(pairing, name) and pairing.source not in sources:
            raise ParameterError(
                f"--{name.replace('_', '-')} is for products from {' or '.join(sources)}, not "
                f"from {pairing.source}; leave it out, or say --from {sources[0]}"
            )
    if pairing.source == "table" and not pairing.table:
        raise ParameterError("products from a table: name it (--table FILE.csv)")
    if pairing.any_programme and pairing.source != "dedicated" and not pairing.add_dedicated:
        raise ParameterError(
            "--any-programme is for dedicated backgrounds; give --add-dedicated too, or drop it"
        )
    for name in ("nearest", "add_dedicated"):
        if pairing.pair and getattr(pairing, name):
            raise ParameterError(
                f"--pair gives each target one background, and --{name.replace('_', '-')} others; "
                "give one of them"
            )
