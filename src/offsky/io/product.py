"""Begin a subtracted exposure's file: its primary header, and the way it is written."""

from pathlib import Path

from astropy.io import fits
from astropy.io.fits.verify import VerifyError

from offsky.errors import ExposureError
from offsky.io.average_file import set_cards, set_filename
from offsky.io.fits import FitsExposure
from offsky.io.fits_copy import FitsCopy, can_copy
from offsky.io.fits_layout import first_line
from offsky.io.fits_rewrite import FitsRewrite
from offsky.outcome import COMPLETE, SKIPPED
from offsky.provenance import STATUS_KEYWORD, Provenance, now


def new_header(target: FitsExposure, output: Path, provenance: Provenance | None) -> fits.Header:
    """Return the target's primary header as the output will have it.

    Parameters
    ----------
    target : FitsExposure
        The target.
    output : Path
        The name the file will have.
    provenance : Provenance or None
        What is subtracted; None where there is nothing to subtract.

    Raises
    ------
    ExposureError
        If the target's header is damaged so that it cannot be written again.
    """
    try:
        header = _changed(target.header.copy(), output, provenance)
        header.tostring()
    except (ValueError, VerifyError) as error:
        raise ExposureError(
            f"{target.path}: its primary header is damaged ({first_line(error)}); "
            "fetch the file again"
        ) from error
    return header


def _changed(header: fits.Header, output: Path, provenance: Provenance | None) -> fits.Header:
    for key in ("CHECKSUM", "DATASUM"):
        header.remove(key, ignore_missing=True)
    set_filename(header, output.name)
    header["DATE"] = now()
    header[STATUS_KEYWORD] = (
        SKIPPED if provenance is None else COMPLETE,
        "Background subtraction",
    )
    if provenance is not None:
        set_cards(header, provenance)
        for line in provenance.history():
            header.add_history(line)
    return header


def start_copy(target: FitsExposure, part: Path, header: fits.Header) -> FitsCopy | FitsRewrite:
    """Begin a copy of the target's bytes, or a new file where that cannot be done."""
    if can_copy(target):
        return FitsCopy(target, part, header)
    return FitsRewrite(target, part, header)
