"""Where the header-data units of a FITS file lie: headers and sizes, no pixels.

Headers are read, and sizes derived, by `astropy.io.fits`; its HDU objects, which take
three times as long to make, are left for the files that need them.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from astropy.io import fits
from astropy.io.fits.verify import VerifyError

from offsky.errors import ExposureError, first_line
from offsky.io.source import Source

_BLOCK = 2880  # bytes; every header and every array fills whole ones


@dataclass(frozen=True)
class Extent:
    """One header-data unit, and where it lies in its file, in bytes."""

    name: str
    header: fits.Header
    header_start: int
    data_start: int
    end: int

    @property
    def is_image(self) -> bool:
        """Whether its pixels are an image, perhaps compressed."""
        return self.header.get("XTENSION", "IMAGE") == "IMAGE" or self.is_compressed

    @property
    def is_compressed(self) -> bool:
        """Whether it is an image in tiles, kept in a table."""
        return "ZIMAGE" in self.header and bool(self.header["ZIMAGE"])


def read_layout(source: Source) -> list[Extent]:
    """Read all headers of a file.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    list of Extent
        At least the primary one.

    Raises
    ------
    ExposureError
        If it is not FITS, or not whole.
    """
    extents: list[Extent] = []
    path, size, end = source.name, source.size, 0
    with source.view() as file:
        while end < size and source.peek(end, 8) == (b"XTENSION" if extents else b"SIMPLE  "):
            try:
                extents.append(_read_extent(file, end, primary=not extents))
            except (OSError, ValueError, TypeError, KeyError, VerifyError) as error:
                what = "header" if extents else "primary header"
                raise ExposureError(
                    f"{path}: not a FITS file that can be read (the {what} at byte {end} is "
                    f"damaged or cut short: {first_line(error)}); fetch it again"
                ) from error
            end = extents[-1].end
    if not extents:
        what = "is empty" if size == 0 else "does not begin as FITS does"
        raise ExposureError(f"{path}: {what}; expected a JWST exposure in FITS")
    if size < end:
        raise ExposureError(
            f"{path}: the file is cut short, {size} bytes where its headers promise {end}; "
            "fetch it again"
        )
    if source.peek(end, _BLOCK).strip(b"\0 "):
        raise ExposureError(
            f"{path}: the file is damaged or cut short, the last {size - end} bytes are no "
            "FITS extension; fetch it again"
        )
    return extents


def _read_extent(file: io.RawIOBase, start: int, *, primary: bool) -> Extent:
    file.seek(start)
    with warnings.catch_warnings():
        # Oddities that astropy mends or remarks upon are not ours.
        warnings.simplefilter("ignore")
        header = fits.Header.fromfile(file)
        name = "PRIMARY" if primary else str(header.get("EXTNAME", "")).strip().upper()
        n_bytes = header.data_size_padded
    if n_bytes < 0:
        raise ValueError("negative size")
    return Extent(name, header, start, file.tell(), file.tell() + n_bytes)


@contextmanager
def header_damage_told(path: Path) -> Iterator[None]:
    """Tell in one line that a file's primary header cannot be written again."""
    try:
        yield
    except (ValueError, TypeError, LookupError, VerifyError) as error:
        raise ExposureError(
            f"{path}: its primary header is damaged ({first_line(error)}); fetch the file again"
        ) from error
