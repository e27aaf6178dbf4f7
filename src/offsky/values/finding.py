"""The result of one check of a product, in words and numbers."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

State = Literal["ok", "doubtful", "failed", "unknown"]

STATES: tuple[State, ...] = ("failed", "doubtful", "unknown", "ok")
"""The states of a finding, the worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    code : str
        Stable name of the check, such as "OFF104"; docs/checks.md explains it.
    title : str
        What is checked, in a few words.
    state : str
        "ok", "doubtful", "failed", or "unknown" where the check cannot tell.
    finding : str
        One line with its number.
    normal : str
        What is normal.
    action : str
        What to do; empty where there is nothing to do.
    numbers : dict
        The numbers that it was judged by; None for one that is not known.
    """

    code: str
    title: str
    state: State
    finding: str
    normal: str
    action: str = ""
    numbers: dict[str, float | int | None] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes by name, ready for JSON: it has no NaN."""
        return {
            "code": self.code,
            "state": self.state,
            "title": self.title,
            "finding": self.finding,
            "normal": self.normal,
            "action": self.action,
            "numbers": {
                name: number if number is None or isfinite(number) else None
                for name, number in self.numbers.items()
            },
        }


def worst(findings: "tuple[Finding, ...] | list[Finding]") -> Finding | None:
    """Return the finding of the worst state, the first of several; None without any."""
    ranked = sorted(findings, key=lambda each: STATES.index(each.state))
    return ranked[0] if ranked else None
