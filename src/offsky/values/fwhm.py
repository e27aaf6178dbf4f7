"""How wide a point source is in each filter."""

import re

from offsky.values.metadata import Metadata

ARCSEC_PER_MICRON = 0.0317
"""Width by diffraction alone: wavelength over 6.5 m."""

# Full width at half maximum in arcsec, as measured in flight, from the articles on point
# spread functions of the JWST User Documentation (jwst-docs.stsci.edu): MIRI, table 1; NIRCam,
# wide filters.
_MEASURED = {
    "MIRI": {
        "F560W": 0.207,
        "F770W": 0.269,
        "F1000W": 0.328,
        "F1130W": 0.375,
        "F1280W": 0.420,
        "F1500W": 0.488,
        "F1800W": 0.591,
        "F2100W": 0.674,
        "F2550W": 0.803,
    },
    "NIRCAM": {
        "F090W": 0.033,
        "F115W": 0.040,
        "F150W": 0.050,
        "F200W": 0.066,
        "F277W": 0.092,
        "F356W": 0.116,
        "F444W": 0.145,
    },
}

_BAND = re.compile(r"F(\d{3,4})(?:W2?|M|N|C)")


def point_fwhm(m: Metadata) -> float | None:
    """Return the width (FWHM) of a point source.

    Parameters
    ----------
    m : Metadata
        The exposure's header.

    Returns
    -------
    float or None
        Arcsec, from the table; for other filters that have a wavelength in their names, by
        diffraction. None where there is no such filter.
    """
    # A narrow filter in the pupil wheel is crossed with a wide one.
    for name in (m.pupil, m.filter):
        band = (name or "").strip().upper()
        found = _BAND.fullmatch(band)
        if found is not None:
            measured = _MEASURED.get((m.instrument or "").strip().upper(), {})
            return measured.get(band, ARCSEC_PER_MICRON * int(found[1]) / 100)
    return None
