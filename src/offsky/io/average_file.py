"""Write an average as an exposure that can be a background again."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from offsky.clip import ClippedMean
from offsky.provenance import Provenance, now

# Of the first background's primary header these do not hold for the average.
_NOT_INHERITED = ("CHECKSUM", "DATASUM", "NEXTEND", "S_BKDSUB")


def write_average(
    path: Path,
    filename: str,
    average: ClippedMean,
    provenance: Provenance,
    *,
    header: fits.Header | None,
    unit: str | None,
) -> None:
    """Write SCI, ERR and DQ of an average to a FITS file.

    Parameters
    ----------
    path : Path
        The file to fill.
    filename : str
        The name it will have (keyword FILENAME).
    average : ClippedMean
        With ERR and DQ.
    provenance : Provenance
        What to say of its making.
    header : astropy.io.fits.Header or None
        Primary header of one of the exposures, for instrument, filter and so on.
    unit : str or None
        Unit of SCI and ERR.
    """
    primary = fits.PrimaryHDU(header=None if header is None else header.copy())
    for key in _NOT_INHERITED:
        primary.header.remove(key, ignore_missing=True, remove_all=True)
    primary.header["FILENAME"] = filename
    primary.header["DATE"] = now()
    primary.header["DATAMODL"] = "ImageModel"
    set_cards(primary.header, provenance)
    for line in provenance.history():
        primary.header.add_history(line)
    hdus = [primary]
    for name, data in (("SCI", average.sci), ("ERR", average.err), ("DQ", average.dq)):
        assert data is not None
        hdu = fits.ImageHDU(np.asarray(data), name=name)
        if unit is not None and name != "DQ":
            hdu.header["BUNIT"] = unit
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path, overwrite=True)


def set_cards(header: fits.Header, provenance: Provenance) -> None:
    """Write the facts of a product's making into its primary header."""
    for key, value, comment in provenance.cards():
        header[key] = (value, comment)
