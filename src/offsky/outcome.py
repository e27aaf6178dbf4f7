"""The outcome of one subtraction or average, as values."""

from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any

from offsky.combine.whole import Finished
from offsky.declared import in_words
from offsky.errors import one_line
from offsky.options import Options
from offsky.subtraction import Coefficients

COMPLETE, SKIPPED, FAILED = "COMPLETE", "SKIPPED", "FAILED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The files, counts and options of one subtraction or average; ``str`` is a summary.

    Attributes
    ----------
    status : str
        "COMPLETE", or "SKIPPED" where nothing was subtracted: the output is a copy.
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
        Pixels where a kept sample without a finite ERR got the mean of the others; 0 if
        the average has no ERR.
    median_level : float or None
        Median of the average; None if no pixel has one.
    unit : str or None
        Unit of that level.
    elapsed_s : float
        Wall time.
    options : Options
        The options of averaging and subtracting.
    n_err_unknown : int
        Pixels where errors were to be propagated but the average has no known error; the
        target's error stays as it was there.
    target_scale, target_scale_error : float
        The factor on the average, and its standard error where it was fitted.
    target_offset, target_offset_error : float
        The constant subtracted with it, and its standard error where it was fitted.
    predicted_bytes : int
        Memory of the process, as predicted before pixels were read.
    reason : str or None
        Why backgrounds that were read gave nothing to subtract; None otherwise.
    report : str or None
        The page that shows the product, where it was asked for.
    err_ratios : tuple of float
        Scatter of the samples over their ERR, for each background used; empty where it was not
        measured (see the option `err_scale`).
    imprints : tuple of (str, tuple of str)
        The target and the backgrounds from which an imprint was subtracted, each with its
        imprints.
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
    target_offset: float = 0.0
    target_offset_error: float = 0.0
    predicted_bytes: int = 0
    reason: str | None = None
    report: str | None = None
    err_ratios: tuple[float, ...] = ()
    imprints: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name, ready for JSON.

        JSON has no infinite numbers and no NaN: they are None, and ``not_finite`` says
        which they were.
        """
        found: dict[str, str] = {}
        values: dict[str, Any] = _finite(_by_name(self), "", found)
        return {**values, "not_finite": found} if found else values

    def __str__(self) -> str:
        """Return a short summary, one fact a line."""
        if self.status == SKIPPED:
            why = self.reason or "no background used"
            return one_line(f"SKIPPED: {why}; {self.output} is a copy of {self.target}")
        lines = [] if self.target is None else [("target", self.target)]
        lines.append(("backgrounds", f"{len(self.backgrounds)}: {_first(self.backgrounds)}"))
        lines += [("dropped", f"{name}: {reason}") for name, reason in self.dropped]
        if self.imprints:
            names = tuple(dict.fromkeys(name for _, names in self.imprints for name in names))
            of = _count(len(self.imprints), "exposure")
            lines.append(("imprints", f"{_first(names)}, subtracted from {of}"))
        changed = self.options.beyond_profile().items()
        lines.append(("options", ", ".join([
            f"profile {self.options.profile}",
            *(f"{name} {in_words(value)}" for name, value in changed),
        ])))  # fmt: skip
        n_rejected = sum(self.n_rejected)
        share = n_rejected / max(self.n_samples, 1)
        lines.append(
            ("rejected", f"{n_rejected:,} of {_count(self.n_samples, 'sample')} ({share:.2%})")
        )
        if self.err_ratios:
            lines.append(("scatter/ERR", ", ".join(f"{q:.2f}" for q in self.err_ratios)))
        n_masked = sum(self.n_masked)
        if n_masked:
            lines.append(("masked", f"{_count(n_masked, 'sample')} left out by masks"))
        lines.append(("uncovered", self._uncovered()))
        if self.n_err_estimated:
            lines.append(("ERR", f"{self.n_err_estimated:,} estimated from the other samples"))
        if self.n_err_unknown:
            unknown = f"{self.n_err_unknown:,} unknown in the average, left as they were"
            lines.append(("errors", unknown))
        level = "none" if self.median_level is None else f"{self.median_level:.6g}"
        lines.append(("median level", f"{level} {self.unit or ''}".rstrip()))
        if self.target_scale_error or self.target_offset_error:
            lines.append(("subtracted", self._fitted()))
        if self.combined is not None:
            lines.append(("average", self.combined))
        lines.append(("written", str(self.output)))
        if self.report is not None:
            lines.append(("report", self.report))
        lines.append(("time", f"{self.elapsed_s:.2f} s"))
        return "\n".join(f"{label + ':':<13} {one_line(text)}" for label, text in lines)

    def _repr_html_(self) -> str:
        """Return the summary for a notebook, with a link to the report."""
        from html import escape
        from urllib.parse import quote

        rows = []
        for line in str(self).splitlines():
            label, _, text = line.partition(":")
            shown = escape(text.strip())
            if label == "report" and self.report is not None:
                shown = f'<a href="{escape(quote(self.report))}" target="_blank">{shown}</a>'
            rows.append(
                f'<tr><th style="text-align:left">{escape(label)}</th>'
                f'<td style="text-align:left">{shown}</td></tr>'
            )
        return f"<table>{''.join(rows)}</table>"

    def _fitted(self) -> str:
        """Return what was fitted to the target, with its errors."""
        factor, constant = f"{self.target_scale:.6g}", f"{self.target_offset:.6g}"
        if self.target_scale_error:
            factor += f" ± {self.target_scale_error:.2g}"
        if self.target_offset_error:
            constant += f" ± {self.target_offset_error:.2g}"
        constant = f"{constant} {self.unit or ''}".rstrip()
        of_average = "the average" if factor == "1" else f"{factor} times the average"
        return of_average if constant.split()[0] == "0" else f"{of_average} plus {constant}"

    def _uncovered(self) -> str:
        """Return the number of uncovered pixels, and what was done to them."""
        if not self.n_uncovered:
            return "none"
        effect = "set to NaN" if self.options.uncovered == "nan" else "left as they were"
        if self.target is None:
            effect = "not averaged"
        no_value = without_value(self.n_no_value)
        return f"{_count(self.n_uncovered, 'pixel')} without a sample, {effect}{no_value}"


def _finite(value: Any, place: str, found: dict[str, str]) -> Any:
    """Return a value with None for numbers that JSON does not have; note them in `found`."""
    if isinstance(value, Options):
        value = _by_name(value)
    if isinstance(value, dict):
        return {key: _finite(each, f"{place}.{key}", found) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_finite(each, f"{place}[{i}]", found) for i, each in enumerate(value))
    if isinstance(value, float) and not isfinite(value):
        found[place.removeprefix(".")] = str(value)
        return None
    return value


def _by_name(value: Outcome | Options) -> dict[str, Any]:
    """Return attributes by name; `dataclasses.asdict` would copy every one of them too."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _first(names: tuple[str, ...]) -> str:
    """Return the first few names, without their folders."""
    shown = [Path(name).name for name in names[:3]]
    if len(names) > len(shown):
        shown.append(f"and {len(names) - len(shown)} more")
    return ", ".join(shown)


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
    coefficients: Coefficients | None = None,
    predicted_bytes: int = 0,
    imprints: tuple[tuple[str, tuple[str, ...]], ...] = (),
) -> Outcome:
    """Return the outcome of a complete average or subtraction."""
    used = Coefficients() if target is None or coefficients is None else coefficients
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
        target_scale=used.factor,
        target_scale_error=used.factor_error,
        target_offset=used.offset,
        target_offset_error=used.offset_error,
        predicted_bytes=predicted_bytes,
        err_ratios=finished.err_ratios,
        imprints=imprints,
    )


def skipped(
    target: str,
    dropped: tuple[tuple[str, str], ...],
    output: str | None,
    elapsed_s: float,
    options: Options,
    reason: str | None = None,
) -> Outcome:
    """Return the outcome of a target that was copied without a change."""
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
        reason=reason,
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
        warnings.append(
            f"{counted(outcome.n_uncovered, 'pixel has', 'pixels have')} no background sample, "
            f"{fate}{without_value(outcome.n_no_value)}"
        )
    if outcome.n_err_estimated:
        warnings.append(
            f"{counted(outcome.n_err_estimated, 'pixel has', 'pixels have')} samples without a "
            "finite ERR; the ERR of the others was taken for theirs"
        )
    warnings += _of_each_background(outcome)
    if outcome.n_err_unknown:
        warnings.append(
            "the error of the average is not known at "
            f"{counted(outcome.n_err_unknown, 'pixel', 'pixels')}; there the target's errors "
            "stay as they were, without it"
        )
    return warnings


# Clean data lose less than a thousandth of their samples, and ERR of good files is right to a
# fifth or so.
_MUCH_REJECTED, _RIGHT_ERR = 0.02, (0.8, 1.25)


def _of_each_background(outcome: Outcome) -> list[str]:
    """Return warnings of single backgrounds: what was rejected of them, and their ERR."""
    warnings = []
    n = len(outcome.backgrounds)
    if outcome.options.reject == "error" and n > 1:
        # Of what all have on average: how many each has is not counted.
        n_each = max(outcome.n_samples, 1) / n
        for name, n_rejected in zip(outcome.backgrounds, outcome.n_rejected, strict=False):
            if n_rejected > _MUCH_REJECTED * n_each:
                warnings.append(
                    f"{Path(name).name} lost {n_rejected / n_each:.1%} of its samples, where "
                    "clean data lose 0.1 %: look for a level that was not matched (level), an "
                    "ERR that is too small, or a source that moves"
                )
    low, high = _RIGHT_ERR
    wrong = [
        f"{Path(name).name} {ratio:.2f}"
        for name, ratio in zip(outcome.backgrounds, outcome.err_ratios, strict=False)
        if not low <= ratio <= high
    ]
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        warnings.append(
            f"{counted(len(wrong), 'background', 'backgrounds')} of {n} scatter by other than "
            f"their ERR (scatter / ERR: {', '.join(wrong[:5])}{more}); rejection allows for it, "
            "but the error of the average follows from ERR and is as wrong: compare with the "
            "scatter of the product"
        )
    return warnings


def without_value(n_no_value: int) -> str:
    """Return how many of some uncovered pixels the target has no value for; empty for none."""
    if not n_no_value:
        return ""
    return f"; {counted(n_no_value, 'of them has', 'of them have')} no value in the target either"


def counted(n: int, one: str, many: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "pixel", "pixels"), counted(2, "pixel", "pixels")
    ('1 pixel', '2 pixels')
    """
    return f"{n} {one if n == 1 else many}"
