"""Small exposures with any header, written with astropy alone, and the command in this process.

Quick enough for many examples; what the JWST pipeline writes is made by `offsky.testing`.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from offsky.command.main import cli
from offsky.values.in_memory import ArrayExposure
from offsky.values.metadata import Metadata

MIRI: dict[str, Any] = {
    "TELESCOP": "JWST",
    "INSTRUME": "MIRI",
    "DETECTOR": "MIRIMAGE",
    "FILTER": "F770W",
    "EXP_TYPE": "MIR_IMAGE",
    "READPATT": "FASTR1",
    "NGROUPS": 36,
    "EFFEXPTM": 99.9,
    "SUBSTRT1": 1,
    "SUBSTRT2": 1,
    "PROGRAM": "01234",
    "OBSERVTN": "001",
    "VISIT": "001",
    "VISITGRP": "02",
    "SEQ_ID": "1",
    "ACT_ID": "01",
}
NIRSPEC: dict[str, Any] = {
    "INSTRUME": "NIRSPEC",
    "DETECTOR": "NRS1",
    "FILTER": "F170LP",
    "GRATING": "G235H",
    "EXP_TYPE": "NRS_IFU",
    "READPATT": "NRSIRS2",
    "GWA_XTIL": 0.35,
    "GWA_YTIL": 0.13,
}


def expose(
    path: Path,
    sci: Any = 1.0,
    *,
    dq: Any = 0,
    err: Any = 0.1,
    shape: tuple[int, ...] = (6, 8),
    keywords: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write an exposure; `keywords` and more replace those of a MIRI image, None leaves one out.

    A number for `sci` fills `shape`. BUNIT goes where it belongs.
    """
    array = np.asarray(sci, dtype=np.float32)
    if not array.ndim:
        array = np.full(shape, array)
    cards = {
        **MIRI,
        "FILENAME": path.name,
        "DATAMODL": "CubeModel" if array.ndim == 3 else "ImageModel",
        "SUBSIZE1": array.shape[-1],
        "SUBSIZE2": array.shape[-2],
        # Files of different names are different exposures.
        "EXPOSURE": f"{zlib.crc32(path.name.encode()) % 100_000:05d}",
        "BUNIT": "DN/s",
        **(keywords or {}),
        **more,
    }
    unit = cards.pop("BUNIT")
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for key, value in cards.items():
        if value is not None:
            hdus[0].header[key] = value
    for name, data, dtype in (("SCI", array, "f4"), ("ERR", err, "f4"), ("DQ", dq, "u4")):
        pixels = np.array(np.broadcast_to(np.asarray(data), array.shape), dtype=dtype)
        hdus.append(fits.ImageHDU(pixels, name=name))
    if unit is not None:
        hdus["SCI"].header["BUNIT"] = hdus["ERR"].header["BUNIT"] = unit
    hdus.writeto(path, overwrite=True)
    return path


def pixels(path: Path | str, name: str = "SCI") -> np.ndarray:
    """Read an extension, in the machine's byte order."""
    with fits.open(path, memmap=False) as hdus:
        data = np.array(hdus[name].data)
    return data.astype(data.dtype.newbyteorder("="))


def rows_of(path: Path | str) -> list[dict[str, Any]]:
    """Read the table of inputs of an average, a dictionary for each row."""
    with fits.open(path, memmap=False) as hdus:
        table = hdus["BKGINPUT"].data
        return [
            {name: row[name] for name in table.names}
            for row in (table[i] for i in range(len(table)))
        ]


def run(*arguments: Any) -> int:
    """Run the command in this process; return its exit status."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments], prog_name="offsky")
    return int(end.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """Run the command, which is to fail with one line; return that line."""
    capsys.readouterr()
    assert run(*arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("offsky: ")
    return lines[0]


def write_association(path: Path, *products: tuple[str, Sequence[tuple[str, str]]]) -> Path:
    """Write an association: the products' names, each with pairs of member and kind."""
    content = {
        "asn_type": "image2",
        "asn_rule": "DMSLevel2bBase",
        "asn_id": "a3001",
        "asn_pool": "none",
        "program": "01234",
        "products": [
            {
                "name": name,
                "members": [{"expname": expname, "exptype": kind} for expname, kind in members],
            }
            for name, members in products
        ],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def product(name: str, target: str, *backgrounds: str) -> tuple[str, list[tuple[str, str]]]:
    """Make a product of names without their endings."""
    kinds = [(target, "science"), *((background, "background") for background in backgrounds)]
    return name, [
        (f"{file}.fits" if "_" in file else f"{file}_rate.fits", kind) for file, kind in kinds
    ]


def in_memory(name: str, **facts: Any) -> ArrayExposure:
    """Make an exposure whose pixels may not be read."""

    class Unread(ArrayExposure):
        def read_rows(self, *args: Any) -> Any:
            raise AssertionError("pixels were read before the headers were judged")

    sci = np.ones((4, 5), dtype=np.float32)
    return Unread(name, sci, sci, sci.astype(np.uint32), Metadata(**facts))
