"""What a product says of its making: keywords and history, the same for all formats."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

from offsky.assemble import Assembled

STATUS_KEYWORD = "S_BKDSUB"

Card = tuple[str, str | int | float | None, str]


@dataclass(frozen=True, slots=True)
class Provenance:
    """The facts that a product records.

    Attributes
    ----------
    backgrounds : tuple of str
        Names of the exposures averaged.
    sigma, maxiters
        The clip's parameters.
    n_rejected : int
        Samples clipped.
    n_uncovered : int
        Pixels at which no sample was left.
    median_level : float or None
        Median of the average, None where it has no pixel.
    """

    backgrounds: tuple[str, ...]
    sigma: float
    maxiters: int | None
    n_rejected: int = 0
    n_uncovered: int = 0
    median_level: float | None = None

    def with_results(self, assembled: Assembled) -> "Provenance":
        """Return the same with what is known once the average is made."""
        return replace(
            self,
            n_rejected=int(assembled.average.n_rejected.sum()),
            n_uncovered=assembled.n_uncovered,
            median_level=assembled.median_level,
        )

    def cards(self) -> list[Card]:
        """Return the facts as FITS cards: keyword, value, comment.

        The number of cards does not depend on the values, so that a header can be
        laid out before they are known.
        """
        maxiters = -1 if self.maxiters is None else self.maxiters
        return [
            ("OFFVER", version("offsky"), "offsky version that averaged the background"),
            ("OFFNBKG", len(self.backgrounds), "backgrounds averaged"),
            ("OFFSIGMA", self.sigma, "clipping threshold [standard deviations]"),
            ("OFFMAXIT", maxiters, "clipping passes at most (-1: no limit)"),
            ("OFFNREJ", self.n_rejected, "samples clipped"),
            ("OFFNUNCV", self.n_uncovered, "pixels without background"),
            ("OFFLEVEL", self.median_level, "median of the averaged background"),
        ]

    def history(self) -> list[str]:
        """Return one line for each background."""
        return [f"offsky background: {name}" for name in self.backgrounds]


def now() -> str:
    """Return the time as JWST's DATE keyword writes it (UTC)."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")

