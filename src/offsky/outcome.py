"""The outcome of one subtraction or average, as values."""

from dataclasses import asdict, dataclass, field
from typing import Any

from offsky.combine.whole import Finished
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
        Finite samples of all backgrounds, integrations counted, without those that a mask
        left out.
    n_rejected : tuple of int
        Samples rejected, for each background used.
    n_masked : tuple of int
        Finite samples that a mask left out, for each background used.
    n_uncovered : int
        Pixels at which no background had a sample left: not subtracted.
    n_no_value : int
        Those of them at which the target has no value either.
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
    predicted_bytes : int
        Memory of the process, as predicted before pixels were read.
    """

    status: str
    target: str | None
    backgrounds: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]
    output: str | None
    combined: str | None
    n_samples: int
    n_rejected: tuple[int, ...]
    n_masked: tuple[int, ...]
    n_uncovered: int
    n_no_value: int
    n_err_estimated: int
    median_level: float | None
    unit: str | None
    elapsed_s: float
    options: Options = field(default_factory=Options)
    n_err_unknown: int = 0
    target_scale: float = 1.0
    target_scale_error: float = 0.0
    predicted_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name, ready for JSON."""
        return asdict(self)


def completed(
    finished: Finished,
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
    n_no_value: int = 0,
    scale: TargetScale | None = None,
    predicted_bytes: int = 0,
) -> Outcome:
    """Return the outcome of an average that was made."""
    return Outcome(
        status=COMPLETE,
        target=target,
        backgrounds=backgrounds,
        dropped=dropped,
        output=output,
        combined=combined,
        n_samples=finished.n_samples,
        n_rejected=finished.n_rejected,
        n_masked=finished.n_masked,
        n_uncovered=finished.n_uncovered,
        n_no_value=n_no_value,
        n_err_estimated=finished.n_err_estimated,
        median_level=finished.median_level,
        unit=unit,
        elapsed_s=elapsed_s,
        options=options,
        n_err_unknown=n_err_unknown,
        target_scale=1.0 if scale is None else scale.factor,
        target_scale_error=0.0 if scale is None else scale.error,
        predicted_bytes=predicted_bytes,
    )


def skipped(
    target: str,
    dropped: tuple[tuple[str, str], ...],
    output: str | None,
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
        n_masked=(),
        n_uncovered=0,
        n_no_value=0,
        n_err_estimated=0,
        median_level=None,
        unit=None,
        elapsed_s=elapsed_s,
        options=options,
    )


def gaps(outcome: Outcome) -> list[str]:
    """Return warnings of what averaging met that the headers could not tell.

    Parameters
    ----------
    outcome : Outcome
        Of an average that was made.
    """
    warnings = []
    if outcome.n_uncovered:
        fate = "set to NaN" if outcome.options.uncovered == "nan" else "not subtracted"
        if outcome.target is None:
            fate = "NaN in the average"
        without = ""
        if outcome.n_no_value:
            without = f"; {outcome.n_no_value} of them have no value in the target either"
        warnings.append(
            f"{counted(outcome.n_uncovered, 'pixel has', 'pixels have')} no background sample, "
            f"{fate}{without}"
        )
    if outcome.n_err_estimated:
        warnings.append(
            f"{counted(outcome.n_err_estimated, 'pixel has', 'pixels have')} samples without a "
            "finite ERR; the ERR of the others was taken for theirs"
        )
    if outcome.n_err_unknown:
        warnings.append(
            "the error of the average is not known at "
            f"{counted(outcome.n_err_unknown, 'pixel', 'pixels')}; there the target's errors "
            "stay as they were, without it"
        )
    return warnings


def counted(n: int, one: str, many: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "pixel", "pixels"), counted(2, "pixel", "pixels")
    ('1 pixel', '2 pixels')
    """
    return f"{n} {one if n == 1 else many}"


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
