"""Names of products, as the JWST pipeline gives them."""

from pathlib import Path

from offsky.exposure import Exposure
from offsky.io.exposures import open_exposure

# Suffixes of the products that are inputs here; the last one is replaced.
_SUFFIXES = ("rate", "rateints", "cal", "calints", "bsub", "bsubints")
_ENDINGS = (".fits.gz", ".fits.fz", ".fits", ".asdf")


def product_root(path: Path) -> str:
    """Return a file's name without its ending and product suffix.

    Examples
    --------
    >>> product_root(Path("jw01_00001_mirimage_rate.fits"))
    'jw01_00001_mirimage'
    """
    name = path.name
    for ending in _ENDINGS:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    root, _, suffix = name.rpartition("_")
    return root if root and suffix in _SUFFIXES else name


def output_name(target: Path) -> Path:
    """Return the default output of a target, in the current directory."""
    exposure: Exposure = open_exposure(target)
    try:
        suffix = "bsubints" if len(exposure.shape) == 3 else "bsub"
    finally:
        exposure.close()
    ending = ".asdf" if target.suffix.lower() == ".asdf" else ".fits"
    return Path(f"{product_root(target)}_{suffix}{ending}")


def combined_name(target: Path, output: Path) -> Path:
    """Return the name of the average that goes with a target, beside its output."""
    return output.with_name(f"{product_root(target)}_combinedbackground.fits")
