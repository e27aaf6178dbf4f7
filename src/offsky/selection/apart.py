"""How far two exposures are apart, in time and on the sky."""

from collections.abc import Iterable
from math import asin, cos, degrees, dist, hypot, radians, sin, sqrt

from offsky.errors import ParameterError
from offsky.selection.examined import Examined


def days_between(a: Examined, b: Examined) -> float:
    """Return the days between two exposures; raise ParameterError if a header does not say."""
    if a.mid_time is None or b.mid_time is None:
        timeless = a if a.mid_time is None else b
        raise ParameterError(
            f"{timeless.name}: its header does not say when it was taken (EXPMID, EXPSTART, "
            "DATE-BEG); leave it out, or plan without limits in time"
        )
    return abs(a.mid_time - b.mid_time)


def separation(a: Examined, b: Examined) -> float:
    """Return how far two exposures were pointed from each other.

    Parameters
    ----------
    a, b : Examined
        Two exposures.

    Returns
    -------
    float
        Arcsec: between the reference points of their WCS (RA_REF, DEC_REF), else between
        the telescope's axes (RA_V1, DEC_V1), else between their dither offsets (XOFFSET,
        YOFFSET) in the same observation. On a moving target only the offsets count: the
        sky goes by, the target does not.

    Raises
    ------
    ParameterError
        If the headers do not say.
    """
    here, there = a.direction, b.direction
    if here is not None and there is not None:
        # A chord: exact for small angles, and quick for millions of pairs.
        return 3600 * degrees(2 * asin(min(1.0, dist(here, there) / 2)))
    if not (a.is_moving or b.is_moving):
        places = _known([a, b], ("ra_v1", "dec_v1"))
        if places is not None:
            return great_circle(*places)
    offsets = _known([a, b], ("x_offset", "y_offset"))
    same = (a.metadata.program, a.metadata.observation) == (
        b.metadata.program,
        b.metadata.observation,
    )
    if offsets is not None and same:
        (x1, y1), (x2, y2) = offsets
        return hypot(x2 - x1, y2 - y1)
    raise ParameterError(
        f"{a.name} and {b.name}: their headers do not say how far apart they are (RA_REF and "
        "DEC_REF, RA_V1 and DEC_V1, or XOFFSET and YOFFSET of one observation); leave one out, "
        "or plan without a least separation"
    )


def _known(
    exposures: Iterable[Examined], names: tuple[str, str]
) -> list[tuple[float, float]] | None:
    places = []
    for exposure in exposures:
        x, y = (getattr(exposure.metadata, name) for name in names)
        if x is None or y is None:
            return None
        places.append((float(x), float(y)))
    return places


def great_circle(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return the angle between two places on the sky, in arcsec (haversine)."""
    (ra1, dec1), (ra2, dec2) = ((radians(x), radians(y)) for x, y in (a, b))
    h = sin((dec2 - dec1) / 2) ** 2 + cos(dec1) * cos(dec2) * sin((ra2 - ra1) / 2) ** 2
    return 3600 * degrees(2 * asin(min(1.0, sqrt(h))))
