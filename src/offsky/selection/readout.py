"""Whether two exposures were read out alike."""

from collections.abc import Sequence

from offsky.selection.examined import Examined
from offsky.selection.suitability import differ
from offsky.values.metadata import KEYWORDS

# Not EFFEXPTM: the number of integrations may differ.
_FIELDS = ("readpatt", "ngroups", "integration_time")


def match_readout(
    target: Examined, backgrounds: Sequence[Examined]
) -> tuple[list[Examined], list[tuple[str, str]]]:
    """Sort out backgrounds that were read out otherwise than the target.

    Parameters
    ----------
    target : Examined
        The target.
    backgrounds : sequence of Examined
        The backgrounds.

    Returns
    -------
    kept : list of Examined
        Those alike, as far as both headers say.
    dropped : list of (str, str)
        Paths of the others, each with the keyword and its values.
    """
    ours = [target.plain(name) for name in _FIELDS]
    kept: list[Examined] = []
    dropped: list[tuple[str, str]] = []
    known: dict[tuple[object, ...], str | None] = {}
    for each in backgrounds:
        theirs = tuple(each.plain(name) for name in _FIELDS)
        if theirs not in known:
            known[theirs] = _difference(ours, theirs)
        reason = known[theirs]
        if reason is None:
            kept.append(each)
        else:
            dropped.append((each.path, reason))
    return kept, dropped


def _difference(ours: Sequence[object], theirs: Sequence[object]) -> str | None:
    found = [
        f"{KEYWORDS[name]} {b} (not {a})"
        for name, a, b in zip(_FIELDS, ours, theirs, strict=True)
        if differ(a, b)
    ]
    return f"read out otherwise: {', '.join(found)}" if found else None
