"""What headers say of a product and its exposures, for checks and reports."""

from dataclasses import dataclass
from math import cos, hypot, isfinite, radians, sin, sqrt
from typing import Any

from offsky.io.fits import FitsExposure
from offsky.values.exposure import Exposure
from offsky.values.facts import ExposureFacts
from offsky.values.fwhm import point_fwhm

# Arcsec a pixel, rounded, from JDox: MIRI imaging 0.11 (MIRI Imaging), NIRCam 0.031 and 0.063
# (NIRCam Detector Overview), NIRISS 0.065 (NIRISS Detector Overview), FGS 0.069. Files that
# were calibrated photometrically have PIXAR_A2, which wins.
_SCALES = {"MIRI": 0.1108, "NIRCAM_SHORT": 0.0311, "NIRCAM_LONG": 0.0630}
_SCALES |= {"NIRISS": 0.0656, "FGS": 0.0690}

_IMAGING = {
    "MIR_IMAGE",
    "MIR_4QPM",
    "MIR_LYOT",
    "MIR_CORONCAL",
    "NRC_IMAGE",
    "NRC_CORON",
    "NRC_TSIMAGE",
    "NIS_IMAGE",
    "NIS_AMI",
    "FGS_IMAGE",
}
_SLITS = {
    "NRS_FIXEDSLIT",
    "NRS_MSASPEC",
    "NRS_BRIGHTOBJ",
    "NRS_IFU",
    "MIR_LRS-FIXEDSLIT",
    "MIR_LRS-SLITLESS",
}


@dataclass(frozen=True, slots=True)
class Pointing:
    """Where an exposure points, and how its pixels lie on the sky."""

    ra: float
    dec: float
    roll: float
    v3i_yang: float
    parity: float
    scale: float


class Keywords:
    """Values of an exposure's headers, SCI's before the primary's; None where there is none.

    Parameters
    ----------
    exposure : Exposure
        A FITS file; of any other only the facts of its metadata are known.
    """

    def __init__(self, exposure: Exposure) -> None:
        self._cards = []
        if isinstance(exposure, FitsExposure):
            extents = exposure.extents
            self._cards = [each.cards for each in extents if each.name == "SCI"][:1]
            self._cards.append(extents[0].cards)

    def get(self, keyword: str) -> Any:
        """Return a value."""
        for cards in self._cards:
            try:
                value = cards.get(keyword)
            except Exception:  # a card that astropy cannot parse says nothing
                continue
            if value is not None and not _is_odd(value):
                return value.strip() if isinstance(value, str) else value
        return None

    def number(self, keyword: str) -> float | None:
        """Return a finite number."""
        value = self.get(keyword)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if isfinite(value) else None

    def text(self, keyword: str) -> str | None:
        """Return a text."""
        value = self.get(keyword)
        return None if value is None else str(value)


def _is_odd(value: Any) -> bool:
    return type(value).__name__ == "Undefined" or value == ""


def exposure_facts(exposure: Exposure) -> ExposureFacts:
    """Return what the header of an exposure says."""
    metadata, keywords = exposure.metadata, Keywords(exposure)
    readout = metadata.readpatt
    if readout is not None and metadata.ngroups is not None:
        readout = f"{readout}, {metadata.ngroups} groups"
    times = [t for t in (metadata.start_time, metadata.end_time) if t is not None]
    middle = metadata.mid_time
    if middle is None and times:
        middle = sum(times) / len(times)
    date = metadata.date_beg
    if date is None and (day := keywords.text("DATE-OBS")) is not None:
        date = f"{day}T{keywords.text('TIME-OBS') or '00:00:00'}"
    return ExposureFacts(
        name=exposure.name,
        date=date,
        mjd=middle,
        readout=readout,
        exposure_time=metadata.exposure_time,
        n_integrations=exposure.shape[0] if len(exposure.shape) == 3 else 1,
        imprint=keywords.text("S_IMPRNT"),
        background=metadata.status,
        master=keywords.text("S_MSBSUB"),
    )


def pointing_of(exposure: Exposure) -> Pointing | None:
    """Return where an exposure points; None where its header does not say."""
    keywords = Keywords(exposure)
    names = ("RA_REF", "DEC_REF", "ROLL_REF", "V3I_YANG", "VPARITY")
    ra, dec, roll, v3i_yang, parity = (keywords.number(name) for name in names)
    scale = pixel_scale(exposure)
    if scale is None or ra is None or dec is None or roll is None:
        return None
    if v3i_yang is None or parity is None:
        return None
    return Pointing(ra, dec, roll, v3i_yang, parity, scale)


def pixel_scale(exposure: Exposure) -> float | None:
    """Return arcsec a pixel; None where it is not known."""
    area = Keywords(exposure).number("PIXAR_A2")
    if area is not None and area > 0:
        return sqrt(area)
    metadata = exposure.metadata
    name = (metadata.instrument or "").upper()
    if name == "NIRCAM":
        long = (metadata.detector or "").upper().endswith(("LONG", "A5", "B5"))
        name += "_LONG" if long else "_SHORT"
    return _SCALES.get(name)


def offset_between(target: Pointing, background: Pointing) -> tuple[float, float] | None:
    """Return by how many columns and rows a source lies elsewhere in a background.

    Notes
    -----
    The matrix from pixels to the sky is that of the pipeline's `calc_rotation_matrix`, for
    pixels along the axes of the ideal frame. None where the two are rolled by more than half
    a degree: no one offset holds then.
    """
    if abs((target.roll - background.roll + 180) % 360 - 180) > 0.5:
        return None
    # From the target to the background, arcsec east and north.
    east = (background.ra - target.ra + 180) % 360 - 180
    east *= 3600 * cos(radians(target.dec))
    north = 3600 * (background.dec - target.dec)
    angle = radians(target.roll - target.parity * target.v3i_yang)
    x = target.parity * cos(angle) * east - target.parity * sin(angle) * north
    y = sin(angle) * east + cos(angle) * north
    return -x / target.scale, -y / target.scale


def separation_between(target: Exposure, background: Exposure) -> float | None:
    """Return the distance between two pointings, arcsec; None where it is not known."""
    one, other = target.metadata, background.metadata
    pairs = (
        (one.ra_ref, one.dec_ref, other.ra_ref, other.dec_ref),
        (one.ra_v1, one.dec_v1, other.ra_v1, other.dec_v1),
    )
    for ra, dec, other_ra, other_dec in pairs:
        if ra is None or dec is None or other_ra is None or other_dec is None:
            continue
        east = ((other_ra - ra + 180) % 360 - 180) * cos(radians(dec))
        return 3600 * hypot(east, other_dec - dec)
    return None


def is_imaging(exp_type: str | None) -> bool:
    """Tell whether a mode shows sources as points on the sky."""
    return exp_type in _IMAGING


def is_slit(exp_type: str | None) -> bool:
    """Tell whether nods of a mode lie inside a slit or an aperture."""
    return exp_type in _SLITS


def point_width(exposure: Exposure) -> float | None:
    """Return the width (FWHM) of a point source in pixels, one at least; None if unknown."""
    scale, width = pixel_scale(exposure), point_fwhm(exposure.metadata)
    return None if scale is None or width is None else max(1.0, width / scale)
