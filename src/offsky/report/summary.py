"""What a page tells of one product: values alone, and the same as JSON."""

from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from offsky.arrays import Array
from offsky.report.pictures import Pictures
from offsky.values.facts import Facts
from offsky.values.finding import Finding
from offsky.values.gathered import Gathered

FORMAT, VERSION = "offsky-report", 1

HISTOGRAM_BINS = 60
_REACH = 6.0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Left:
    """What is left in the product, or was in the target, beside noise and sources.

    Attributes
    ----------
    level, noise : float
        Median and scatter of the blocks without sources.
    stripes, blotches : float
        As of `offsky.measure.structure.Structure`.
    rows, columns : ndarray
        Medians of rows and columns of blocks.
    """

    level: float
    noise: float
    stripes: float
    blotches: float
    rows: Array
    columns: Array


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BackgroundRow:
    """A row of the table of backgrounds; None for what is not known."""

    name: str
    date: str | None
    separation: float | None
    level: float | None
    err_ratio: float | None
    rejected: float | None
    fate: str
    remarks: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Summary:
    """What a page tells of one product.

    Attributes
    ----------
    name : str
        The product.
    description : tuple of (str, str)
        What it is, in pairs of a word and a value.
    findings : tuple of Finding
        Of all checks.
    facts : Facts
        What is known beside pixels.
    gathered : Gathered
        Planes and samples.
    after, before : Left
        What is left in the product and was in the target; `before` may be None.
    pictures : Pictures
        Planes as the page holds them.
    err : float
        Median ERR of a pixel.
    err_ratio : float
        Scatter of pixels over ERR.
    expected_ratio : float
        What is expected of that with these options.
    histogram : ndarray
        Blocks without sources in bins of their distance from the level, in ERR.
    backgrounds : tuple of BackgroundRow
        One for each background given.
    parameters : tuple of (str, str, str)
        Options: name, value, and why it has no effect or is not the profile's.
    command : str
        What repeats the subtraction.
    versions : tuple of (str, str)
        Packages.
    checksums : tuple of (str, str)
        Inputs whose checksum is known.
    counts : tuple of (str, str)
        Numbers of samples and pixels, in words.
    date : str
        When the page was written.
    left_out : tuple of str
        What could not be shown, and why.
    """

    name: str
    description: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    facts: Facts
    gathered: Gathered
    after: Left
    before: Left | None = None
    pictures: Pictures = field(default_factory=Pictures)
    err: float = float("nan")
    err_ratio: float = float("nan")
    expected_ratio: float = 1.0
    histogram: Array = field(default_factory=lambda: np.zeros(HISTOGRAM_BINS))
    backgrounds: tuple[BackgroundRow, ...] = ()
    parameters: tuple[tuple[str, str, str], ...] = ()
    command: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    checksums: tuple[tuple[str, str], ...] = ()
    counts: tuple[tuple[str, str], ...] = ()
    date: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """The worst state of a finding; "unknown" only where no check could tell."""
        states = {finding.state for finding in self.findings}
        return next((each for each in ("failed", "doubtful", "ok") if each in states), "unknown")

    def as_dict(self) -> dict[str, Any]:
        """Return every figure of the page by name, ready for JSON: it has no NaN."""
        gathered, facts = self.gathered, self.facts
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "date": self.date,
            "state": self.state,
            "description": dict(self.description),
            "checks": [finding.as_dict() for finding in self.findings],
            "unit": facts.unit,
            "shape": list(gathered.shape),
            "bin": gathered.bin,
            "err": known(self.err),
            "err_ratio": known(self.err_ratio),
            "expected_ratio": known(self.expected_ratio),
            "after": _left(self.after),
            "before": None if self.before is None else _left(self.before),
            "integration_levels": [known(each) for each in gathered.integration_levels],
            "histogram": {
                "edges_in_err": [known(each) for each in histogram_edges()],
                "n_blocks": [int(each) for each in self.histogram],
            },
            "flags": {
                "n_pixels": gathered.shape[0] * gathered.shape[1],
                "n_flagged": gathered.n_flagged,
                "n_unusable": gathered.n_unusable,
                "n_flagged_by_backgrounds": gathered.n_flagged_by_backgrounds,
                "n_unusable_by_backgrounds": gathered.n_unusable_by_backgrounds,
            },
            "backgrounds": [
                {
                    name: known(value) if isinstance(value, float) else value
                    for name, value in asdict(row).items()
                }
                for row in self.backgrounds
            ],
            "parameters": {name: value for name, value, _ in self.parameters},
            "command": self.command,
            "versions": dict(self.versions),
            "checksums": dict(self.checksums),
            "counts": dict(self.counts),
            "left_out": list(self.left_out),
        }


def known(value: float | None) -> float | None:
    """Return a number as JSON has it: None where it is not finite."""
    return None if value is None or not isfinite(value) else float(value)


def _left(left: Left) -> dict[str, Any]:
    return {
        "level": known(left.level),
        "noise": known(left.noise),
        "stripes": known(left.stripes),
        "blotches": known(left.blotches),
        "row_medians": [_short(each) for each in left.rows],
        "column_medians": [_short(each) for each in left.columns],
    }


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if isfinite(value) else None


def histogram_edges() -> Array:
    """Return the edges of the bins of a histogram of residuals."""
    return np.linspace(-_REACH, _REACH, HISTOGRAM_BINS + 1)
