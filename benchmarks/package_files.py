"""Try the test files of installed packages as targets, backgrounds and masks.

Each FITS file of astropy, asdf, jwst, stdatamodels, photutils and others that are installed is
used as it is, and once more with its first image as the SCI of an exposure. What offsky makes is
compared with what astropy reads; level-2 associations with what `jwst` loads. A fault is an error
that is no `OffskyError`, a message of several lines, pixels that are not what astropy's arithmetic
gives, or an association that `jwst` alone loads.
"""

import importlib.util
import logging
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

import offsky
from offsky.io.association import read_association

PACKAGES = (
    *("astropy", "stdatamodels", "jwst", "stcal", "photutils", "ccdproc", "drizzlepac"),
    *("asdf", "gwcs", "reproject", "specutils"),
)
ENDINGS = (".fits", ".fits.gz", ".fits.fz", ".fits.bz2", ".fit", ".fits.zip", ".fits.Z")
SKY = 3.0


def files_of(package: str, endings: tuple[str, ...] = ENDINGS) -> list[Path]:
    """Return the FITS files that a package ships, or those of other endings."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return []
    folder = Path(next(iter(found.submodule_search_locations)))
    return sorted(path for path in folder.rglob("*") if path.name.endswith(endings))


def read_image(path: Path) -> tuple[Any, fits.Header] | None:
    """Return the first image of a file with two or three axes, as astropy reads it."""
    try:
        with fits.open(path, memmap=False) as hdus:
            for hdu in hdus:
                if hdu.is_image and hdu.data is not None and hdu.data.ndim in (2, 3):
                    return np.array(hdu.data), hdu.header.copy()
    except Exception:
        return None
    return None


def read_sci(path: Path) -> tuple[Any, Any]:
    """Return SCI and the primary header, as astropy reads them; None for what it cannot."""
    try:
        with fits.open(path, memmap=False) as hdus:
            found = [hdu for hdu in hdus if hdu.name == "SCI"]
            sci = np.array(found[0].data) if len(found) == 1 else None
            return sci, hdus[0].header.copy()
    except Exception:
        return None, None


def write_partner(path: Path, shape: tuple[int, ...], value: float, like: Any = None) -> Path:
    """Write an exposure of one value that is like another one in its header."""
    hdus = [fits.PrimaryHDU()]
    if like is not None:
        for key in ("INSTRUME", "DETECTOR", "FILTER", "PUPIL", "GRATING", "BAND", "CHANNEL"):
            if isinstance(like.get(key), str):
                hdus[0].header[key] = like[key]
    hdus.append(fits.ImageHDU(np.full(shape, value, "f4"), name="SCI"))
    hdus.append(fits.ImageHDU(np.zeros(shape, "u4"), name="DQ"))
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def as_exposure(path: Path, image: Any, header: fits.Header) -> Path | None:
    """Write an image as the SCI of an exposure, with the header that it had."""
    try:
        sci = fits.ImageHDU(image, header, name="SCI")
        flags = fits.ImageHDU(np.zeros(image.shape, "u4"), name="DQ")
        fits.HDUList([fits.PrimaryHDU(), sci, flags]).writeto(
            path, overwrite=True, output_verify="silentfix"
        )
    except Exception:
        return None
    return path


class Trial:
    """Tries files in all their roles, and counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: Counter[str] = Counter()
        self.faults: list[str] = []

    def use(self, name: str, work: Callable[[], str]) -> None:
        """Do one thing with one file."""
        try:
            result = work()
        except offsky.OffskyError as error:
            result = "refused"
            if "\n" in str(error) or not str(error):
                self.faults.append(f"{name}: a message of several lines: {error}")
        except Exception as error:
            result = "fault"
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.faults.append(
                f"{name}: {type(error).__name__}: {error} ({where.filename}:{where.lineno})"
            )
        if result.startswith("wrong"):
            self.faults.append(f"{name}: {result}")
            result = "fault"
        self.results[f"{name.split()[0]}: {result}"] += 1

    def as_target(self, path: Path) -> str:
        """Subtract a constant from a file, and compare with astropy."""
        sci, head = read_sci(path)
        shape = (8, 8) if sci is None or sci.ndim < 2 else sci.shape[-2:]
        partner = write_partner(self.folder / "partner_rate.fits", shape, SKY, head)
        out = self.folder / "out.fits"
        outcome = offsky.subtract_file(path, [partner], out, overwrite=True, force=True)
        after = read_sci(out)[0]
        expected = sci if outcome.status == "SKIPPED" else sci - SKY
        return _compared(after, expected, outcome.status)

    def as_background(self, path: Path) -> str:
        """Subtract a file from a constant, and compare with astropy."""
        sci, head = read_sci(path)
        shape = (8, 8) if sci is None or sci.ndim < 2 else sci.shape[-2:]
        partner = write_partner(self.folder / "partner_rate.fits", shape, 10.0, head)
        out = self.folder / "out.fits"
        outcome = offsky.subtract_file(
            partner, [path], out, overwrite=True, force=True, reject="none"
        )
        after = read_sci(out)[0]
        if sci is None:
            return "wrong: taken, though astropy finds no SCI"
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            level = np.where(np.isfinite(sci), sci, np.nan).astype(float)
            level = np.nanmean(level, axis=0) if level.ndim == 3 else level
            expected = np.where(np.isfinite(level), 10 - level, 10)
        if outcome.status == "SKIPPED":
            expected = np.full(shape, 10.0)
        return _compared(after, expected, outcome.status)

    def as_association(self, path: Path) -> str:
        """Read an association, and compare its members with what `jwst` loads."""
        from jwst.associations import load_asn

        try:
            loaded = load_asn(path.read_text(encoding="utf-8"))
        except Exception:
            loaded = None
        if loaded is None or not str(loaded.get("asn_type", "")).endswith("2"):
            return "no association of level 2"
        try:
            products = read_association(path, allow_outside=True)
        except offsky.AssociationError as error:
            kinds = [[m["exptype"].lower() for m in p["members"]] for p in loaded["products"]]
            if all(kind.count("science") == 1 for kind in kinds):
                return f"wrong: refused, but jwst loads it: {error}"
            raise
        ours = [product.target.name for product in products]
        theirs = [
            Path(member["expname"]).name
            for product in loaded["products"]
            for member in product["members"]
            if member["exptype"].lower() == "science"
        ]
        return "loaded" if ours == theirs else f"wrong: {ours} where jwst has {theirs}"

    def as_mask(self, path: Path) -> str:
        """Use a file as a mask; count what it leaves out, and compare with astropy."""
        found = read_image(path)
        shape = (8, 8) if found is None or found[0].ndim != 2 else found[0].shape
        target = write_partner(self.folder / "t_rate.fits", shape, 10.0)
        background = write_partner(self.folder / "b_rate.fits", shape, SKY)
        out = self.folder / "out.fits"
        outcome = offsky.subtract_file(target, [background], out, overwrite=True, masks=[path])
        return f"taken, {outcome.status}"


def _compared(after: Any, expected: Any, status: str) -> str:
    if expected is None:
        return "wrong: taken, though astropy finds no SCI"
    with np.errstate(all="ignore"):
        # The average is float32.
        close = np.allclose(after, expected, rtol=1e-6, atol=1e-5, equal_nan=True)
    return status if close else "wrong: pixels are not those of astropy"


def main() -> None:
    """Try all files, and print figures and faults."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trial = Trial(folder)
        n_files = n_wrapped = 0
        for package, path in _all_files():
            n_files += 1
            label = f"{package}/{path.name}"
            trial.use(f"target {label}", lambda path=path: trial.as_target(path))
            trial.use(f"background {label}", lambda path=path: trial.as_background(path))
            trial.use(f"mask {label}", lambda path=path: trial.as_mask(path))
            found = read_image(path)
            wrapped = None if found is None else as_exposure(folder / "w_rate.fits", *found)
            if wrapped is not None:
                n_wrapped += 1
                trial.use(f"target {label} as SCI", lambda: trial.as_target(wrapped))  # noqa: B023
                trial.use(f"background {label} as SCI", lambda: trial.as_background(wrapped))  # noqa: B023
        for package in PACKAGES:
            for path in files_of(package, (".json",)):
                label = f"{package}/{path.name}"
                trial.use(f"association {label}", lambda path=path: trial.as_association(path))
    print(f"{n_files} files, {n_wrapped} of them also as the SCI of an exposure")
    for result, n in sorted(trial.results.items()):
        print(f"{n:6d}  {result}")
    print(f"{len(trial.faults)} faults")
    for fault in trial.faults:
        print(f"  {fault}")


def _all_files() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in files_of(package):
            yield package, path


if __name__ == "__main__":
    main()
