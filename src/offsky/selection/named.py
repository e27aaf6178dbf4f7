"""Backgrounds that the user names, whatever their BKGDTARG says."""

from collections.abc import Collection, Sequence

from offsky.errors import ParameterError
from offsky.selection.examined import Examined

OBSERVATION, TARGET = "obs:", "target:"


def is_by_header(what: str) -> bool:
    """Tell whether a text names backgrounds by their headers, not by files."""
    return what.lower().startswith((OBSERVATION, TARGET))


def named_by_header(what: str, exposures: Sequence[Examined]) -> list[Examined]:
    """Return the exposures that a text names.

    Parameters
    ----------
    what : str
        "obs:2" for OBSERVTN, "target:NAME" for TARGPROP or TARGNAME.
    exposures : sequence of Examined
        All there are.

    Returns
    -------
    list of Examined
        At least one; imprints are left out.

    Raises
    ------
    ParameterError
        If there is none.
    """
    sky = [each for each in exposures if not each.metadata.is_imprint]
    wanted = what.partition(":")[2].strip()
    if what.lower().startswith(OBSERVATION):
        found = [each for each in sky if _number(each.metadata.observation) == _number(wanted)]
        there = {each.metadata.observation for each in sky}
        keyword = "OBSERVTN"
    else:
        name = wanted.upper()
        found = [
            each
            for each in sky
            if name in (each.plain("proposed_target"), each.plain("target_name"))
        ]
        there = {each.metadata.proposed_target or each.metadata.target_name for each in sky}
        keyword = "TARGPROP or TARGNAME"
    if not found or not wanted:
        known = sorted(str(value) for value in there if value)
        shown = ", ".join(known[:9]) + (f" and {len(known) - 9} more" if len(known) > 9 else "")
        raise ParameterError(
            f"backgrounds {what!r}: no exposure has {keyword} {wanted}; there are "
            f"{shown or 'none'}"
        )
    return found


def check_no_imprint(what: str, named: Collection[Examined]) -> None:
    """Raise where a file that was named is an imprint."""
    for each in named:
        if each.metadata.is_imprint:
            raise ParameterError(
                f"backgrounds {what!r}: {each.name} is an imprint (IS_IMPRT), which shows no sky; "
                "name an exposure of the sky"
            )


def _number(text: str | None) -> int | str | None:
    """Return a number, whatever the zeros before it; other texts as they are."""
    return int(text) if text is not None and text.strip().isdecimal() else text
