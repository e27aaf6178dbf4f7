"""What came of one subtraction or average, as values."""

from dataclasses import asdict, dataclass, field
from typing import Any

from offsky.combine.whole import Assembled
from offsky.options import Options
from offsky.subtraction import TargetScale

COMPLETE, SKIPPED, FAILED = "COMPLETE", "SKIPPED", "FAILED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, with which files, and how it went.

    Attributes
    ----------
    status : str
        "COMPLETE", or "SKIPPED" where there was nothing to subtract.
    target : str or None
        The target's file; None for an average alone.
    backgrounds : tuple of str
        The background files used.
    dropped : tuple of (str, str)
        Those not used, each with the reason.
    output : str or None
        The file written.
    combined : str or None
        The file with the average, where it was asked for.
    n_samples : int
        Samples read: pixels of all backgrounds and integrations.
    n_rejected : tuple of int
        Samples clipped, for each background.
    n_uncovered : int
        Pixels at which no background had a sample left: not subtracted.
    n_err_estimated : int
        Pixels at which a kept sample without finite ERR took the others' mean; 0 where
        no ERR of an average was made.
    median_level : float or None
        Median of the average; None where it has no pixel.
    unit : str or None
        Unit of that level.
    elapsed_s : float
        Wall time.
    options : Options
        How it was averaged and subtracted.
    n_err_unknown : int
        Pixels whose background has no known error, so that the target's is as it was
        although errors were to be propagated.
    target_scale, target_scale_error : float
        The factor on the average, and its standard error where it was fitted.
    """

    status: str
    target: str | None
    backgrounds: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]
    output: str | None
    combined: str | None
    n_samples: int
    n_rejected: tuple[int, ...]
    n_uncovered: int
    n_err_estimated: int
    median_level: float | None
    unit: str | None
    elapsed_s: float
    options: Options = field(default_factory=Options)
    n_err_unknown: int = 0
    target_scale: float = 1.0
    target_scale_error: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name, ready for JSON."""
        return asdict(self)


def completed(
    assembled: Assembled,
    *,
    target: str | None,
    backgrounds: tuple[str, ...],
    dropped: tuple[tuple[str, str], ...],
    output: str | None,
    combined: str | None,
    unit: str | None,
    elapsed_s: float,
    options: Options,
    n_err_unknown: int = 0,
    scale: TargetScale | None = None,
) -> Outcome:
    """Return the outcome of an average that was made."""
    return Outcome(
        status=COMPLETE,
        target=target,
        backgrounds=backgrounds,
        dropped=dropped,
        output=output,
        combined=combined,
        n_samples=assembled.n_samples,
        n_rejected=tuple(int(n) for n in assembled.average.n_rejected),
        n_uncovered=assembled.n_uncovered,
        n_err_estimated=assembled.average.n_err_estimated,
        median_level=assembled.median_level,
        unit=unit,
        elapsed_s=elapsed_s,
        options=options,
        n_err_unknown=n_err_unknown,
        target_scale=1.0 if scale is None else scale.factor,
        target_scale_error=0.0 if scale is None else scale.error,
    )


def skipped(
    target: str,
    dropped: tuple[tuple[str, str], ...],
    output: str,
    elapsed_s: float,
    options: Options,
) -> Outcome:
    """Return the outcome of a target that was copied as it is."""
    return Outcome(
        status=SKIPPED,
        target=target,
        backgrounds=(),
        dropped=dropped,
        output=output,
        combined=None,
        n_samples=0,
        n_rejected=(),
        n_uncovered=0,
        n_err_estimated=0,
        median_level=None,
        unit=None,
        elapsed_s=elapsed_s,
        options=options,
    )


@dataclass(frozen=True, slots=True)
class ProductOutcome:
    """What came of one product of a programme.

    Attributes
    ----------
    output : str
        Name of its file.
    target : str
        The target's file.
    status : str
        "COMPLETE", "SKIPPED" or "FAILED".
    reason : str or None
        Why it was skipped or failed.
    made : bool
        False where an earlier run had made it already.
    details : dict or None
        `Outcome` by name, where a file was written.
    """

    output: str
    target: str
    status: str
    reason: str | None = None
    made: bool = True
    details: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name, ready for JSON."""
        return asdict(self)
