"""What a product should hold, by astropy's reading of the same files; nothing of offsky's."""

import gzip
import io
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

_DO_NOT_USE = 1
_FAR = 2**40


class UnreadError(Exception):
    """astropy cannot read an input: there is nothing to compare with."""


def wrong_product(
    product: Path, target: Path, backgrounds: Sequence[Path], mask: Path | None = None,
    *, errors_change: bool = False,
) -> str | None:  # fmt: skip
    """Tell what is wrong with a product; None where nothing is.

    Raises
    ------
    UnreadError
        If astropy cannot read an input.
    """
    found = _read(target)
    averages = [_image(path, mask if i == 0 else None) for i, path in enumerate(backgrounds)]
    if any(dq is not None and dq.shape != sci.shape for sci, dq, _ in averages):
        return "a DQ of another shape was taken"
    try:
        made = _read(product)
    except UnreadError as error:
        return f"astropy cannot read the product: {error}"
    averages = [_placed(each, found) for each in averages]
    mean, n_kept = _mean([sci for sci, _ in averages])
    # What no background covers stays as it is.
    level = np.where(n_kept > 0, mean, 0.0)
    expected = found["SCI"] - level
    scale = abs(found["SCI"]) + abs(level)
    if made["SCI"] is None or not _same(made["SCI"], expected, scale):
        return "SCI is not what astropy's reading of the inputs gives"
    flags = found["DQ"]
    for _, dq in averages:
        flags = flags if dq is None or flags is None else flags | dq
    if flags is not None and (made["DQ"] is None or not np.array_equal(made["DQ"], flags)):
        return "DQ is not what astropy's reading of the inputs gives"
    before, after = found["ERR"], made["ERR"]
    if errors_change or before is None or _same(after, before, abs(before)):
        return None
    return "ERR is not the target's"


def wrong_average(
    product: Path, backgrounds: Sequence[Path], mask: Path | None, target: Path | None = None
) -> str | None:
    """Tell what is wrong with an average; None where nothing is. Raises as `wrong_product`."""
    averages = [_image(path, mask if i == 0 else None) for i, path in enumerate(backgrounds)]
    try:
        made = _read(product)
    except UnreadError as error:
        return f"astropy cannot read the average: {error}"
    # Without a target the first one is the frame.
    frame = _read(backgrounds[0] if target is None else target)
    placed = [_placed(each, frame) for each in averages]
    mean, n_kept = _mean([sci for sci, _ in placed])
    expected = np.where(n_kept > 0, mean, np.nan)
    if not _same(made["SCI"], expected, abs(expected)):
        return "SCI of the average is not what astropy's reading of the inputs gives"
    return None


def _read(path: Path) -> dict[str, Any]:
    """Read SCI, ERR and DQ; None for those that are not there or have no pixels."""
    try:
        return _read_bytes(path.read_bytes())
    except Exception as error:
        raise UnreadError(f"{path.name}: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=64)
def _read_bytes(content: bytes) -> dict[str, Any]:
    """Read them of a file's bytes; those of exposures without damage are read once."""
    found: dict[str, Any] = {"SCI": None, "ERR": None, "DQ": None, "start": None}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        with fits.open(io.BytesIO(plain), memmap=False, lazy_load_hdus=False) as hdus:
            found["start"] = _start(hdus)
            # Not of the primary unit, whatever it calls itself.
            for hdu in reversed(hdus[1:]):
                if hdu.name in ("SCI", "ERR", "DQ") and hdu.data is not None:
                    if not hdu.is_image:
                        raise ValueError(f"{hdu.name} is a table for astropy")
                    found[hdu.name] = np.array(hdu.data)
    # It stops there, and tells of fewer extensions than the file has.
    if any("Error validating header" in str(each.message) for each in said):
        raise ValueError("a header that astropy cannot read")
    found["SCI"] = found["SCI"].astype(np.float64)
    if found["DQ"] is not None:
        found["DQ"] = _as_flags(found["DQ"])
    if found["ERR"] is not None:
        found["ERR"] = found["ERR"].astype(np.float64)
    return found


def _start(hdus: Any) -> tuple[int, int] | None:
    """Return where an image begins on the detector, (row, column); None where that is not told."""
    found = []
    for key in ("SUBSTRT2", "SUBSTRT1"):
        header = next((hdu.header for hdu in hdus if key in hdu.header), {})
        found.append(header.get(key))
    return (found[0], found[1]) if all(type(each) is int for each in found) else None


def _placed(image: tuple[Any, Any, Any], target: dict[str, Any]) -> tuple[Any, Any]:
    """Return SCI and DQ in the target's window, NaN and 0 where the image is not."""
    sci, dq, start = image
    shape = target["SCI"].shape[-2:]
    if start is None or target["start"] is None:
        start = (1, 1)
        target = {**target, "start": start}
    places = []
    for axis in (0, 1):
        # Places may be beyond the numbers that an array holds.
        shift = max(-_FAR, min(target["start"][axis] - start[axis], _FAR))
        index = np.arange(shape[axis]) + shift
        places.append(
            (index.clip(0, sci.shape[axis] - 1), (index >= 0) & (index < sci.shape[axis]))
        )
    (rows, has_row), (columns, has_column) = places
    there = has_row[:, np.newaxis] & has_column
    inside = np.ix_(rows, columns)
    flags = None if dq is None else np.where(there, dq[inside], 0).astype(np.uint32)
    return np.where(there, sci[inside], np.nan), flags


def _as_flags(array: Any) -> Any:
    if array.dtype.kind not in "iu":
        raise ValueError(f"DQ is {array.dtype}")
    # Of smaller integers the bits are kept, signed or not.
    most = 2 ** (8 * min(array.dtype.itemsize, 4)) - 1
    return (array.astype(np.int64) & most).astype(np.uint32)


def _image(path: Path, mask: Path | None) -> tuple[Any, Any, Any]:
    """Return SCI, DQ and place of a background, its integrations averaged, NaN where masked."""
    found = _read(path)
    sci, dq = found["SCI"], found["DQ"]
    if mask is not None:
        sci = np.where(_left_out(mask), np.nan, sci)
    if sci.ndim == 3:
        sci, n_kept = _mean(list(sci))
        sci = np.where(n_kept > 0, sci, np.nan)
        dq = None if dq is None else np.bitwise_or.reduce(dq, axis=0)
    return sci, dq, found["start"]


def _left_out(mask: Path) -> Any:
    """Tell where a mask leaves samples out, by docs/usage: the first two-dimensional image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(mask, memmap=False, lazy_load_hdus=False) as hdus:
                images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 2]
                if any(hdu.name == "SCI" for hdu in hdus):
                    image = next(hdu for hdu in images if hdu.name == "DQ")
                    return (_as_flags(np.array(image.data)) & _DO_NOT_USE) != 0
                image = np.array(images[0].data)
    except Exception as error:
        raise UnreadError(f"{mask.name}: {type(error).__name__}: {error}") from error
    if image.dtype.kind == "f" and np.isnan(image).any() and (image[~np.isnan(image)] == 1).all():
        return np.isnan(image)
    return image != 0


def _mean(samples: list[Any]) -> tuple[Any, Any]:
    """Average what is finite of one or two samples: too few for three sigma to reject any."""
    stack = np.array(samples)
    if len(stack) > 2:
        raise UnreadError("more than two samples")
    finite = np.isfinite(stack)
    with np.errstate(all="ignore"):
        n_kept = finite.sum(axis=0)
        # Halves first: a sum may be beyond the numbers.
        mean = (np.where(finite, stack, 0.0) / n_kept).sum(axis=0)
    return mean, n_kept


def _same(made: Any, expected: Any, scale: Any) -> bool:
    """Tell whether two arrays agree within what float32 rounds."""
    if made is None or made.shape != expected.shape:
        return False
    with np.errstate(all="ignore"):
        single = expected.astype(np.float32).astype(np.float64)
        near = abs(made - expected) <= 2.0**-21 * scale + 1e-44
        same = (made == single) | (made == expected) | (np.isnan(made) & np.isnan(expected))
        # Beyond float32, or the sum of two samples whose variance is beyond float64.
        beyond = ~(scale < 1e38)
    return bool((near | same | beyond).all())
