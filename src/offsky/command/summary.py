"""Outcomes as JSON; as text, an `Outcome` is its own ``str``."""

import json
from collections.abc import Sequence

from offsky.errors import OffskyError
from offsky.outcome import Outcome


def render_json(outcome: Outcome) -> str:
    """Return the outcome as one JSON object."""
    return json.dumps(outcome.as_dict(), allow_nan=False)


def render_json_list(outcomes: Sequence[Outcome | OffskyError]) -> str:
    """Return the outcomes of several products as one JSON object."""
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
