"""Warn of dithers so close that a source is subtracted from itself."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from offsky.selection.examined import Examined, Paired
from offsky.values.fwhm import point_fwhm

Places = npt.NDArray[np.float64]

# Rows of a pattern's table of separations that are worked on at a time.
_ROWS = 256


def warn_of_close(examined: Mapping[str, Examined], found: Sequence[Paired]) -> Iterator[str]:
    """Yield a warning for each pattern with backgrounds closer than one FWHM.

    Parameters
    ----------
    examined : mapping of str to Examined
        Exposures by their paths.
    found : sequence of Paired
        Targets of dither patterns, and their backgrounds.
    """
    patterns: dict[int, list[Paired]] = {}
    for each in found:
        if each.pattern is not None and each.backgrounds:
            patterns.setdefault(each.pattern, []).append(each)
    for members in patterns.values():
        first = examined[members[0].target]
        fwhm = point_fwhm(first.metadata)
        paths = sorted({p for each in members for p in (each.target, *each.backgrounds)})
        places = None if fwhm is None else _places([examined[path] for path in paths])
        if fwhm is not None and places is not None:
            warning = _warning(first, members, paths, places, fwhm)
            if warning is not None:
                yield warning


def _warning(
    first: Examined, members: Sequence[Paired], paths: Sequence[str], places: Places, fwhm: float
) -> str | None:
    number = {path: i for i, path in enumerate(paths)}
    n_close, n_all, n_without, nearest = 0, 0, 0, np.inf
    for begin in range(0, len(members), _ROWS):
        part = members[begin : begin + _ROWS]
        rows = places[[number[each.target] for each in part]]
        apart = np.sqrt(np.sum((rows[:, None] - places[None]) ** 2, axis=-1))
        for each, distances in zip(part, apart, strict=True):
            own = distances[[number[path] for path in each.backgrounds]]
            close = own < fwhm
            n_close += int(close.sum())
            n_all += len(own)
            n_without += bool(close.all())
            nearest = min(nearest, float(own.min()))
    if not n_close:
        return None
    m = first.metadata
    pattern = (
        f"{m.instrument} {m.filter}, observation {m.observation}, visit group {m.visit_group}"
    )
    left = "leaves them out"
    if n_without:
        left = (
            f"leaves nothing for {n_without} of {len(members)} targets, which need dedicated "
            "backgrounds (--from dedicated)"
        )
    return (
        f"{pattern}: {n_close} of {n_all} pairs of target and background lie within one FWHM "
        f'({fwhm:.3g}"), the nearest {nearest:.2g}" apart: a source is subtracted from itself; '
        f"--min-separation 1fwhm {left}"
    )


def _places(exposures: Sequence[Examined]) -> Places | None:
    """Return where exposures were pointed, in arcsec; None where a header does not say."""
    moving = any((each.metadata.target_type or "").upper() == "MOVING" for each in exposures)
    names = [("x_offset", "y_offset")]
    if not moving:
        names = [("ra_ref", "dec_ref"), ("ra_v1", "dec_v1"), *names]
    for pair in names:
        values = [[getattr(each.metadata, name) for name in pair] for each in exposures]
        if not any(None in each for each in values):
            known = np.array(values, dtype=np.float64)
            return known if pair == names[-1] else _on_sphere(np.radians(known))
    return None


def _on_sphere(places: Places) -> Places:
    """Return places on a sphere with a radius such that short chords are in arcsec."""
    ra, dec = places.T
    across = np.cos(dec)
    radius = 3600 * 180 / np.pi
    return radius * np.stack([across * np.cos(ra), across * np.sin(ra), np.sin(dec)], axis=-1)
