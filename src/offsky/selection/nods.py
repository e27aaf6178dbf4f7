"""Which exposures are nods of each other: the rules of the JWST pipeline, mode by mode.

The generator of associations (`jwst.associations`) knows a target and an exposure
specification that stand in no header; visit group, sequence and activity stand for them here.
"""

from dataclasses import dataclass

from offsky.values.metadata import KEYWORDS, Metadata

_ACTIVITY = ("visit_group", "sequence", "activity")


@dataclass(frozen=True, slots=True)
class NodMode:
    """How one mode nods.

    Attributes
    ----------
    pattern_types : tuple of str
        PATTTYPE of its nods; empty for any.
    groups : tuple of str
        Fields by which its patterns are told apart, beside programme and observation.
    agree : tuple of str
        Fields in which nods agree, however patterns are told apart.
    has_subpixel : bool
        Whether SUBPXPTS exposures in turn are of one nod.
    """

    pattern_types: tuple[str, ...]
    groups: tuple[str, ...]
    agree: tuple[str, ...] = ()
    has_subpixel: bool = False


MODES = {
    "NRS_FIXEDSLIT": NodMode(
        (),
        _ACTIVITY,
        ("proposed_target", "fixed_slit", "subarray", "n_positions", "n_subpixel"),
        has_subpixel=True,
    ),
    "NRS_MSASPEC": NodMode((), _ACTIVITY, ("proposed_target", "msa_file"), has_subpixel=True),
    # A tile of a mosaic is a visit or a visit group.
    "NRS_IFU": NodMode(("2-POINT-NOD", "4-POINT-NOD"), ("visit", *_ACTIVITY), ("pattern_type",)),
    "MIR_LRS-FIXEDSLIT": NodMode(("ALONG-SLIT-NOD",), ()),
}
"""The modes that nod, by EXP_TYPE."""

FIVE_POINTS = 5
"""Nods of S1600A1 of which neighbours overlap: half of the source is in both (jwst #8301)."""


def mode_of(m: Metadata) -> NodMode | None:
    """Return how an exposure nods; None where it does not."""
    mode = MODES.get((m.exp_type or "").upper())
    if mode is None or not mode.pattern_types:
        return mode
    return mode if (m.pattern_type or "").upper() in mode.pattern_types else None


def why_none(m: Metadata) -> str | None:
    """Tell why an exposure is no nod; None where it is one that tells its place."""
    mode = mode_of(m)
    if mode is None:
        return (
            f"no nod (EXP_TYPE {m.exp_type or 'not given'}, PATTTYPE "
            f"{m.pattern_type or 'not given'}); --from dithers takes the others of any pattern"
        )
    if m.pattern_number is None:
        return f"its header does not say which nod it is ({KEYWORDS['pattern_number']})"
    return None


def nod_of(m: Metadata) -> int | None:
    """Return the number of an exposure's nod, from 0; None where its header does not say."""
    if m.pattern_number is None:
        return None
    return (m.pattern_number - 1) // _per_nod(m)


def excluded_nods(m: Metadata) -> list[tuple[int, str]]:
    """Return the nods that are no backgrounds of a target, each with the reason.

    Parameters
    ----------
    m : Metadata
        The target's header, of which `why_none` says nothing.

    Returns
    -------
    list of (int, str)
        Its own nod; of five points in S1600A1 also the neighbours.
    """
    own = nod_of(m)
    if own is None:
        return []
    found = [(own, f"same nod as the target: {_numbers(m, own)}")]
    slit = (m.fixed_slit or "").upper()
    n_nods = (m.n_positions or 0) // _per_nod(m)
    if slit == "S1600A1" and n_nods == FIVE_POINTS and mode_of(m) is MODES["NRS_FIXEDSLIT"]:
        found += [
            (each, f"next to the target's nod in S1600A1, sources overlap: {_numbers(m, each)}")
            for each in (own - 1, own + 1)
        ]
    return found


def _per_nod(m: Metadata) -> int:
    mode = mode_of(m)
    return max(1, m.n_subpixel or 1) if mode is not None and mode.has_subpixel else 1


def _numbers(m: Metadata, nod: int) -> str:
    """Return which pattern numbers are of a nod."""
    each = _per_nod(m)
    if each == 1:
        return f"PATT_NUM {nod + 1}"
    return f"PATT_NUM {nod * each + 1} to {(nod + 1) * each}"
