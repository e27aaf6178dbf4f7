"""What a compressed image says of its tiles, checked before astropy's decoders see it.

They are C: a wrong number there ends the process, or fills the memory.
"""

from functools import partial

from offsky.errors import ExposureError, shown
from offsky.io.fits_layout import BITS, Extent

# What astropy makes an array of as soon as it is asked for the first pixel.
_MOST_TILE = 2**31 - 1
# HCOMPRESS_1 is not among them: its decoder writes outside of its memory where a tile is damaged.
_COMPRESSIONS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "PLIO_1", "NOCOMPRESS")
# Of pixels together, and of bytes of a pixel; other settings belong to HCOMPRESS_1.
_MOST_BLOCK, _PIXEL_BYTES = 2**16, (1, 2, 4)
# Random numbers that a decoder has for dithering: it begins at one of them, without looking.
_MOST_DITHER = 10_000


def refused(name: str, extent: Extent, keyword: str, expected: str) -> ExposureError:
    """Return the error of a keyword with an impossible value."""
    value = shown(extent.cards.get(keyword))
    return ExposureError(
        f"{name}: the keyword {keyword} of {extent.name} is {value}; expected {expected}: "
        "fetch the file again"
    )


def check_tiles(name: str, extent: Extent) -> None:
    """Raise ExposureError where the header of a compressed image cannot be true.

    Parameters
    ----------
    name : str
        What messages call the file.
    extent : Extent
        The image.
    """
    cards = extent.cards
    refuse = partial(refused, name, extent)
    _check_compression(name, extent)
    if cards.get("BITPIX") != 8 or cards.get("NAXIS") != 2:
        raise refuse("NAXIS", "a table of bytes: it is a compressed image")
    if cards.get("ZBITPIX") not in BITS or type(cards.get("ZBITPIX")) is not int:
        raise refuse("ZBITPIX", "the bits of a pixel")
    n_axes = cards.get("ZNAXIS")
    if type(n_axes) is not int or not 1 <= n_axes < 10:
        raise refuse("ZNAXIS", "a number of axes")
    n_tiles = 1
    for axis in range(1, n_axes + 1):
        size = cards.get(f"ZNAXIS{axis}")
        if type(size) is not int or not 0 <= size <= _MOST_TILE:
            raise refuse(f"ZNAXIS{axis}", "a number of pixels")
        tile = cards.get(f"ZTILE{axis}", size if axis == 1 else 1)
        if type(tile) is not int or not 1 <= tile <= _MOST_TILE:
            raise refuse(f"ZTILE{axis}", "a number of pixels")
        n_tiles *= -(-size // tile)
    if cards.get("NAXIS2") != n_tiles:
        raise ExposureError(
            f"{name}: {extent.name} has {cards.get('NAXIS2')} tiles where ZNAXISn and ZTILEn "
            f"give {n_tiles}; fetch the file again"
        )


def _check_compression(name: str, extent: Extent) -> None:
    """Raise ExposureError for what no decoder is to be given."""
    cards = extent.cards
    refuse = partial(refused, name, extent)
    if cards.get("ZCMPTYPE") == "HCOMPRESS_1":
        raise ExposureError(
            f"{name}: {extent.name} is compressed by HCOMPRESS_1, whose decoder is not safe; "
            "decompress the file first, by funpack"
        )
    if cards.get("ZCMPTYPE") not in _COMPRESSIONS:
        raise refuse("ZCMPTYPE", f"one of {', '.join(_COMPRESSIONS)}")
    seed = cards.get("ZDITHER0")
    is_dithered = cards.get("ZQUANTIZ", "NO_DITHER") != "NO_DITHER"
    if is_dithered and not (type(seed) is int and 1 <= seed <= _MOST_DITHER):
        raise refuse("ZDITHER0", f"a number from 1 to {_MOST_DITHER}")
    for number in range(1, 1000):
        if f"ZNAME{number}" not in cards:
            break
        setting, value = cards.get(f"ZNAME{number}"), cards.get(f"ZVAL{number}")
        if not isinstance(setting, str):
            raise refuse(f"ZNAME{number}", "the name of a setting")
        is_block, is_pixel = setting.upper() == "BLOCKSIZE", setting.upper() == "BYTEPIX"
        if is_block and not (type(value) is int and 1 <= value <= _MOST_BLOCK):
            raise refuse(f"ZVAL{number}", "the pixels of a block")
        if is_pixel and not (type(value) is int and value in _PIXEL_BYTES):
            raise refuse(f"ZVAL{number}", "the bytes of a pixel")
