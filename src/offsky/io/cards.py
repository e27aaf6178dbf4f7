"""What a product says of its making: keywords and history, the same for all formats."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from math import fsum, isfinite, nan
from typing import Any

from offsky.combine.whole import Finished
from offsky.options import Options
from offsky.selection.suitability import Verdict
from offsky.subtraction import TargetScale
from offsky.values.metadata import Metadata

STATUS_KEYWORD = "S_BKDSUB"

Card = tuple[str, str | int | float | None, str]

OPTION_CARDS = {
    "reject": ("OFFREJCT", "what tells outliers"),
    "sigma_lower": ("OFFSIGLO", "clipping threshold below the centre"),
    "sigma_upper": ("OFFSIGHI", "clipping threshold above the centre"),
    "n_extremes": ("OFFNEXTR", "extremes dropped at either end"),
    "min_keep": ("OFFMINKP", "samples kept at least"),
    "center": ("OFFCENTR", "what the thresholds are about"),
    "combine": ("OFFCOMB", "what is made of the kept samples"),
    "weight": ("OFFWEIGH", "weights of the exposures"),
    "errors": ("OFFERRS", "what is done to errors and variances"),
    "dq": ("OFFDQ", "samples whose flags the average has"),
    "bad_bits": ("OFFBADBT", "flags of samples that are left out"),
    "bad_fraction": ("OFFBADFR", "fraction of bad samples for DO_NOT_USE"),
    "uncovered": ("OFFUNCOV", "what is done to uncovered pixels"),
    "level": ("OFFMATCH", "how backgrounds' levels are matched"),
    "target_scale": ("OFFSCALE", "factor on the averaged background"),
    "mask_sources": ("OFFMASK", "sources in backgrounds left out"),
}
"""Keyword and comment of each option, where it is not its profile's."""

# `sigma` and `maxiters` are in every product.
CORRELATED = (
    "offsky errors: those of the averaged background are included;",
    "offsky errors: correlated between planes, and targets sharing it",
)

# Searching the installation takes a millisecond.
_version = cache(version)


@dataclass(frozen=True, slots=True)
class Provenance:
    """The facts that a product records.

    Attributes
    ----------
    backgrounds : tuple of str
        Names of the exposures averaged.
    options : Options
        How they were averaged.
    masks : tuple of (str, str)
        Names of backgrounds with a user's mask, each with the mask's name.
    n_rejected : int
        Samples clipped.
    n_uncovered : int
        Pixels at which no sample was left.
    median_level : float or None
        Median of the average, None where it has no pixel.
    scale : TargetScale or None
        The factor on the average; None where it is not known (yet).
    """

    backgrounds: tuple[str, ...]
    options: Options
    masks: tuple[tuple[str, str], ...] = ()
    n_rejected: int = 0
    n_uncovered: int = 0
    median_level: float | None = None
    scale: TargetScale | None = None

    def with_results(self, finished: Finished, scale: TargetScale | None = None) -> "Provenance":
        """Return the same with what is known once the average is made."""
        return replace(
            self,
            n_rejected=sum(finished.n_rejected),
            n_uncovered=finished.n_uncovered,
            median_level=finished.median_level,
            scale=scale,
        )

    def cards(self) -> list[Card]:
        """Return the facts as FITS cards: keyword, value, comment.

        The number of cards does not depend on the values, so that a header can be
        laid out before they are known.
        """
        maxiters = -1 if self.options.maxiters is None else self.options.maxiters
        differences = self.options.beyond_profile()
        return [
            ("OFFVER", _version("offsky"), "offsky version that averaged the background"),
            ("OFFNBKG", len(self.backgrounds), "backgrounds averaged"),
            ("OFFPROF", self.options.profile, "set of options, but for those named here"),
            *(
                (keyword, self._card_value(name, differences[name]), comment)
                for name, (keyword, comment) in OPTION_CARDS.items()
                if name in differences
            ),
            *self._scale_error_card(),
            (
                "OFFSIGMA",
                _finite(self.options.sigma),
                f"clipping threshold [{_unit(self.options)}]",
            ),
            ("OFFMAXIT", maxiters, "clipping passes at most (-1: no limit)"),
            ("OFFNREJ", self.n_rejected, "samples clipped"),
            ("OFFNUNCV", self.n_uncovered, "pixels without background"),
            ("OFFLEVEL", _finite(self.median_level), "median of the averaged background"),
        ]

    def _card_value(self, name: str, value: Any) -> Any:
        if name == "target_scale" and value == "fit" and self.scale is not None:
            return self.scale.factor
        return "none" if value is None else value

    def _scale_error_card(self) -> list[Card]:
        """Return the card that a fitted factor has, and a given one has not."""
        if self.options.target_scale != "fit":
            return []
        error = None if self.scale is None else self.scale.error
        return [("OFFSCERR", error, "standard error of OFFSCALE, which was fitted")]

    def history(self) -> list[str]:
        """Return one line for each background, and what is to be known of the errors."""
        lines = [f"offsky background: {printable(name)}" for name in self.backgrounds]
        lines += [f"offsky mask: {printable(mask)} of {printable(n)}" for n, mask in self.masks]
        return [*lines, *CORRELATED] if self.options.errors == "propagate" else lines


def _unit(options: Options) -> str:
    """Return what the threshold counts."""
    units = {"error": "median errors", "mad": "scaled median deviations"}
    return units.get(options.reject, "standard deviations")


@dataclass(frozen=True, slots=True)
class InputRecord:
    """One background of an average, a row of its table.

    Attributes
    ----------
    name : str
        The exposure.
    fate : str
        "used" or "dropped".
    remarks : str
        Why, and what else there is to say.
    n_rejected : int
        Samples of it that were rejected.
    n_masked : int
        Finite samples of it that a mask left out, integrations counted.
    level : float
        Its median, NaN where it was not used.
    """

    name: str
    fate: str
    remarks: str
    n_rejected: int
    n_masked: int
    level: float


def input_records(
    verdicts: Sequence[Verdict], finished: Finished, levels: Sequence[float | None]
) -> list[InputRecord]:
    """Join the verdicts on backgrounds with what averaging counted.

    Parameters
    ----------
    verdicts : sequence of Verdict
        On every background.
    finished : Finished
        The average of those used.
    levels : sequence of (float or None)
        The median of each exposure used; None where it has no finite sample.
    """
    results = iter(zip(finished.n_rejected, finished.n_masked, levels, strict=True))
    records = []
    for verdict in verdicts:
        is_used = verdict.fate == "used"
        n_rejected, n_masked, level = next(results) if is_used else (0, 0, None)
        remarks = [*verdict.remarks]
        if n_masked:
            remarks.append(f"{n_masked} samples left out by a mask")
        records.append(
            InputRecord(
                verdict.name,
                verdict.fate,
                "; ".join(remarks),
                n_rejected,
                n_masked,
                nan if level is None else level,
            )
        )
    return records


def average_metadata(metadata: Metadata, inputs: Sequence[Metadata]) -> Metadata:
    """Return a header's facts as they hold for the average of other exposures.

    Its times are those of the inputs; it is no exposure with a number and a pointing of
    its own, and nothing was subtracted from it.
    """

    def known(name: str) -> list[Any]:
        values = (getattr(each, name) for each in inputs)
        return [value for value in values if value is not None]

    mid_times = known("mid_time")
    return replace(
        metadata,
        date_beg=min(known("date_beg"), default=None),
        date_end=max(known("date_end"), default=None),
        start_time=min(known("start_time"), default=None),
        end_time=max(known("end_time"), default=None),
        mid_time=fsum(mid_times) / len(mid_times) if mid_times else None,
        filename=None,
        exposure=None,
        ra_ref=None,
        dec_ref=None,
        ra_v1=None,
        dec_v1=None,
        x_offset=None,
        y_offset=None,
        status=None,
        unit=next(iter(known("unit")), metadata.unit),
    )


def printable(text: str) -> str:
    r"""Return a text as FITS can hold it: what is not printable ASCII is escaped.

    Examples
    --------
    >>> print(printable("été_rate.fits"))
    \xe9t\xe9_rate.fits
    """
    return "".join(each if " " <= each <= "~" else ascii(each)[1:-1] for each in text)


def _finite(value: float | None) -> float | str:
    """Return a number as a card can hold it: FITS has no infinity.

    A card without a value would be right for None, but stdatamodels cannot save it.
    """
    return value if value is not None and isfinite(value) else "N/A"


def now() -> str:
    """Return the time as JWST's DATE keyword writes it (UTC)."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
