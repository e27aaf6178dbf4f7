"""Small exposures of every kind that offsky takes, the same on every machine.

Pixels are made by sums, products, quotients and square roots of uniform random numbers, which are
rounded alike everywhere; exponentials are not. Each exposure has a sky of about 10 with a
gradient and a level of its own, a bright source in the right half, noise, outliers in the left
half, flags and NaN.
"""

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from plain import MIRI

SHAPE = (40, 48)
Window = tuple[int, int, int, int]
"""First column and row (from 1), columns and rows."""
FULL: Window = (1, 1, SHAPE[1], SHAPE[0])
LOSSLESS = {"compression_type": "GZIP_2", "quantize_level": 0}
VARIANCES = {"VAR_POISSON": 0.6, "VAR_RNOISE": 0.3, "VAR_FLAT": 0.1}


@dataclass(frozen=True)
class Job:
    """A product to be made: its target, backgrounds and, where given, masks and imprints."""

    target: Path
    backgrounds: tuple[Path, ...]
    masks: tuple[Path | None, ...] = ()
    imprints: tuple[Path, ...] = ()

    @property
    def is_asdf(self) -> bool:
        return self.target.suffix == ".asdf"


def exposure(
    number: int, nints: int | None, window: Window
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make SCI, ERR and DQ of exposure `number`; number 0 is a target."""
    rng = np.random.default_rng([2311, number])
    ny, nx = SHAPE
    whole = (nints or 1, ny, nx)
    row, column = np.arange(ny)[:, np.newaxis], np.arange(nx)[np.newaxis, :]
    level = (10.0, 10.4, 9.7, 10.1, 10.9, 9.9)[number % 6]
    sky = level * (0.95 + 0.1 * column / nx + 0.06 * row / ny)
    at_row, at_column = 4 + 32 * rng.random(), 28 + 16 * rng.random()
    sky = sky + 60.0 / (1 + ((row - at_row) ** 2 + (column - at_column) ** 2) / 3) ** 3
    # Twelve uniform numbers together are nearly Gaussian, of variance 1.
    noise = sum((rng.random(whole) for _ in range(12)), np.full(whole, -6.0))
    sci = sky + 0.3 * noise
    # Found as sources, outliers everywhere would leave nothing.
    outliers = rng.random(whole)
    sci[(outliers < 0.05) & (column < 20)] += 25.0
    sci[(outliers > 0.97) & (column < 20)] -= 6.0
    err = np.sqrt(0.05 + 0.004 * np.abs(sci)) * (0.9 + 0.1 * (number % 3))
    dq = np.where(rng.random(whole) < 0.08, 4, 0) | np.where(rng.random(whole) < 0.03, 2, 0)
    dq |= np.where(rng.random(whole) < 0.03, 1, 0)
    dq |= np.where(rng.random(whole) < 0.01, 2**31, 0)
    lost = rng.random(whole) < 0.02
    sci[lost], dq[lost] = np.nan, 1
    sci[rng.random(whole) < 0.005] = np.inf
    err[rng.random(whole) < 0.02] = np.nan
    if number:
        sci[..., 17] = np.nan  # no background has a sample
        dq[:, 23, 20:30] |= 1  # none has a good one
    x, y, n_columns, n_rows = window
    cut = (..., slice(y - 1, y - 1 + n_rows), slice(x - 1, x - 1 + n_columns))
    arrays = (sci.astype("f4"), err.astype("f4"), dq.astype("u4"))
    sci, err, dq = (np.ascontiguousarray(each[cut] if nints else each[0][cut]) for each in arrays)
    return sci, err, dq


def write(
    folder: Path,
    number: int,
    nints: int | None = None,
    *,
    window: Window = FULL,
    stored: str = "fits",
    without: Sequence[str] = (),
    by_models: bool | None = None,
) -> Path:
    """Write an exposure.

    Parameters
    ----------
    folder, number, nints, window
        Where, and what `exposure` makes.
    stored : str
        "fits", "float64", "gz", "compressed" or "asdf".
    without : sequence of str
        Extensions to leave out.
    by_models : bool or None
        Whether the file is what data models write, its metadata in an ASDF extension too. None for
        targets alone, where stpipe needs it.
    """
    kind = "rateints" if nints else "rate"
    path = folder / f"jw01234001001_02101_{number + 1:05d}_mirimage_{kind}.fits"
    hdus = _as_hdus(path.name, number, nints, window, without)
    by_models = number == 0 if by_models is None else by_models
    if by_models or stored == "asdf":
        path = _save_by_models(hdus, path.with_suffix(".asdf" if stored == "asdf" else ".fits"))
    else:
        hdus.writeto(path)
    if stored in ("float64", "compressed"):
        with fits.open(path, memmap=False) as written:
            for name in ("SCI", "ERR", "DQ"):
                hdu = written[name]
                if stored == "compressed":
                    written[name] = fits.CompImageHDU(hdu.data, hdu.header, **LOSSLESS)
                elif name != "DQ":
                    wide = hdus[name].data.astype("f8")
                    # Not a number that float32 has: rounding would tell.
                    hdu.data = wide + 1e-9
            written.writeto(path, overwrite=True)
    if stored == "gz":
        packed = path.with_name(f"{path.name}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
        return packed
    return path


def _as_hdus(
    name: str, number: int, nints: int | None, window: Window, without: Sequence[str]
) -> fits.HDUList:
    """Make the extensions of an exposure."""
    sci, err, dq = exposure(number, nints, window)
    x, y, n_columns, n_rows = window
    primary = fits.PrimaryHDU()
    primary.header.update(
        {
            **MIRI,
            "FILENAME": name,
            "DATE": "2026-07-01T12:00:00.000",
            "DATAMODL": "CubeModel" if nints else "ImageModel",
            "EXPOSURE": str(number + 1),
            "NINTS": nints or 1,
            "SUBSTRT1": x,
            "SUBSTRT2": y,
            "SUBSIZE1": n_columns,
            "SUBSIZE2": n_rows,
            "EXPSTART": 61200.0 + 0.01 * number,
            "EXPMID": 61200.002 + 0.01 * number,
            "EXPEND": 61200.004 + 0.01 * number,
        }
    )
    images = {"SCI": sci, "ERR": err, "DQ": dq}
    images |= {name: (share * err * err).astype("f4") for name, share in VARIANCES.items()}
    hdus = fits.HDUList([primary])
    for extension, image in images.items():
        if extension not in without:
            hdus.append(fits.ImageHDU(image, name=extension))
            if extension in ("SCI", "ERR"):
                hdus[-1].header["BUNIT"] = "DN/s"
    return hdus


def _save_by_models(hdus: fits.HDUList, path: Path) -> Path:
    """Write an exposure as data models do."""
    from stdatamodels.jwst import datamodels

    make = getattr(datamodels, hdus[0].header["DATAMODL"])
    with make(hdus) as model:
        model.save(path)
    return path


def write_mask(folder: Path, number: int) -> Path:
    """Write a mask of an exposure: a block and a few single pixels."""
    rng = np.random.default_rng([2312, number])
    mask = (rng.random(SHAPE) < 0.02).astype("u1")
    mask[5 * number : 5 * number + 8, 10:26] = 1
    path = folder / f"mask{number}.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(mask)]).writeto(path)
    return path


# Kinds of inputs: what is written into a folder, and the products to be made of it.

Kind = Callable[[Path], list[Job]]


def _same(nints: Sequence[int | None], **how: Any) -> Kind:
    """Make a target (the first) and its backgrounds, all stored alike."""

    def make(folder: Path) -> list[Job]:
        target, *backgrounds = (write(folder, i, n, **how) for i, n in enumerate(nints))
        return [Job(target, tuple(backgrounds))]

    return make


def _windows(target: Window, *backgrounds: tuple[int | None, Window]) -> Kind:
    """Make exposures of several windows."""

    def make(folder: Path) -> list[Job]:
        paths = [write(folder, i, n, window=w) for i, (n, w) in enumerate(backgrounds, 1)]
        return [Job(write(folder, 0, window=target), tuple(paths))]

    return make


def _one_without(*names: str) -> Kind:
    """Make images, the third background of which lacks extensions."""

    def make(folder: Path) -> list[Job]:
        paths = [write(folder, i, without=names if i == 3 else ()) for i in range(6)]
        return [Job(paths[0], tuple(paths[1:]))]

    return make


def _masked(folder: Path) -> list[Job]:
    """Make images with masks, but for one."""
    (job,) = _same(IMAGES)(folder)
    masks = [None if i == 2 else write_mask(folder, i) for i in range(1, 6)]
    return [Job(job.target, job.backgrounds, tuple(masks))]


def _dithers(folder: Path) -> list[Job]:
    """Make five dithers, each with the four others as its backgrounds."""
    paths = [write(folder, i, by_models=True) for i in range(1, 6)]
    return [Job(path, tuple(other for other in paths if other != path)) for path in paths]


def _shared(folder: Path) -> list[Job]:
    """Make two images and a cube with the same backgrounds."""
    backgrounds = tuple(write(folder, i, 3 if i == 4 else None) for i in range(1, 6))
    targets = [write(folder, 6 * i, 2 if i == 3 else None, by_models=True) for i in (0, 2, 3)]
    return [Job(target, backgrounds) for target in targets]


IMAGES = (None,) * 6
KINDS: dict[str, Kind] = {
    "images": _same(IMAGES),
    "cubes": _same((3, 4, 5, 3, 4, 1)),
    "mixed": _same((None, None, 4, None, 5, None)),
    # A part of the detector, with full frames and parts that overlap it.
    "subarray": _windows(
        (9, 7, 30, 28),
        (None, FULL),
        (None, (1, 1, 34, 30)),
        (4, FULL),
        (None, (7, 5, 40, 36)),
        (None, (9, 7, 30, 28)),
    ),
    # A full frame, with parts of it: some pixels have few samples, some none.
    "parts": _windows(
        FULL,
        (None, (9, 7, 30, 28)),
        (None, (1, 1, 34, 30)),
        (3, (5, 3, 40, 30)),
        (None, (7, 5, 40, 36)),
    ),
    "float64": _same(IMAGES, stored="float64"),
    "gz": _same(IMAGES, stored="gz"),
    "compressed": _same(IMAGES, stored="compressed"),
    "models": _same(IMAGES, by_models=True),
    "asdf": _same(IMAGES, stored="asdf"),
    "one-without-err": _one_without("ERR", *VARIANCES),
    "one-without-variances": _one_without(*VARIANCES),
    "no-variances": _same(IMAGES, without=tuple(VARIANCES)),
    "masked": _masked,
    "dithers": _dithers,
    "shared": _shared,
}
"""Kinds of inputs by name."""
