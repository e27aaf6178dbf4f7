"""One unit of a FITS file as an object of astropy's, made of that unit's own bytes.

`offsky.io.fits_layout` alone decides which unit lies where. astropy, given the whole file,
numbers the units by itself, and sees others than we do where a header is damaged: the wrong
extension would be averaged. It is given one unit at a time, as a file of its own.
"""

import io
import re
import warnings
from functools import partial
from math import isfinite
from typing import Any

from astropy.io import fits

from offsky.errors import ExposureError
from offsky.io.fits_header import BLOCK, CARD
from offsky.io.fits_layout import Extent
from offsky.io.fits_tiles import check_tiles, refused
from offsky.io.source import Source

_PRIMARY = b"".join(
    f"{key:8}= {value:>20}".encode().ljust(CARD)
    for key, value in (("SIMPLE", "T"), ("BITPIX", "8"), ("NAXIS", "0"), ("EXTEND", "T"))
)
_PRIMARY = (_PRIMARY + b"END").ljust(BLOCK)

# Cards that say how an image is stored.
_STORAGE = re.compile(
    "XTENSION|BITPIX|NAXIS[0-9]*|PCOUNT|GCOUNT|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM|TFIELDS|THEAP"
    "|(TTYPE|TFORM|TUNIT|TDIM|TNULL|TSCAL|TZERO|TDISP|ZTILE|ZNAME|ZVAL)[0-9]+|ZNAXIS[0-9]*"
    "|ZIMAGE|ZTENSION|ZSIMPLE|ZEXTEND|ZBITPIX|ZPCOUNT|ZGCOUNT|ZCMPTYPE|ZSCALE|ZZERO|ZBLANK"
    "|ZQUANTIZ|ZDITHER0|ZHECKSUM|ZDATASUM|ZMASKCMP"
)


def is_storage(keyword: str) -> bool:
    """Tell whether the card of a keyword says how an image is stored."""
    return _STORAGE.fullmatch(keyword) is not None


def open_unit(source: Source, extent: Extent) -> fits.HDUList:
    """Open one unit of a file.

    Parameters
    ----------
    source : Source
        The file.
    extent : Extent
        An image, perhaps compressed or scaled; not the primary unit.

    Returns
    -------
    astropy.io.fits.HDUList
        An empty primary unit, and the one asked for; to be closed.

    Raises
    ------
    ExposureError
        If astropy sees another unit there, or one that cannot be an image.
    """
    _check_numbers(source.name, extent)
    with warnings.catch_warnings():
        # Oddities that astropy mends or remarks upon are not ours.
        warnings.simplefilter("ignore")
        units = fits.open(_UnitView(source, extent), mode="readonly", memmap=False)
        try:
            n_units = len(units)
            seen = units[-1].fileinfo() if n_units == 2 else {}
            name = str(units[-1].name).strip().upper()
        except BaseException:
            units.close()
            raise
    n_header = extent.data_start - extent.header_start
    is_same = n_units == 2 and (name == extent.name or not extent.name)
    if not is_same or seen.get("datLoc") != BLOCK + n_header:
        units.close()
        raise ExposureError(
            f"{source.name}: the header of {extent.name} is damaged: it does not end where its "
            "pixels begin; fetch the file again"
        )
    return units


class _UnitView(io.RawIOBase):
    """A file that has an empty primary unit, then one unit of another file.

    Of its header only the cards are there that say how it is stored, and its name: astropy
    is not to stumble over others.
    """

    def __init__(self, source: Source, extent: Extent) -> None:
        self._source = source
        self._start = extent.header_start
        self._end = extent.end
        n_header = extent.data_start - extent.header_start
        self._head = _PRIMARY + _bare(source.peek(extent.header_start, n_header))
        n_unit = extent.end - extent.header_start
        # The last block of a file may not be filled.
        self._size = BLOCK + n_unit + -n_unit % BLOCK
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = max(0, base[whence] + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        memory = memoryview(buffer).cast("B")
        wanted = min(len(memory), max(0, self._size - self._position))
        if self._position < len(self._head):
            found = self._head[self._position : self._position + wanted]
        else:
            begin = self._start + self._position - BLOCK
            n_there = min(wanted, max(0, self._end - begin))
            found = self._source.peek(begin, n_there) if n_there else b""
            if len(found) == n_there:
                found = found.ljust(wanted, b"\0")
        memory[: len(found)] = found
        self._position += len(found)
        return len(found)


def _bare(header: bytes) -> bytes:
    """Return a header with blanks for cards that say nothing of how it is stored."""
    cards = [header[i : i + CARD] for i in range(0, len(header), CARD)]
    n_cards = next((i for i, card in enumerate(cards) if card.rstrip() == b"END"), len(cards))
    for i, card in enumerate(cards[:n_cards]):
        keyword = card[:8].decode("latin-1").strip().upper()
        if keyword != "EXTNAME" and not is_storage(keyword):
            cards[i] = b" " * CARD
    return b"".join(cards)


def _check_numbers(name: str, extent: Extent) -> None:
    """Raise ExposureError where astropy would choke on a number of a header, or loop on it."""
    cards = extent.cards
    refuse = partial(refused, name, extent)
    for keyword in ("BSCALE", "BZERO"):
        value = cards.get(keyword)
        if value is not None and not (_is_number(value) and isfinite(value)):
            raise refuse(keyword, "a number")
    if cards.get("BSCALE", 1) == 0:
        raise refuse("BSCALE", "a factor that is not 0")
    if "BLANK" in cards and type(cards.get("BLANK")) is not int:
        raise refuse("BLANK", "a whole number")
    if extent.is_compressed:
        check_tiles(name, extent)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
