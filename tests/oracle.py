"""What is right, written out with plain astropy and NumPy, and small helpers.

Nothing in here calls offsky's own algorithms: astropy's ``sigma_clip`` decides which samples are
kept, and each formula of the documentation stands here once more.
"""

import gzip
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clip

from offsky.kernel.contract import SIGMA, Averages, Planes, Rule
from offsky.values.average import ClippedMean

OWNED_KEYWORDS = {"FILENAME", "DATE", "S_BKDSUB", "CHECKSUM", "DATASUM", "HISTORY"}
"""Cards of the primary header that the step may write, besides those that begin with OFF."""


def kept_samples(sci: Any, sigma: float = 3.0, maxiters: int | None = None) -> np.ndarray:
    """Tell which samples of (n, ...) astropy keeps; its own maxiters=0 would mean infinity."""
    stack = np.asarray(sci).astype(np.float64)
    if maxiters == 0:
        return np.isfinite(stack)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks upon NaN, and upon overflow
        clipped = sigma_clip(stack, sigma=sigma, maxiters=maxiters, axis=0, masked=True)
    return np.asarray(~np.ma.getmaskarray(clipped) & np.isfinite(stack))


@dataclass(frozen=True)
class Expected:
    """An average, in float64; ``tolerance`` is what rounding may add to ``sci``."""

    sci: np.ndarray
    err: np.ndarray | None
    dq: np.ndarray | None
    n_kept: np.ndarray
    n_rejected: np.ndarray
    tolerance: np.ndarray


def average_of_samples(
    sci: Any,
    err: Any = None,
    dq: Any = None,
    sigma: float = 3.0,
    maxiters: int | None = None,
) -> Expected:
    """Average (n, ...) along the first axis by the formulas of the documentation."""
    kept = kept_samples(sci, sigma, maxiters)
    x = np.asarray(sci).astype(np.float64)
    n_kept = kept.sum(axis=0)
    with np.errstate(all="ignore"):
        mean = np.where(kept, x, 0.0).sum(axis=0) / n_kept
        # Sums in another order: n roundings of the largest partial sum.
        tolerance = 2.0**-52 * len(x) * np.where(kept, abs(x), 0.0).sum(axis=0) / n_kept
    error = None
    if err is not None:
        e = np.asarray(err).astype(np.float64)
        known = kept & np.isfinite(e)
        with np.errstate(all="ignore"):
            variance = np.where(known, e, 0.0) ** 2
            # A kept sample without a finite ERR takes the mean variance of the others.
            mean_variance = variance.sum(axis=0) / known.sum(axis=0)
            error = np.sqrt(mean_variance * n_kept) / n_kept
    flags = None
    if dq is not None:
        flags = np.bitwise_or.reduce(np.asarray(dq).astype(np.uint32), axis=0)
    n_rejected = (np.isfinite(x) & ~kept).reshape(len(x), -1).sum(axis=1)
    return Expected(mean, error, flags, n_kept, n_rejected, tolerance)


def average_of_exposures(
    exposures: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    sigma: float = 3.0,
    maxiters: int | None = None,
) -> Expected:
    """Average images and cubes, (sci, err, dq) each; cubes along their integrations first."""
    images = []
    for sci, err, dq in exposures:
        if sci.ndim == 3:
            image = average_of_samples(sci, err, dq, sigma, maxiters)
            images.append((image.sci, image.err, image.dq))
        else:
            images.append((sci, err, dq))
    return average_of_samples(*(np.stack(part) for part in zip(*images, strict=True)),
                              sigma=sigma, maxiters=maxiters)  # fmt: skip


def assert_average(actual: Any, expected: Expected) -> None:
    """Fail unless SCI, ERR, DQ (and the counts, where told) are those expected."""
    if hasattr(actual, "n_kept"):
        np.testing.assert_array_equal(actual.n_kept, expected.n_kept)
        np.testing.assert_array_equal(actual.n_rejected, expected.n_rejected)
    with np.errstate(over="ignore", invalid="ignore"):
        single = expected.sci.astype(np.float32)
        # Half a unit of float32, plus the sum's own rounding.
        near = abs(actual.sci - expected.sci) <= 2.0**-23 * abs(expected.sci) + (
            expected.tolerance + 2.0**-149
        )
        same = (actual.sci == single) | (np.isnan(actual.sci) & np.isnan(single))
    assert np.all(near | same), "SCI is not the mean of the samples that astropy keeps"
    assert actual.sci.dtype == np.float32
    if expected.err is not None:
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(
                actual.err, expected.err.astype(np.float32), rtol=3e-7, atol=3e-45
            )
        assert actual.err.dtype == np.float32
    if expected.dq is not None:
        np.testing.assert_array_equal(actual.dq, expected.dq)
        assert actual.dq.dtype == np.uint32


def planes_of(array: np.ndarray | None) -> list[np.ndarray] | None:
    """Return the flat planes of (n, ...), as kernel and twin take them."""
    return None if array is None else [np.ascontiguousarray(plane).reshape(-1) for plane in array]


def clip_with(
    engine: Callable[..., tuple[int, int]],
    sci: np.ndarray,
    err: np.ndarray | None = None,
    dq: np.ndarray | None = None,
    *,
    sigma: float = 3.0,
    maxiters: int | None = None,
    window: tuple[int, int] | None = None,
    flips: Sequence[int] | None = None,
    wide: bool = False,
) -> ClippedMean:
    """Clip (n, n_pixels) by kernel or twin; what it leaves alone is a pattern of sevens."""
    n_pixels = sci[0].size
    real = np.float64 if wide else np.float32
    out_sci = np.full(n_pixels, 7.0, dtype=real)
    out_err = None if err is None else np.full(n_pixels, 7.0, dtype=real)
    out_dq = None if dq is None else np.full(n_pixels, 7, dtype=np.uint32)
    out_n_kept = np.full(n_pixels, 7, dtype=np.uint16)
    n_rejected, n_masked = np.zeros((2, len(sci)), dtype=np.int64)
    first, last = window or (0, n_pixels)
    planes = Planes(planes_of(sci) or [], planes_of(err), planes_of(dq))
    dq_flip = None if flips is None else np.array(flips, dtype=np.uint32)
    rule = Rule(SIGMA, sigma, sigma, -1 if maxiters is None else maxiters)
    out = Averages(out_sci, out_err, out_dq, out_n_kept, n_rejected, n_masked=n_masked)
    n_estimated, n_samples = engine(
        planes, dq_flip, None, None, None, None, None, rule, first, last, out
    )
    return ClippedMean(
        out_sci,
        out_err,
        out_dq,
        out_n_kept,
        n_rejected,
        n_estimated,
        n_samples=n_samples,
        n_masked=n_masked,
    )


def same_bits(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Tell whether two arrays of one dtype agree bit for bit, every NaN being the same NaN."""
    if a is None or b is None:
        return a is b
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    equal = a == b
    if a.dtype.kind == "f":
        equal = (equal & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))
    return bool(np.all(equal))


def assert_same_average(a: ClippedMean, b: ClippedMean) -> None:
    """Fail unless two averages agree bit for bit, counts included."""
    for name in ("sci", "err", "dq", "n_kept", "n_rejected", "n_masked"):
        assert same_bits(getattr(a, name), getattr(b, name)), f"{name} differs"
    assert a.n_err_estimated == b.n_err_estimated
    assert a.n_samples == b.n_samples


def read_pixels(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read SCI, ERR and DQ with astropy, in the machine's byte order."""
    with fits.open(path, memmap=False) as hdus:
        arrays = [np.array(hdus[name].data) for name in ("SCI", "ERR", "DQ")]
    sci, err, dq = (a.astype(a.dtype.newbyteorder("=")) for a in arrays)
    return sci, err, dq


def unzipped(path: Path) -> bytes:
    """Return the bytes of a file, unzipped."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def fits_parts(path: Path) -> list[tuple[str, bytes, bytes]]:
    """Return name, header bytes and data bytes of each header-data unit as they are on disk."""
    plain = path
    if path.suffix == ".gz":
        plain = path.with_name(path.name + ".unzipped")
        plain.write_bytes(unzipped(path))
    everything = plain.read_bytes()
    parts = []
    with fits.open(plain, memmap=False, disable_image_compression=True) as hdus:
        for hdu in hdus:
            info = hdu.fileinfo()
            start, data = info["hdrLoc"], info["datLoc"]
            parts.append(
                (hdu.name, everything[start:data], everything[data : data + info["datSpan"]])
            )
    if plain != path:
        plain.unlink()
    return parts


def foreign_cards(header: bytes) -> list[bytes]:
    """Return the cards of a primary header that are not the step's, verbatim, blanks left out."""
    cards = [header[i : i + 80] for i in range(0, len(header), 80)]
    return [
        card
        for card in cards
        if card.strip()
        and card[:8].decode().strip() not in OWNED_KEYWORDS
        and not card.startswith((b"OFF", b"END"))
    ]


def tree(folder: Path) -> dict[str, bytes]:
    """Return everything in a folder, to see what was left behind or changed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def model_state(model: Any) -> dict[str, Any]:
    """Return everything a data model holds, without making it create anything.

    Keys are paths in its tree, values are metadata or the bytes of arrays.
    """
    state: dict[str, Any] = {}

    def walk(where: str, node: Any) -> None:
        if hasattr(node, "items"):
            state[where] = "mapping"
            for key, value in node.items():
                walk(f"{where}.{key}", value)
        elif isinstance(node, list | tuple):
            state[where] = "sequence"
            for i, value in enumerate(node):
                walk(f"{where}[{i}]", value)
        elif hasattr(node, "dtype"):
            array = np.asarray(node)
            state[where] = (array.dtype.str, array.shape, array.tobytes())
        else:
            state[where] = repr(node)

    walk("", model.instance)
    return state


def offsky_command(
    *arguments: Any, cwd: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m offsky`` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "offsky", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


def compress_file(path: Path) -> Path:
    """Return a gzipped copy beside a file."""
    zipped = path.with_name(path.name + ".gz")
    with path.open("rb") as source, gzip.open(zipped, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target)
    return zipped
