"""JSON that was written by others: parsed, and refused where it is nested without end."""

import json
from typing import Any

# Plans, associations and records are nested 6 levels at most. What walks through them, and what
# shows a value in a message, calls itself for each level.
_MOST_LEVELS = 50


def parse_json(text: str) -> Any:
    """Return what a JSON text holds.

    Raises
    ------
    ValueError
        If it is no JSON, or nested more than 50 levels deep.

    Examples
    --------
    >>> parse_json("[1, [2]]")
    [1, [2]]
    """
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(_nested()) from error
    level = [content]
    for _ in range(_MOST_LEVELS):
        level = [
            child
            for each in level
            if isinstance(each, list | dict)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return content
    raise ValueError(_nested())


def _nested() -> str:
    return f"nested more than {_MOST_LEVELS} levels deep"
