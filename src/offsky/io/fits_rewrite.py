"""Write a subtracted target whose images are compressed, scaled or of an unusual kind.

The images that change are in memory, and written by astropy one by one, each with its own
cards. All other units, and all other cards, are copied byte for byte.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

from offsky.arrays import as_flags, as_samples
from offsky.errors import ExposureError, first_line
from offsky.io.fits import FitsExposure
from offsky.io.fits_header import BLOCK, CARD
from offsky.io.fits_layout import Extent
from offsky.io.fits_unit import is_storage
from offsky.io.fits_verbatim import NewHeader, card_images
from offsky.io.source import write_exactly
from offsky.subtraction import Subtracted, Subtraction, TargetRows, subtract_rows
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows


class FitsRewrite:
    """A new file that is the target's but for its images and the primary header.

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
    from_rows : bool
        Take SCI and DQ of the target from the rows that are given: they are not its file's.
    """

    def __init__(
        self,
        target: FitsExposure,
        path: Path,
        header: NewHeader,
        how: Subtraction,
        *,
        from_rows: bool = False,
    ) -> None:
        self._from_rows = from_rows
        self._target = target
        self._path = path
        self._header = header
        self._how = how
        self._own = {
            extent.name: number
            for number, extent in enumerate(target.extents)
            if number and extent.name in target.images(with_errors=how.changes_errors)
        }
        try:
            # In the machine's byte order and unscaled: what BSCALE made of it.
            self._images = {name: as_samples(self._native(name)) for name in self._own}
            self._images["DQ"] = as_flags(self._native("DQ"))
        except ExposureError:
            raise
        except Exception as error:
            # Each compression has errors of its own.
            raise ExposureError(
                f"{target.path}: its images cannot be read ({first_line(error)}); "
                "fetch the file again"
            ) from error

    def _native(self, name: str) -> np.ndarray:
        unit = self._target.unit(self._target.extents[self._own[name]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = np.array(unit.data)
        return data.astype(data.dtype.newbyteorder("="))

    def copy_rest(self) -> None:
        """Do nothing: all is written at the end."""

    def subtract(
        self, first: int, last: int, average: ClippedMean, rows: Rows | None = None
    ) -> Subtracted:
        """Subtract the average from rows [first, last) in memory."""
        part = (..., slice(first, last), slice(None))
        if self._from_rows and rows is not None and rows.dq is not None:
            self._images["SCI"][part] = rows.sci
            self._images["DQ"][part] = rows.dq ^ np.uint32(rows.dq_flip)
        own = TargetRows.of({name: each[part] for name, each in self._images.items()})
        return subtract_rows(own, average, self._how, out=own)

    def finish(self) -> None:
        """Write the file."""
        try:
            self._write()
        except (OSError, ExposureError):
            raise
        except Exception as error:
            raise ExposureError(
                f"{self._target.path}: a header or an extension is damaged "
                f"({first_line(error)}); fetch the file again"
            ) from error

    def _write(self) -> None:
        with self._path.open("r+b", buffering=0) as file:
            fd, cards = file.fileno(), self._header.tobytes()
            write_exactly(fd, cards, 0)
            position = len(cards)
            for number, extent in enumerate(self._target.extents):
                if self._own.get(extent.name) == number:
                    for piece in self._unit(number, extent):
                        write_exactly(fd, piece, position)
                        position += len(piece)
                    continue
                start = extent.header_start if number else extent.data_start
                self._target.source.copy(start, extent.end - start, fd, position)
                position += extent.end - start
            write_exactly(fd, bytes(-position % BLOCK), position)

    def _unit(self, number: int, extent: Extent) -> tuple[bytes, memoryview]:
        """Return header and pixels of a unit; all cards but those of its storage as they were."""
        data = self._images[extent.name]
        if extent.is_compressed:
            # Quantised floats, astropy's default, would round SCI.
            how = {"compression_type": "GZIP_2", "quantize_level": 0.0}
            image = fits.CompImageHDU(data, name=extent.name, **how)
        else:
            image = fits.ImageHDU(data, name=extent.name)
        content = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(content)
        content.seek(BLOCK)
        new = fits.Header.fromfile(content)
        stored = [str(card).encode("ascii") for card in new.cards if is_storage(card.keyword)]
        kept = []
        for card in card_images(self._target.raw_header(number)):
            if not is_storage(card[:8].decode("latin-1").strip().upper()):
                kept.append(card)
            elif len(card) != CARD or not card.isascii():
                raise ExposureError(
                    f"{self._target.path}: the card {card[:8].decode('latin-1').strip()} of "
                    f"{extent.name} is damaged, and the product needs another; correct it, or "
                    "fetch the file again"
                )
        header = b"".join([*stored, *kept]) + b"END".ljust(CARD)
        header = header.ljust(len(header) + -len(header) % BLOCK)
        return header, content.getbuffer()[content.tell() :]

    def close(self) -> None:
        """Do nothing: the target is closed by whoever opened it."""
