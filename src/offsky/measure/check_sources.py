"""Checks of what became of the target's sources: subtracted from themselves, or ghosts."""

import numpy as np

from offsky.measure.ghosts import Ghost
from offsky.measure.judged import Judged
from offsky.values.facts import Facts
from offsky.values.finding import Finding, State

LEAST_GHOST, LEAST_GHOST_OF_DITHERS = 0.03, 0.04
"""Shares of a source's light that a dark image is doubtful from, at four times its scatter."""
LEAST_CERTAIN = 0.025
"""The same at eight times its scatter."""
_GHOST_SIGMA = 4.0
_MOST_GHOST_SCATTER = 0.01
# Nearer backgrounds, in widths of a point source, show the source upon itself.
_LEAST_SEPARATION = 1.5


def check_own_target(judged: Judged) -> Finding:
    """Look for a product that is zero: its target was among its own backgrounds."""
    gathered = judged.gathered
    share = gathered.n_zero / max(1, gathered.n_finite)
    if not gathered.n_finite:
        state: State = "unknown"
        text = "cannot tell: no pixel is finite"
    elif share > 0.5:
        state, text = "failed", f"SCI is exactly 0 at {share:.1%} of its finite pixels"
    else:
        state, text = "ok", f"SCI is exactly 0 at {share:.2%} of its finite pixels"
    return Finding(
        code="OFF101",
        title="Target in its own list",
        state=state,
        finding=text,
        normal="a few pixels at most",
        action="leave the target out of its backgrounds: it was subtracted from itself"
        if state == "failed"
        else "",
        numbers={"share_zero": share},
    )


def check_ghost(judged: Judged) -> Finding:
    """Look for dark images of the target's sources where backgrounds show them."""
    why = _why_no_ghost_is_judged(judged.facts)
    if why is not None:
        return _ghost_finding("unknown", f"cannot tell: {why}")
    fwhm = judged.facts.fwhm or 2.0
    ny, nx = judged.gathered.shape
    known = [(each.exposure.name, each.offset) for each in judged.facts.used if each.offset]
    apart = {name: float(np.hypot(*offset)) for name, offset in known}
    nearest = min(apart, key=lambda name: apart[name])
    if apart[nearest] < _LEAST_SEPARATION * fwhm:
        return _ghost_finding(
            "unknown",
            f"cannot tell: {nearest} points {apart[nearest]:.1f} pixels from the target, "
            f"{apart[nearest] / fwhm:.1f} times the width of a point source; a source subtracts "
            "itself",
            "leave out backgrounds nearer than 1.5 times the width of a point source "
            "(--min-separation)",
            {"least_separation_fwhm": apart[nearest] / fwhm},
        )
    inside = [(name, at) for name, at in known if abs(at[0]) < nx and abs(at[1]) < ny]
    if not inside:
        return _ghost_finding("ok", "no background shows the target's field")
    if not judged.templates.n_sources:
        return _ghost_finding(
            "unknown", "cannot tell: no source is bright enough to leave a ghost"
        )
    ghosts = [(name, ghost) for name, at in inside if (ghost := judged.ghost(at)) is not None]
    if not ghosts:
        return _ghost_finding("ok", "no source of the target lies within a background's field")
    name, worst = min(ghosts, key=lambda each: each[1].amplitude)
    return _judge_ghost(name, worst, dithered=len(inside) > 1)


def _why_no_ghost_is_judged(facts: Facts) -> str | None:
    """Return why no ghost can be looked for; None where one can."""
    mode = facts.exp_type or "this mode"
    if facts.subtraction == "none" or not facts.used:
        return "no background is known to have been subtracted"
    if facts.is_nodded and not facts.is_imaging:
        return f"{mode} is nodded inside a slit, where negative traces are there on purpose"
    if not facts.is_imaging:
        return f"{mode} shows spectra, not sources"
    if all(each.offset is None for each in facts.used):
        return facts.why_no_offsets or "the headers do not tell where backgrounds point"
    return None


def _judge_ghost(name: str, ghost: Ghost, *, dithered: bool) -> Finding:
    """Judge the darkest ghost, which the named background leaves."""
    least = LEAST_GHOST_OF_DITHERS if dithered else LEAST_GHOST
    limit = max(_GHOST_SIGMA * ghost.scatter, least)
    numbers: dict[str, float | None] = {
        "ghost_percent": 100 * ghost.amplitude,
        "scatter_percent": 100 * ghost.scatter,
        "n_sources": ghost.n_sources,
    }
    certain = ghost.amplitude < -LEAST_CERTAIN and ghost.significance < -2 * _GHOST_SIGMA
    likely = ghost.amplitude < -least and ghost.significance < -_GHOST_SIGMA
    if certain or (likely and ghost.scatter <= _MOST_GHOST_SCATTER):
        return _ghost_finding(
            "failed" if ghost.amplitude < -0.1 else "doubtful",
            f"a dark image of {-100 * ghost.amplitude:.1f} % of the sources' light where "
            f"{name} shows them ({-ghost.significance:.0f} times its scatter)",
            "use backgrounds farther away or more of them, reject outliers (--profile offsky), "
            "or mask the sources (--mask-sources)",
            numbers,
        )
    if ghost.scatter > _MOST_GHOST_SCATTER:
        return _ghost_finding(
            "unknown",
            f"cannot tell: a ghost under {100 * limit:.1f} % would not be seen here",
            numbers=numbers,
        )
    sources = "1 source" if ghost.n_sources == 1 else f"{ghost.n_sources} sources"
    return _ghost_finding(
        "ok", f"none above {100 * limit:.1f} % of the light of {sources}", numbers=numbers
    )


def _ghost_finding(
    state: State, text: str, action: str = "", numbers: dict[str, float | None] | None = None
) -> Finding:
    return Finding(
        code="OFF102",
        title="Ghost of the source",
        state=state,
        finding=text,
        normal="no dark image of a source where a background shows it",
        action=action,
        numbers=numbers or {},
    )
