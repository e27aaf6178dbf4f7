"""Write a subtracted target through astropy: for compressed and unusual files.

The whole target is in memory. Use `offsky.io.fits_copy` where it can be used.
"""

import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

from offsky.arrays import as_flags, as_samples
from offsky.errors import ExposureError, first_line
from offsky.io.fits import FitsExposure
from offsky.io.fits_header import BLOCK, CARD
from offsky.io.fits_verbatim import NewHeader
from offsky.subtraction import Subtracted, Subtraction, TargetRows, subtract_rows
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows


class FitsRewrite:
    """The target as astropy writes it, with new pixels and primary header.

    Parameters
    ----------
    target : FitsExposure
        The target.
    path : Path
        An existing file to fill.
    header : NewHeader
        The new primary header.
    how : Subtraction
        How the average will be subtracted.
    """

    def __init__(
        self, target: FitsExposure, path: Path, header: NewHeader, how: Subtraction
    ) -> None:
        self._name = target.path
        self._path = path
        self._header = header
        self._how = how
        self._hdus = fits.open(target.path, memmap=False)
        try:
            # In the machine's byte order and unscaled: what BSCALE made of it.
            self._images = {
                name: as_samples(self._native(name))
                for name in target.images(with_errors=how.changes_errors)
                if name != "DQ"
            }
            self._images["DQ"] = as_flags(self._native("DQ"))
        except Exception as error:
            # Each compression has errors of its own.
            self._hdus.close()
            raise ExposureError(
                f"{target.path}: its images cannot be read ({first_line(error)}); "
                "fetch the file again"
            ) from error

    def _native(self, name: str) -> np.ndarray:
        data = np.array(self._hdus[name].data)
        return data.astype(data.dtype.newbyteorder("="))

    def copy_rest(self) -> None:
        """Do nothing: all is written at the end."""

    def subtract(
        self, first: int, last: int, average: ClippedMean, rows: Rows | None = None
    ) -> Subtracted:
        """Subtract the average from rows [first, last) in memory; `rows` are not needed."""
        part = (..., slice(first, last), slice(None))
        own = TargetRows.of({name: each[part] for name, each in self._images.items()})
        return subtract_rows(own, average, self._how, out=own)

    def finish(self) -> None:
        """Write the file."""
        try:
            self._write()
        except OSError:
            raise
        except Exception as error:
            raise ExposureError(
                f"{self._name}: a header or an extension is damaged ({first_line(error)}); "
                "fetch the file again"
            ) from error
        self.close()

    def _write(self) -> None:
        for name, data in self._images.items():
            i = self._hdus.index_of(name)
            self._hdus[i] = _replaced(self._hdus[i], data)
        cards = self._header.tobytes()
        self._hdus[0].header = _room(self._hdus[0].header, len(cards))
        with warnings.catch_warnings():
            # Oddities of the target are not ours: to mend them is to change the file.
            warnings.simplefilter("ignore")
            self._hdus.writeto(self._path, overwrite=True, output_verify="ignore")
        with self._path.open("r+b") as file:
            file.write(cards)

    def close(self) -> None:
        """Close the target."""
        self._hdus.close()


def _room(header: fits.Header, n_bytes: int) -> fits.Header:
    """Return a header of so many bytes, to be replaced by another one of this length."""
    needed = (
        "SIMPLE",
        "BITPIX",
        "NAXIS",
        "EXTEND",
        "PCOUNT",
        "GCOUNT",
        "BSCALE",
        "BZERO",
        "BLANK",
    )
    axes = tuple(f"NAXIS{axis + 1}" for axis in range(header["NAXIS"]))
    room = fits.Header([header.cards[key] for key in (*needed, *axes) if key in header])
    n_cards = n_bytes // CARD
    while len(room) < n_cards - BLOCK // CARD + 1:
        room.append(("COMMENT", "room"), end=True)
    return room


def _replaced(hdu: fits.hdu.base.ExtensionHDU, data: np.ndarray) -> fits.hdu.base.ExtensionHDU:
    """Return an extension with other pixels; compressed ones without any loss."""
    header = hdu.header.copy()
    for key in ("BSCALE", "BZERO", "BLANK", "ZBLANK", "CHECKSUM", "DATASUM"):
        header.remove(key, ignore_missing=True)
    if not isinstance(hdu, fits.CompImageHDU):
        return fits.ImageHDU(data, header)
    # Quantised floats, astropy's default, would round SCI.
    return fits.CompImageHDU(data, header, compression_type="GZIP_2", quantize_level=0.0)
