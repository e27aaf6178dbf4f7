"""Where the header-data units of a FITS file lie: headers and sizes, no pixels.

Plain headers are looked at card by card (`offsky.io.fits_header`), all others read by
`astropy.io.fits`; its HDU objects, which take three times as long to make as its headers,
are left for the files that need them.
"""

import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from astropy.io import fits
from astropy.io.fits.verify import VerifyError

from offsky.errors import ExposureError, first_line
from offsky.io.fits_header import BLOCK, CARD, Cards, plain_cards
from offsky.io.source import Source

log = logging.getLogger(__name__)

# Read at a time: both large headers of an exposure, or the whole of a tiny file; then
# those of one small extension.
_FIRST_BYTES, _NEXT_BYTES = 2**16, 2 * BLOCK

BITS = (8, 16, 32, 64, -32, -64)
"""What BITPIX may be."""

# Where the next unit begins hangs on these.
_STRUCTURE = re.compile("SIMPLE|XTENSION|BITPIX|NAXIS[0-9]*|PCOUNT|GCOUNT")
# Names of extensions that are read, or written again.
_USED = {"SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"}
_END = b"END".ljust(CARD)
_MOST_FIELDS = 999  # of a table, as FITS has it

DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    VerifyError,
)
"""What astropy raises for damage that it comes upon, of one kind or another."""


@dataclass(frozen=True)
class Extent:
    """One header-data unit, and where it lies in its file, in bytes."""

    name: str
    cards: Cards
    header_start: int
    data_start: int
    end: int
    n_data: int | None = None

    @property
    def data_end(self) -> int:
        """Where its pixels end, without padding; as far as that is known."""
        return self.end if self.n_data is None else self.data_start + self.n_data

    @property
    def header(self) -> fits.Header:
        """The header as astropy reads it: for what more than single values is wanted of."""
        return self.cards.header

    @property
    def is_image(self) -> bool:
        """Whether its pixels are an image, perhaps compressed."""
        return self.cards.get("XTENSION", "IMAGE") == "IMAGE" or self.is_compressed

    @property
    def is_compressed(self) -> bool:
        """Whether it is an image in tiles, kept in a table."""
        return bool(self.cards.get("ZIMAGE", False))


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
    ahead = _Ahead(source)
    while end < size and ahead.peek(end, 8) == (b"XTENSION" if extents else b"SIMPLE  "):
        try:
            extents.append(_read_extent(ahead, end, primary=not extents))
            _check_kind(extents[-1])
            _check_fields(extents[-1])
        except DAMAGE as error:
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
        if size != extents[-1].data_end:
            within = size > extents[-1].data_end
            where = f" (within the padding of {extents[-1].name})" if within else ""
            raise ExposureError(
                f"{path}: the file is cut short{where}, {size} bytes where its headers promise "
                f"{end}; fetch it again"
            )
        # Some tools do not fill the last block. Who cuts a file hardly does so just there.
        log.warning(
            "%s: the last %d bytes of padding are missing; all data are there", path, end - size
        )
        extents[-1] = replace(extents[-1], end=size)
        return extents
    if not all(_is_padding(source.peek(at, _NEXT_BYTES)) for at in range(end, size, _NEXT_BYTES)):
        raise ExposureError(
            f"{path}: the file is damaged or cut short, the last {size - end} bytes are no "
            "FITS extension; fetch it again"
        )
    return extents


def _is_padding(content: bytes) -> bool:
    return not content.strip(b"\0 ")


class _Ahead:
    """A source whose next bytes have been read already: headers follow each other closely."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._start = 0
        self._known = source.peek(0, _FIRST_BYTES)

    def peek(self, start: int, n_bytes: int) -> bytes:
        """Return bytes from an offset on, fewer where the file ends before."""
        if start >= self.source.size:
            return b""
        if not self._start <= start <= self._start + len(self._known) - n_bytes:
            self._start = start
            self._known = self.source.peek(start, max(n_bytes, _NEXT_BYTES))
        place = start - self._start
        return self._known[place : place + n_bytes]

    def cards(self, start: int) -> Cards | None:
        """Return the plain header at an offset; None where astropy is to read it."""
        n_bytes = BLOCK
        while len(self.peek(start, n_bytes)) == n_bytes:
            found = plain_cards(self._known, start - self._start)
            n_known = self._start + len(self._known) - start
            if found is not None or n_known >= _FIRST_BYTES:
                return found
            # Perhaps it goes on.
            n_bytes = n_known + _NEXT_BYTES
        return None


def _read_extent(ahead: _Ahead, start: int, *, primary: bool) -> Extent:
    found = _plain_extent(ahead, start, primary=primary)
    return _astropy_extent(ahead.source, start, primary=primary) if found is None else found


def _plain_extent(ahead: _Ahead, start: int, *, primary: bool) -> Extent | None:
    """Find the size of a unit by a few cards of its header; None to leave it to astropy."""
    cards = ahead.cards(start)
    if cards is None:
        return None
    name = cards.get("EXTNAME", "")
    n_data = _data_size(cards)
    if n_data is None or not isinstance(name, str):
        return None
    data_start = start + cards.n_bytes
    name = "PRIMARY" if primary else name.strip().upper()
    end = data_start + n_data + -n_data % BLOCK
    return Extent(name, cards, start, data_start, end, n_data)


def _data_size(cards: Cards) -> int | None:
    """Return the bytes of a unit's pixels, as FITS says it; None where a number is odd."""
    n_axes = cards.get("NAXIS")
    if type(n_axes) is not int or not 0 <= n_axes < 1000:
        return None
    axes = [cards.get(f"NAXIS{axis}") for axis in range(1, n_axes + 1)]
    numbers = [cards.get("BITPIX"), cards.get("PCOUNT", 0), cards.get("GCOUNT", 1), *axes]
    if any(type(number) is not int for number in numbers) or min(numbers[1:]) < 0:
        return None
    if numbers[0] not in BITS:
        return None
    if n_axes == 0:
        return 0
    bits, n_parameters, n_groups, *axes = numbers
    return int(abs(bits) * n_groups * (n_parameters + prod(axes)) // 8)


def _astropy_extent(source: Source, start: int, *, primary: bool) -> Extent:
    """Read a unit's header by astropy."""
    with source.view() as file, warnings.catch_warnings():
        # Oddities that astropy mends or remarks upon are not ours.
        warnings.simplefilter("ignore")
        file.seek(start)
        header = fits.Header.fromfile(file)
        _check_structure(header)
        name = "PRIMARY" if primary else str(header.get("EXTNAME", "")).strip().upper()
        n_bytes, n_data = header.data_size_padded, header.data_size
        data_start = file.tell()
    _check_end(source.peek(start, data_start - start))
    cards = Cards(b"", None, header=header)
    return Extent(name, cards, start, data_start, data_start + n_bytes, n_data)


def _check_end(raw: bytes) -> None:
    """Raise ValueError where a header has no END as FITS has it, or another before.

    astropy ends a header at an odd one where it reads it alone, and goes on where it reads the
    whole file.
    """
    for place in range(0, len(raw), CARD):
        card = raw[place : place + CARD]
        if card == _END:
            return
        if card[:8].strip() == b"END":
            break
    raise ValueError("its END is damaged")


def _check_structure(header: fits.Header) -> None:
    """Raise ValueError where a header does not say one size, or says several names.

    A header whose END is damaged goes on into the next one, and has all of these twice.
    """
    counts = Counter(key for key in header if _STRUCTURE.fullmatch(key))
    twice = next((key for key, n in counts.items() if n > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is there {counts[twice]} times")
    n_names = sum(key == "EXTNAME" for key in header)
    names = [str(header["EXTNAME", i]).strip().upper() for i in range(n_names)]
    if len(names) > 1 and not _USED.isdisjoint(names):
        raise ValueError(f"EXTNAME is there {len(names)} times")
    n_axes = header.get("NAXIS")
    if type(n_axes) is not int or not 0 <= n_axes < 1000:
        raise ValueError(f"NAXIS is {n_axes!r}")
    if header.get("BITPIX") not in BITS or type(header["BITPIX"]) is not int:
        raise ValueError(f"BITPIX is {header.get('BITPIX')!r}")
    for key in (*(f"NAXIS{i + 1}" for i in range(n_axes)), "PCOUNT", "GCOUNT"):
        value = header.get(key, 0 if "COUNT" in key else None)
        if type(value) is not int or value < 0:
            raise ValueError(f"{key} is {value!r}, no whole number")


def _check_kind(extent: Extent) -> None:
    """Raise ValueError where the first card does not say that this is FITS, or which extension."""
    keyword = "XTENSION" if extent.header_start else "SIMPLE"
    value = extent.cards.get(keyword)
    if not (isinstance(value, str) if extent.header_start else value is True):
        raise ValueError(f"{keyword} is {value!r}")


def _check_fields(extent: Extent) -> None:
    """Raise ValueError where a table has an impossible number of columns.

    astropy would make each of them, until the memory is full.
    """
    if extent.cards.get("XTENSION") in ("BINTABLE", "TABLE"):
        n_fields = extent.cards.get("TFIELDS")
        if type(n_fields) is not int or not 0 <= n_fields <= _MOST_FIELDS:
            raise ValueError(f"TFIELDS is {n_fields!r}, where 0 to {_MOST_FIELDS} is expected")


@contextmanager
def header_damage_told(path: Path) -> Iterator[None]:
    """Tell in one line that a file's primary header cannot be written again."""
    try:
        yield
    except (ValueError, TypeError, LookupError, VerifyError) as error:
        raise ExposureError(
            f"{path}: its primary header is damaged ({first_line(error)}); fetch the file again"
        ) from error
