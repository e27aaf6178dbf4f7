"""Whether two exposures were read out alike."""

from collections.abc import Sequence

from offsky.selection.examined import READOUT, Examined
from offsky.selection.suitability import differ
from offsky.values.metadata import KEYWORDS


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
    ours = target.readout
    kept: list[Examined] = []
    dropped: list[tuple[str, str]] = []
    known: dict[tuple[object, ...], str | None] = {}
    for each in backgrounds:
        theirs = each.readout
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
        for name, a, b in zip(READOUT, ours, theirs, strict=True)
        if differ(a, b)
    ]
    return f"read out otherwise: {', '.join(found)}" if found else None
