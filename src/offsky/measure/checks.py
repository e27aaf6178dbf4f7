"""The checks of a product: pure functions of what was kept while its rows went by.

Each returns a `Finding` with a stable code; docs/checks.md has a paragraph on each.
"""

from collections.abc import Callable

from offsky.measure.check_exposures import (
    check_configuration,
    check_rejected,
    check_twice,
    check_uncovered,
)
from offsky.measure.check_pixels import check_errors, check_flags, check_level, check_structure
from offsky.measure.check_sources import check_ghost, check_own_target
from offsky.measure.judged import Judged
from offsky.values.finding import Finding

CODES = tuple(f"OFF{number}" for number in range(101, 111))
"""The codes of all checks, in their order."""

_CHECKS: tuple[Callable[[Judged], Finding], ...] = (
    check_own_target,
    check_ghost,
    check_flags,
    check_errors,
    check_level,
    check_structure,
    check_rejected,
    check_uncovered,
    check_configuration,
    check_twice,
)


def check(judged: Judged) -> tuple[Finding, ...]:
    """Return the findings of all checks, in the order of their codes.

    Parameters
    ----------
    judged : Judged
        A product.

    Returns
    -------
    tuple of Finding
        One for each of `CODES`.
    """
    return tuple(one(judged) for one in _CHECKS)
