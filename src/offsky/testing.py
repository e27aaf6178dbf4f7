"""Builders of exposures for tests, benchmarks and the demo, and a few assertions.

Everything here has a fixed outcome: pixels that encode where they belong, and exposures
written through ``stdatamodels`` as the JWST pipeline writes them.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "assert_same_bits",
    "encoded_pixels",
    "file_digest",
    "write_exposure",
]

ModelName: TypeAlias = Literal["ImageModel", "CubeModel", "IFUImageModel", "SlitModel"]
Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

UNIT = "DN/s"
TABLE_NAME = "OFFSKY_EXTRA"
"""Name of the table that no schema knows, see `write_exposure`."""


def encoded_pixels(exposure: int, nints: int | None, ny: int, nx: int) -> npt.NDArray[np.float32]:
    """Make pixels whose values tell exposure, integration, row and column.

    Parameters
    ----------
    exposure : int
        Number of the exposure, from 0.
    nints : int or None
        Integrations; None makes a 2-D array.
    ny, nx : int
        Rows and columns.

    Returns
    -------
    ndarray
        float32, (ny, nx) or (nints, ny, nx): the running number of the pixel,
        counted over columns, then rows, integrations and exposures.

    Raises
    ------
    ValueError
        If a value would need more than the 24 bits that float32 keeps exactly.

    Examples
    --------
    >>> encoded_pixels(1, None, 2, 3).tolist()
    [[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]
    """
    shape = (ny, nx) if nints is None else (nints, ny, nx)
    size = int(np.prod(shape))
    if (exposure + 1) * size > 2**24:
        raise ValueError(
            f"exposure {exposure} of shape {shape} needs values up to "
            f"{(exposure + 1) * size}; float32 is exact up to {2**24}: use a smaller shape"
        )
    first = exposure * size
    return np.arange(first, first + size, dtype=np.float32).reshape(shape)


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, to show that an input was left untouched."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def assert_same_bits(actual: npt.NDArray[Any], desired: npt.NDArray[Any]) -> None:
    """Fail unless two arrays agree in kind, shape and every bit.

    Byte order is not compared, and every NaN counts as the same NaN; zeros
    of different sign differ.
    """
    actual, desired = np.asarray(actual), np.asarray(desired)
    assert actual.dtype.newbyteorder("=") == desired.dtype.newbyteorder("="), (
        f"dtype {actual.dtype}, expected {desired.dtype}"
    )
    assert actual.shape == desired.shape, f"shape {actual.shape}, expected {desired.shape}"
    same = actual == desired
    if desired.dtype.kind == "f":
        same = same & (np.signbit(actual) == np.signbit(desired))
        same = same | (np.isnan(actual) & np.isnan(desired))
    if not np.all(same):
        where = tuple(int(i) for i in np.argwhere(~same)[0])
        raise AssertionError(
            f"{np.size(same) - np.count_nonzero(same)} of {np.size(same)} values differ; "
            f"first at {where}: {actual[where]!r}, expected {desired[where]!r}"
        )


# What the keywords of a real exposure say, by dotted metadata name.
_COMMON: dict[str, object] = {
    "meta.telescope": "JWST",
    "meta.observation.date": "2026-08-01",
    "meta.observation.time": "12:00:00.000",
    "meta.observation.program_number": "01234",
    "meta.observation.observation_number": "001",
    "meta.observation.visit_number": "001",
    "meta.observation.visit_id": "01234001001",
    "meta.observation.visit_group": "02",
    "meta.observation.sequence_id": "1",
    "meta.observation.activity_id": "01",
    "meta.observation.obs_id": "V01234001001P0000000002001",
    "meta.observation.bkgdtarg": False,
    "meta.target.catalog_name": "SIMULATED",
    "meta.target.type": "FIXED",
    "meta.target.ra": 150.0,
    "meta.target.dec": 2.0,
    "meta.exposure.nints": 1,
    "meta.exposure.ngroups": 36,
    "meta.exposure.start_time": 61253.5,
    "meta.exposure.mid_time": 61253.5006,
    "meta.exposure.end_time": 61253.5012,
    "meta.exposure.exposure_time": 99.9,
    "meta.exposure.effective_exposure_time": 99.9,
    "meta.subarray.name": "FULL",
    "meta.subarray.xstart": 1,
    "meta.subarray.ystart": 1,
    "meta.bunit_data": UNIT,
    "meta.bunit_err": UNIT,
}
_MIRI: dict[str, object] = {
    "meta.instrument.name": "MIRI",
    "meta.instrument.detector": "MIRIMAGE",
    "meta.instrument.filter": "F770W",
    "meta.exposure.type": "MIR_IMAGE",
    "meta.exposure.readpatt": "FASTR1",
    "meta.exposure.frame_time": 2.77504,
}
_NIRSPEC: dict[str, object] = {
    "meta.instrument.name": "NIRSPEC",
    "meta.instrument.detector": "NRS1",
    "meta.instrument.filter": "F170LP",
    "meta.instrument.grating": "G235H",
    "meta.instrument.gwa_xtilt": 0.35,
    "meta.instrument.gwa_ytilt": 0.13,
    "meta.exposure.readpatt": "NRSIRS2RAPID",
    "meta.exposure.frame_time": 14.58889,
}
_BY_MODEL: dict[str, dict[str, object]] = {
    "ImageModel": _MIRI,
    "CubeModel": _MIRI,
    "IFUImageModel": {**_NIRSPEC, "meta.exposure.type": "NRS_IFU"},
    "SlitModel": {**_NIRSPEC, "meta.exposure.type": "NRS_FIXEDSLIT"},
}


def write_exposure(
    path: str | os.PathLike[str],
    *,
    sci: npt.NDArray[Any],
    err: npt.NDArray[Any] | float | None = None,
    dq: npt.NDArray[Any] | int | None = None,
    variances: bool = False,
    model: ModelName | None = None,
    metadata: Mapping[str, object] | None = None,
    keywords: Mapping[str, object] | None = None,
    extra_table: bool = False,
    without: Collection[str] = (),
) -> Path:
    """Write an exposure as the JWST pipeline writes it, ASDF extension included.

    Parameters
    ----------
    path : path-like
        The FITS file; an existing one is replaced.
    sci : ndarray
        (ny, nx) or (nints, ny, nx). float64 stays float64 in the file, any
        other dtype becomes float32.
    err : ndarray, float or None
        ERR, likewise; one number fills it. None is 0.1 everywhere.
    dq : ndarray, int or None
        DQ; one number fills it. None is 0 everywhere.
    variances : bool
        Add VAR_POISSON and VAR_RNOISE, whose sum is the square of ERR.
    model : str or None
        Name of the data model; None chooses ImageModel for a 2-D `sci` and
        CubeModel for a 3-D one. The first two are made MIRI exposures, the
        others NIRSpec ones.
    metadata : mapping or None
        Dotted names and values that replace the usual ones, such as
        ``{"meta.instrument.filter": "F1000W"}``; None leaves a name out.
    keywords : mapping or None
        Primary keywords that no schema knows.
    extra_table : bool
        Add a table extension that no schema knows, `TABLE_NAME`.
    without : collection of str
        Extensions to leave out: ``"ERR"``, ``"DQ"``.

    Returns
    -------
    Path
        `path`.
    """
    from stdatamodels.jwst import datamodels

    path = Path(path)
    sci = np.asarray(sci)
    err = _filled(0.1 if err is None else err, sci.shape)
    name = model or ("CubeModel" if sci.ndim == 3 else "ImageModel")
    known = {
        **_COMMON,
        **_BY_MODEL[name],
        "meta.subarray.xsize": sci.shape[-1],
        "meta.subarray.ysize": sci.shape[-2],
        "meta.exposure.nints": sci.shape[0] if sci.ndim == 3 else 1,
        # Files of different names are different exposures.
        "meta.observation.exposure_number": str(zlib.crc32(path.name.encode()) % 100_000),
        **(metadata or {}),
    }
    if "ERR" in without:
        # The unit alone would make an ERR extension without pixels.
        known["meta.bunit_err"] = None
    with getattr(datamodels, name)() as exposure:
        exposure.data = sci
        if "ERR" not in without:
            exposure.err = err
        if "DQ" not in without:
            exposure.dq = _filled(0 if dq is None else dq, sci.shape)
        if variances:
            exposure.var_poisson = 0.75 * np.square(err, dtype=np.float32)
            exposure.var_rnoise = 0.25 * np.square(err, dtype=np.float32)
        for key, value in known.items():
            if value is not None:
                exposure[key] = value
        extra: dict[str, dict[str, object]] = {}
        if keywords:
            cards = [[key, value, ""] for key, value in keywords.items()]
            extra["PRIMARY"] = {"header": cards}
        if extra_table:
            extra[TABLE_NAME] = {"data": _table()}
        if extra:
            exposure.extra_fits = extra
        exposure.save(path)

    wide = {"SCI": sci, "ERR": err} if "ERR" not in without else {"SCI": sci}
    _widen(path, {hdu: array for hdu, array in wide.items() if array.dtype.itemsize == 8})
    return path


def _filled(value: npt.NDArray[Any] | float, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return `value` itself, or one number spread over `shape` as float32 or uint32."""
    array = np.asarray(value)
    if array.ndim:
        return array
    return np.full(shape, value, np.float32 if array.dtype.kind == "f" else np.uint32)


def _table() -> npt.NDArray[np.void]:
    """Return three rows of a table."""
    return np.array(
        [(1, 0.5, b"one"), (2, 1.5, b"two"), (3, 2.5, b"three")],
        dtype=[("number", "i4"), ("value", "f8"), ("name", "S8")],
    )


def _widen(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Exchange extensions for float64 ones.

    The schemas know float32 only, and the models cast to it; files with
    float64 extensions exist all the same.
    """
    from astropy.io import fits

    if not any(array.dtype.kind == "f" for array in arrays.values()):
        return
    with fits.open(path, memmap=False) as hdus:
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                hdus[name].data = np.asarray(array, np.float64)
        hdus.writeto(path, overwrite=True)
