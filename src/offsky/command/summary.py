"""What a run tells a person, as text."""

import json
from collections.abc import Sequence
from pathlib import Path

from offsky.errors import OffskyError
from offsky.options import Options
from offsky.outcome import SKIPPED, Outcome


def render_summary(outcome: Outcome) -> str:
    """Return a short account of what was done, one fact a line."""
    if outcome.status == SKIPPED:
        return f"SKIPPED: no background used; {outcome.output} is a copy of {outcome.target}"
    lines = []
    if outcome.target is not None:
        lines.append(("target", outcome.target))
    lines.append(("backgrounds", f"{len(outcome.backgrounds)}: {_names(outcome.backgrounds)}"))
    lines += [("dropped", f"{name}: {reason}") for name, reason in outcome.dropped]
    lines.append(("options", _options(outcome.options)))
    n_rejected = sum(outcome.n_rejected)
    lines.append(
        (
            "rejected",
            f"{n_rejected:,} of {outcome.n_samples:,} samples "
            f"({n_rejected / max(outcome.n_samples, 1):.2%})",
        )
    )
    effect = "set to NaN" if outcome.options.uncovered == "nan" else "left as they were"
    if outcome.target is None:
        effect = "not averaged"
    lines.append(
        ("uncovered", f"{outcome.n_uncovered:,} pixels without a sample, {effect}")
        if outcome.n_uncovered
        else ("uncovered", "none")
    )
    if outcome.n_err_estimated:
        lines.append(("ERR", f"{outcome.n_err_estimated:,} estimated from the other samples"))
    if outcome.n_err_unknown:
        lines.append(
            ("errors", f"{outcome.n_err_unknown:,} unknown in the average, left as they were")
        )
    level = "none" if outcome.median_level is None else f"{outcome.median_level:.6g}"
    lines.append(("median level", f"{level} {outcome.unit or ''}".rstrip()))
    if outcome.combined is not None:
        lines.append(("average", outcome.combined))
    lines.append(("written", str(outcome.output)))
    lines.append(("time", f"{outcome.elapsed_s:.2f} s"))
    return "\n".join(f"{label + ':':<13} {text}" for label, text in lines)


def render_json(outcome: Outcome) -> str:
    """Return the outcome as one JSON object."""
    return json.dumps(outcome.as_dict())


def render_json_list(outcomes: Sequence[Outcome | OffskyError]) -> str:
    """Return what came of several products as one JSON object."""
    return json.dumps(
        {
            "products": [
                {"status": "FAILED", "error": str(outcome)}
                if isinstance(outcome, OffskyError)
                else outcome.as_dict()
                for outcome in outcomes
            ]
        }
    )


def _options(options: Options) -> str:
    """Return the profile, and what differs from it."""
    changed = [f"{name} {_in_words(value)}" for name, value in options.beyond_profile().items()]
    return ", ".join([f"profile {options.profile}", *changed])


def _in_words(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _names(names: tuple[str, ...]) -> str:
    """Return the first few names."""
    shown = [Path(name).name for name in names[:3]]
    if len(names) > len(shown):
        shown.append(f"and {len(names) - len(shown)} more")
    return ", ".join(shown)
