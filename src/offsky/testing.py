"""Builders of exposures for tests, benchmarks and the demo, and a few assertions.

Everything here has a fixed outcome: pixels that encode where they belong,
exposures written through ``stdatamodels`` as the JWST pipeline writes them,
and a simulated observation whose truth is known.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Scene",
    "SimulatedExposure",
    "assert_same_bits",
    "encoded_pixels",
    "file_digest",
    "simulate_exposures",
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


@dataclass(frozen=True)
class SimulatedExposure:
    """One simulated exposure and what is known of it; arrays are (ny, nx).

    Attributes
    ----------
    sci, err : ndarray
        float32, DN/s; NaN where `dq` says DO_NOT_USE.
    dq : ndarray
        uint32, the flags of the JWST pipeline.
    light : ndarray
        float64, DN/s: stars and other sources alone, without noise.
    struck : ndarray
        bool, True where a cosmic ray that no flag tells of is left over.
    """

    sci: npt.NDArray[np.float32]
    err: npt.NDArray[np.float32]
    dq: npt.NDArray[np.uint32]
    light: Floats
    struck: Mask


@dataclass(frozen=True)
class Scene:
    """A simulated observation: a target, its backgrounds and their common sky.

    Attributes
    ----------
    target : SimulatedExposure
        Its `light` is the truth that background subtraction should find.
    backgrounds : tuple of SimulatedExposure
        An emptier field, dithered from exposure to exposure.
    sky : ndarray
        float64, (ny, nx), DN/s: what all exposures share, before the small
        drift of its level from one to the next.
    """

    target: SimulatedExposure
    backgrounds: tuple[SimulatedExposure, ...]
    sky: Floats


_GAIN_E_PER_DN = 4.0
_EXPOSURE_TIME_S = 99.5
_READ_NOISE_DN_S = 0.05


def simulate_exposures(
    shape: tuple[int, int] = (512, 512),
    *,
    n_backgrounds: int = 4,
    seed: int = 7,
    sky_level: float = 20.0,
    level_drift: float = 0.02,
) -> Scene:
    """Simulate a target with dedicated backgrounds, as MIRI's imager sees them.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of every exposure.
    n_backgrounds : int
        Number of background exposures.
    seed : int
        Equal seeds give equal scenes.
    sky_level : float
        Typical sky, DN/s.
    level_drift : float
        Standard deviation of the sky's level over the exposures, DN/s.

    Returns
    -------
    Scene
        The exposures and the truth.

    Notes
    -----
    The sky has a gradient, a glow at one corner, stripes along the columns, a
    pixel-to-pixel response of 1 % and hot pixels: all of it is common to the
    exposures and should vanish. Noise is Poisson and read noise; ERR is
    estimated from the noisy SCI, as the pipeline does. Cosmic rays are of
    three kinds: left over without a flag; corrected and flagged JUMP_DET; and
    lost (NaN, DO_NOT_USE) in one exposure only. Dead pixels are NaN in all.
    """
    rng = np.random.default_rng(seed)
    ny, nx = shape
    rows, columns = np.mgrid[0 : 1 : ny * 1j, 0 : 1 : nx * 1j]
    glow = 0.30 * np.exp(-((rows - 1.0) ** 2 + (columns - 1.05) ** 2) / 0.18)
    response = rng.normal(1.0, 0.01, shape)
    sky = sky_level * (0.94 + 0.08 * columns + 0.04 * rows + glow) * response
    sky += rng.normal(0.0, 0.008 * sky_level, nx)
    hot = rng.random(shape) < 0.002
    sky[hot] += rng.lognormal(2.5, 1.0, int(hot.sum()))
    dead = _dead_pixels(rng, shape)

    light = _stars(rng, shape, n=ny * nx // 4000) + _galaxy(shape)
    target = _expose(rng, sky, light * response, hot, dead)

    field = _draw_stars(rng, shape, n=ny * nx // 8000)
    backgrounds = []
    for _ in range(n_backgrounds):
        dither = rng.uniform(-30.0, 30.0, 2)
        light = _render(shape, field[0] + dither[0], field[1] + dither[1], field[2])
        level = rng.normal(0.0, level_drift)
        backgrounds.append(_expose(rng, sky + level, light * response, hot, dead))
    return Scene(target, tuple(backgrounds), sky)


def _expose(
    rng: np.random.Generator, sky: Floats, light: Floats, hot: Mask, dead: Mask
) -> SimulatedExposure:
    """Add noise, cosmic rays and flags to noiseless `sky` and `light`."""
    from stdatamodels.jwst.datamodels.dqflags import pixel as flags

    shape = sky.shape
    left_over = _cosmic_rays(rng, shape, per_pixel=5e-4)
    corrected = _cosmic_rays(rng, shape, per_pixel=2e-3) > 0
    lost = _cosmic_rays(rng, shape, per_pixel=1e-4) > 0

    electrons_per_rate = _GAIN_E_PER_DN * _EXPOSURE_TIME_S
    rate = rng.poisson((sky + light + left_over) * electrons_per_rate) / electrons_per_rate
    # A corrected jump costs part of the ramp, and so some of its precision.
    read_noise = np.where(corrected, 3.0, 1.0) * _READ_NOISE_DN_S
    sci = (rate + read_noise * rng.standard_normal(shape)).astype(np.float32)
    err = np.sqrt(np.clip(sci, 0.0, None) / electrons_per_rate + read_noise**2)
    err = err.astype(np.float32)

    dq = np.zeros(shape, np.uint32)
    dq[hot] |= flags["HOT"]
    dq[corrected] |= flags["JUMP_DET"]
    dq[lost] |= flags["SATURATED"] | flags["DO_NOT_USE"]
    dq[dead] |= flags["DEAD"] | flags["DO_NOT_USE"]
    sci[lost | dead] = np.nan
    err[lost | dead] = np.nan
    return SimulatedExposure(sci, err, dq, light, (left_over > 0) & ~lost & ~dead)


def _dead_pixels(rng: np.random.Generator, shape: tuple[int, int]) -> Mask:
    """Return scattered dead pixels, some clumps and part of a column."""
    ny, nx = shape
    dead = rng.random(shape) < 0.001
    dead[ny // 8 : ny // 2, (3 * nx) // 4] = True
    size = max(1, ny // 80)
    for row, column in rng.integers(0, (ny - size + 1, nx - size + 1), (6, 2)):
        dead[row : row + size, column : column + size] = True
    return dead


def _cosmic_rays(rng: np.random.Generator, shape: tuple[int, ...], *, per_pixel: float) -> Floats:
    """Return straight tracks of some pixels' length: amplitudes in DN/s, 0 elsewhere."""
    ny, nx = shape
    n = round(per_pixel * ny * nx)
    steps = np.linspace(0.0, 1.0, 16)[:, np.newaxis]
    length = np.minimum(1.0 + rng.exponential(3.0, n), 14.0)
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    row = (rng.uniform(0, ny, n) + steps * length * np.sin(angle)).astype(int)
    column = (rng.uniform(0, nx, n) + steps * length * np.cos(angle)).astype(int)
    amplitude = np.broadcast_to(rng.lognormal(1.5, 1.0, n), row.shape)
    inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
    image = np.zeros(shape)
    np.maximum.at(image, (row[inside], column[inside]), amplitude[inside])
    return image


def _draw_stars(
    rng: np.random.Generator, shape: tuple[int, int], *, n: int
) -> tuple[Floats, Floats, Floats]:
    """Draw rows, columns and fluxes (DN/s), few bright among many faint."""
    ny, nx = shape
    flux = np.minimum(8.0 * (1.0 + rng.pareto(0.7, n)), 1000.0)
    return rng.uniform(-30, ny + 30, n), rng.uniform(-30, nx + 30, n), flux


def _stars(rng: np.random.Generator, shape: tuple[int, int], *, n: int) -> Floats:
    """Return an image of `n` stars at random."""
    return _render(shape, *_draw_stars(rng, shape, n=n))


def _render(shape: tuple[int, int], rows: Floats, columns: Floats, flux: Floats) -> Floats:
    """Draw stars: a Gaussian core of 2.4 pixels (F770W's width) and a fainter halo."""
    half = 24
    ny, nx = shape
    image = np.zeros((ny + 4 * half, nx + 4 * half))
    box = np.arange(-half, half + 1)
    row, column = np.rint(rows).astype(int), np.rint(columns).astype(int)
    dy = box[np.newaxis, :, np.newaxis] - (rows - row)[:, np.newaxis, np.newaxis]
    dx = box[np.newaxis, np.newaxis, :] - (columns - column)[:, np.newaxis, np.newaxis]
    r2 = dx**2 + dy**2
    stamp = np.zeros_like(r2)
    for share, sigma in ((0.85, 1.02), (0.15, 5.0)):
        stamp += share / (2.0 * np.pi * sigma**2) * np.exp(-0.5 * r2 / sigma**2)
    y = row[:, np.newaxis, np.newaxis] + 2 * half + box[np.newaxis, :, np.newaxis]
    x = column[:, np.newaxis, np.newaxis] + 2 * half + box[np.newaxis, np.newaxis, :]
    inside = (row >= -half) & (row < ny + half) & (column >= -half) & (column < nx + half)
    stamp *= flux[:, np.newaxis, np.newaxis]
    np.add.at(image, (y[inside], x[inside]), stamp[inside])
    return image[2 * half : 2 * half + ny, 2 * half : 2 * half + nx]


def _galaxy(shape: tuple[int, int]) -> Floats:
    """Return an inclined spiral galaxy, fainter than the sky nearly everywhere."""
    ny, nx = shape
    scale = min(ny, nx) / 14.0
    y, x = np.mgrid[0:ny, 0:nx] - np.array([0.5 * ny, 0.46 * nx]).reshape(2, 1, 1)
    tilt = np.radians(35.0)
    along = x * np.cos(tilt) + y * np.sin(tilt)
    across = (y * np.cos(tilt) - x * np.sin(tilt)) / 0.6
    radius = np.hypot(along, across) / scale
    arms = np.cos(2.0 * np.arctan2(across, along) - 4.0 * np.log(radius + 0.3))
    disc: Floats = 2.5 * np.exp(-radius) * (1.0 + 0.7 * arms * np.tanh(radius))
    disc += 6.0 * np.exp(-0.5 * (radius / 0.15) ** 2)
    return disc
