"""Small exposures of every way that pixels are stored, as bytes, written by astropy alone."""

import io
import re
import warnings
from functools import cache
from typing import Any

import numpy as np
from astropy.io import fits

KINDS = ("plain", "scaled", "tiled", "lossless", "uint16", "float64", "cube", "bare", "crowded")
WEIGHTS = (5, 6, 6, 4, 6, 2, 3, 1, 3)
SHAPE = (6, 8)

_CARDS: dict[str, Any] = {
    "TELESCOP": "JWST",
    "INSTRUME": "MIRI",
    "DETECTOR": "MIRIMAGE",
    "FILTER": "F770W",
    "EXP_TYPE": "MIR_IMAGE",
    "READPATT": "FASTR1",
    "NGROUPS": 36,
    "NINTS": 1,
    "EFFEXPTM": 99.9,
    "SUBSTRT1": 1,
    "SUBSTRT2": 1,
    "SUBSIZE1": SHAPE[1],
    "SUBSIZE2": SHAPE[0],
    "PROGRAM": "01234",
    "OBSERVTN": "001",
    "VISIT": "001",
    "VISITGRP": "02",
    "SEQ_ID": "1",
    "ACT_ID": "01",
}


@cache
def exposure(number: int, kind: str) -> bytes:
    """Return an exposure's file; every pixel tells its exposure, extension, plane, row, column."""
    shape = (2, *SHAPE) if kind == "cube" else SHAPE
    place = np.arange(np.prod(shape)).reshape(shape)
    sci = 1000.0 * (number + 1) + place + 0.25 * number
    err = 0.5 + place / 128 + number
    dq = place % 4 * 4 + (place % 7 == number) * (2 if kind == "uint16" else 2**31 + 2)
    sci[..., 2, 3] = np.nan
    primary = fits.PrimaryHDU()
    for key, value in _CARDS.items():
        primary.header[key] = value
    primary.header["FILENAME"] = f"e{number}_rate.fits"
    primary.header["EXPOSURE"] = f"{number + 1:05d}"
    primary.header["DATAMODL"] = "CubeModel" if kind == "cube" else "ImageModel"
    primary.header["NOTE"] = "a text that is long enough to go on in a second card, " * 2
    hdus = fits.HDUList([primary, _image(sci, "SCI", kind)])
    if kind != "bare":
        hdus.append(_image(err, "ERR", kind))
    hdus.append(_image(dq, "DQ", kind))
    if kind in ("plain", "scaled", "cube"):
        hdus += [_image(err**2 * part, f"VAR_{name}", kind) for name, part in _VARIANCES]
    if kind == "crowded":
        hdus.insert(1, _table())
        hdus.append(fits.ImageHDU(np.arange(9, dtype="i2"), name="MORE"))
        hdus.append(fits.CompImageHDU(np.eye(9, dtype="i4"), name="TILES"))
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdus.writeto(content)
    # Not the time at which tiles were zipped: a seed gives the same files for ever.
    return re.sub(rb"(?s)\x1f\x8b\x08\0.{4}", b"\x1f\x8b\x08" + bytes(5), content.getvalue())


_VARIANCES = (("POISSON", 0.75), ("RNOISE", 0.25))


def _image(array: Any, name: str, kind: str) -> Any:
    dtype = "u4" if name == "DQ" else "f8" if kind == "float64" else "f4"
    pixels = array.astype("u2" if name == "DQ" and kind == "uint16" else dtype)
    if kind == "scaled" and name != "DQ":
        hdu = fits.ImageHDU(np.nan_to_num(pixels), name=name)
        hdu.scale("int16" if name == "SCI" else "int32", bscale=0.25, bzero=100.0)
    elif kind == "tiled":
        lossy = {"quantize_level": -0.125, "quantize_method": 1, "dither_seed": 7}
        lossy = lossy if name != "DQ" else {}
        hdu = fits.CompImageHDU(pixels, name=name, compression_type="RICE_1", **lossy)
    elif kind == "lossless":
        how = "GZIP_1" if name == "DQ" else "GZIP_2"
        hdu = fits.CompImageHDU(pixels, name=name, compression_type=how, quantize_level=0)
    else:
        hdu = fits.ImageHDU(pixels, name=name)
    if name in ("SCI", "ERR"):
        hdu.header["BUNIT"] = "DN/s"
    return hdu


def _table() -> Any:
    wide = np.array([[1, 2], [3]], dtype=object)
    return fits.BinTableHDU.from_columns([fits.Column("A", "1PJ()", array=wide)], name="LIST")


@cache
def mask(kind: str) -> bytes:
    """Return a mask that leaves out the first column and one more pixel."""
    array = np.zeros(SHAPE, "u1" if kind == "bytes" else "i4" if kind == "tiled" else "f4")
    array[:, 0] = array[4, 5] = 1
    make = fits.CompImageHDU if kind == "tiled" else fits.ImageHDU
    first = fits.PrimaryHDU(array) if kind == "primary" else fits.PrimaryHDU()
    hdus = [first] if kind == "primary" else [first, make(array, name="MASK")]
    content = io.BytesIO()
    fits.HDUList(hdus).writeto(content)
    return content.getvalue()


MASKS = ("bytes", "floats", "tiled", "primary")
