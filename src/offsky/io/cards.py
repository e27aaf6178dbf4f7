"""The header cards and history of a product, the same for all formats."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from math import fsum, isfinite, nan
from typing import Any

from offsky.combine.whole import Finished
from offsky.declared import Declaration, declarations
from offsky.effect import Run
from offsky.options import Options, idle_options
from offsky.selection.suitability import Verdict
from offsky.subtraction import Coefficients
from offsky.values.metadata import Metadata

STATUS_KEYWORD, IMPRINT_KEYWORD = "S_BKDSUB", "S_IMPRNT"

Card = tuple[str, str | int | float | None, str]

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
    coefficients : Coefficients or None
        What is subtracted of the average; None where it is not known (yet).
    run : Run or None
        What decides which options have no effect; None for a subtraction of these
        backgrounds, be they images or cubes.
    pair : str or None
        What product and average of one run have in common; None where only one of them
        becomes a file.
    imprints : tuple of (str, tuple of str)
        Names of the target and the backgrounds from which an imprint was subtracted, each with
        the names of its imprints.
    had_imprint : bool
        Whether the target (the first background, of an average alone) is one of them.
    """

    backgrounds: tuple[str, ...]
    options: Options
    masks: tuple[tuple[str, str], ...] = ()
    n_rejected: int = 0
    n_uncovered: int = 0
    median_level: float | None = None
    coefficients: Coefficients | None = None
    run: Run | None = None
    pair: str | None = None
    imprints: tuple[tuple[str, tuple[str, ...]], ...] = ()
    had_imprint: bool = False

    def with_results(
        self, finished: Finished, coefficients: Coefficients | None = None
    ) -> "Provenance":
        """Return the same with what is known once the average is made."""
        return replace(
            self,
            n_rejected=sum(finished.n_rejected),
            n_uncovered=finished.n_uncovered,
            median_level=finished.median_level,
            coefficients=coefficients,
        )

    def cards(self) -> list[Card]:
        """Return the facts as FITS cards: keyword, value, comment.

        The number of cards does not depend on the values, so that a header can be
        laid out before they are known.
        """
        return [
            ("OFFVER", _version("offsky"), "offsky version that averaged the background"),
            ("OFFNBKG", len(self.backgrounds), "backgrounds averaged"),
            ("OFFPROF", self.options.profile, "set of options, but for those named here"),
            *self._option_cards(),
            ("OFFNREJ", self.n_rejected, "samples clipped"),
            ("OFFNUNCV", self.n_uncovered, "pixels without background"),
            ("OFFLEVEL", _finite(self.median_level), "median of the averaged background"),
            *([("OFFRUN", self.pair, "run that wrote product and average")] if self.pair else []),
        ]

    def _option_cards(self) -> list[Card]:
        """Return the cards of options that have an effect, then those of every product."""
        run = Run(len(self.backgrounds), True) if self.run is None else self.run
        idle = idle_options(self.options, run)
        told = self.options.beyond_profile().keys() - idle.keys()
        some: list[Card] = []
        always: list[Card] = []
        for each in declarations(type(self.options)):
            if each.always or each.name in told:
                value = self._card_value(each.name, getattr(self.options, each.name))
                cards = always if each.always else some
                cards.append((each.keyword, value, self._comment(each)))
        fitted = [
            name
            for name in ("target_scale", "target_offset")
            if getattr(self.options, name) == "fit" and name not in idle
        ]
        return some + self._error_cards(fitted) + always

    def _error_cards(self, fitted: Sequence[str]) -> list[Card]:
        """Return the cards of errors of what was fitted."""
        found = self.coefficients
        cards = {
            "target_scale": (
                "OFFSCERR",
                None if found is None else found.factor_error,
                "standard error of OFFSCALE, which was fitted",
            ),
            "target_offset": (
                "OFFCNERR",
                None if found is None else found.offset_error,
                "standard error of OFFCONST, which was fitted",
            ),
        }
        both = ("OFFSCCOV", None if found is None else found.covariance, "their covariance")
        chosen = [cards[name] for name in fitted] + [both] * (len(fitted) == 2)
        # Without a value it would be no card, and the header shorter than at last.
        return [(keyword, _finite(value), comment) for keyword, value, comment in chosen]

    def _card_value(self, name: str, value: Any) -> Any:
        if value == "fit" and self.coefficients is not None:
            found = self.coefficients
            return found.factor if name == "target_scale" else found.offset
        if value is None:
            return -1 if name == "maxiters" else "none"
        return _finite(value) if isinstance(value, float) else value

    def _comment(self, declared: Declaration) -> str:
        """Return the comment of an option's card; the threshold's has its unit."""
        return declared.comment + (f" [{_unit(self.options)}]" if declared.name == "sigma" else "")

    def history(self) -> list[str]:
        """Return one line for each background, and two on errors where they are propagated."""
        lines = [f"offsky background: {printable(name)}" for name in self.backgrounds]
        lines += [f"offsky mask: {printable(mask)} of {printable(n)}" for n, mask in self.masks]
        lines += [
            f"offsky imprint: {printable(imprint)} of {printable(name)}"
            for name, imprints in self.imprints
            for imprint in imprints
        ]
        return [*lines, *CORRELATED] if self.options.errors == "propagate" else lines


def _unit(options: Options) -> str:
    """Return the unit of the threshold."""
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
    err_ratio : float or None
        Scatter of its samples over their ERR, NaN where it was not used; None where it was not
        measured.
    imprints : str
        Names of the imprints that were subtracted from it.
    """

    name: str
    fate: str
    remarks: str
    n_rejected: int
    n_masked: int
    level: float
    err_ratio: float | None = None
    imprints: str = ""


def input_records(
    verdicts: Sequence[Verdict],
    finished: Finished,
    levels: Sequence[float | None],
    imprints: Sequence[tuple[str, tuple[str, ...]]] = (),
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
    imprints : sequence of (str, tuple of str)
        Names of exposures from which an imprint was subtracted, each with its imprints'.
    """
    of_names = dict(imprints)
    measured = bool(finished.err_ratios)
    ratios = finished.err_ratios or [nan] * len(levels)
    results = iter(zip(finished.n_rejected, finished.n_masked, levels, ratios, strict=True))
    records = []
    for verdict in verdicts:
        is_used = verdict.fate == "used"
        n_rejected, n_masked, level, ratio = next(results) if is_used else (0, 0, None, nan)
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
                ratio if measured else None,
                ", ".join(of_names.get(verdict.name, ())) if is_used else "",
            )
        )
    return records


def average_metadata(metadata: Metadata, inputs: Sequence[Metadata]) -> Metadata:
    """Return a header's facts as they are for the average of other exposures.

    Its times are those of the inputs. It has no exposure number and no pointing of its
    own, and no status, since nothing was subtracted from it.
    """

    def known(name: str) -> list[Any]:
        values = (getattr(each, name) for each in inputs)
        return [value for value in values if value is not None]

    mid_times = known("mid_time")
    imprint_status = metadata.imprint_status
    if any(each.had_imprint for each in inputs) or metadata.had_imprint:
        imprint_status = "COMPLETE" if all(each.had_imprint for each in inputs) else None
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
        imprint_status=imprint_status,
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
