"""Write an average as an exposure that can be a background again."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyError

from offsky.arrays import Array
from offsky.io.cards import InputRecord, Provenance, now, printable
from offsky.io.fits import FitsExposure
from offsky.io.fits_layout import header_damage_told
from offsky.io.regular import open_regular
from offsky.io.writer import SavedAverage
from offsky.values.metadata import KEYWORDS, Metadata

KEPT_EXTENSION, INPUTS_EXTENSION = "N_KEPT", "BKGINPUT"

# Of the template's primary header these do not hold for the average.
_NOT_INHERITED = ("CHECKSUM", "DATASUM", "NEXTEND", "DATE-OBS", "TIME-OBS")


def write_average(
    file: Path, filename: str, saved: SavedAverage, *, like: FitsExposure | None
) -> None:
    """Write an average to a FITS file that is an exposure like its inputs.

    Parameters
    ----------
    file : Path
        The file to fill.
    filename : str
        The name it will have (keyword FILENAME).
    saved : SavedAverage
        The average, with ERR and DQ; its VAR_POISSON and VAR_RNOISE are written where it
        has them.
    like : FitsExposure or None
        An exposure like it, whose primary header tells everything else.

    Raises
    ------
    ExposureError
        If that header is damaged so that it cannot be written again.
    """
    average, metadata = saved.average, saved.metadata
    if like is None:
        primary = _primary(filename, saved.provenance, None, metadata)
    else:
        with header_damage_told(like.path):
            primary = _primary(filename, saved.provenance, like.header, metadata)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                primary.header.tostring()
    hdus = [primary]
    planes = {
        "SCI": average.sci,
        "ERR": average.err,
        "DQ": average.dq,
        "VAR_POISSON": average.var_poisson,
        "VAR_RNOISE": average.var_rnoise,
    }
    for name, data in planes.items():
        if data is None:
            continue
        hdu = fits.ImageHDU(np.asarray(data), name=name)
        if metadata.unit is not None and name in ("SCI", "ERR"):
            hdu.header["BUNIT"] = metadata.unit
        hdus.append(hdu)
    hdus.append(fits.ImageHDU(average.n_kept.astype(np.int32), name=KEPT_EXTENSION))
    hdus.append(inputs_table(saved.records))
    with warnings.catch_warnings():
        # Oddities of the template's header are kept as they are.
        warnings.simplefilter("ignore")
        fits.HDUList(hdus).writeto(file, overwrite=True, output_verify="ignore")


def _primary(
    filename: str, provenance: Provenance, header: fits.Header | None, metadata: Metadata
) -> fits.PrimaryHDU:
    """Return the primary extension."""
    if header is not None:
        header = fits.Header([card for card in header.copy().cards if _can_be_written(card)])
    primary = fits.PrimaryHDU(header=header)
    for key in _NOT_INHERITED:
        primary.header.remove(key, ignore_missing=True, remove_all=True)
    for name, key in KEYWORDS.items():
        value = getattr(metadata, name)
        if value is None or key == "BUNIT":
            primary.header.remove(key, ignore_missing=True, remove_all=True)
        elif primary.header.get(key) != value:
            primary.header[key] = value
    comments = primary.header.comments
    known = comments["FILENAME"] if "FILENAME" in primary.header else None
    primary.header["FILENAME"] = filename_card(filename, known)
    primary.header["DATE"] = now()
    primary.header["DATAMODL"] = "ImageModel"
    primary.header["NINTS"] = 1
    for key, value, comment in provenance.cards():
        primary.header[key] = (value, comment)
    for line in provenance.history():
        primary.header.add_history(line)
    return primary


def _can_be_written(card: fits.Card) -> bool:
    """Tell whether astropy can write a card that it has read; some with odd letters it cannot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fits.Header([card]).tostring()
        except (ValueError, TypeError, VerifyError):
            return False
    return True


def inputs_table(inputs: Sequence[InputRecord]) -> fits.BinTableHDU:
    """Return the backgrounds and their fate as a FITS table."""
    text = {
        name: [printable(getattr(record, name)) for record in inputs]
        for name in ("name", "fate", "remarks")
    }
    columns = [
        fits.Column(name.upper(), f"{max(1, *map(len, values))}A", array=values)
        for name, values in text.items()
    ]
    if any(record.imprints for record in inputs):
        names = [printable(record.imprints) for record in inputs]
        columns.append(fits.Column("IMPRINTS", f"{max(map(len, names))}A", array=names))
    columns.append(fits.Column("N_REJECTED", "K", array=[record.n_rejected for record in inputs]))
    columns.append(fits.Column("N_MASKED", "K", array=[record.n_masked for record in inputs]))
    columns.append(fits.Column("LEVEL", "D", array=[record.level for record in inputs]))
    ratios = [record.err_ratio for record in inputs]
    if any(ratio is not None for ratio in ratios):
        columns.append(fits.Column("ERR_RATIO", "D", array=ratios))
    return fits.BinTableHDU.from_columns(columns, name=INPUTS_EXTENSION)


def kept_of(exposure: FitsExposure) -> Array | None:
    """Return the number of samples kept of an average; None where it was not saved."""
    if not any(extent.name == KEPT_EXTENSION for extent in exposure.extents):
        return None
    with open_regular(exposure.path) as file, fits.open(file, memmap=False) as hdus:
        kept = hdus[KEPT_EXTENSION].data
        return None if kept is None else np.asarray(kept, dtype=np.float32)


def filename_card(name: str, comment: str | None) -> tuple[str, str]:
    """Return value and comment of FILENAME, the comment as far as there is room beside it."""
    name = printable(name)
    # A damaged one may hold what no card can.
    comment = "Name of the file" if comment is None else printable(comment)
    room = 80 - len("FILENAME= ''") - max(8, len(name)) - len(" / ")
    return name, comment[: max(0, room)]
