"""Programmes in small: exposures whose headers tell a pattern, and single runs to compare with."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import offsky
from offsky.testing import encoded_pixels, write_exposure

SHAPE = (24, 16)


def expose(
    folder: Path,
    number: int,
    *,
    background: bool = False,
    observation: str = "001",
    nints: int | None = None,
    shape: tuple[int, int] = SHAPE,
    days: float = 0.0,
    arcsec: float = 0.0,
    variances: bool = False,
    **metadata: Any,
) -> Path:
    """Write one exposure of a programme; its pixels tell its number, with noise and outliers."""
    rng = np.random.default_rng(number)
    whole = shape if nints is None else (nints, *shape)
    sci = np.broadcast_to(encoded_pixels(0, None, *shape), whole) + rng.normal(0, 1, whole)
    sci[rng.random(whole) < 0.05] += 500.0
    sci[rng.random(whole) < 0.05] = np.nan
    sci[..., 3, 4] = np.nan
    kind = "rate" if nints is None else "rateints"
    return write_exposure(
        folder / f"jw01234{observation}001_02101_{number:05d}_mirimage_{kind}.fits",
        sci=sci.astype(np.float32),
        err=rng.uniform(0.5, 2, whole).astype(np.float32),
        dq=(rng.random(whole) < 0.1).astype(np.uint32),
        variances=variances,
        metadata={
            "meta.observation.exposure_number": str(number),
            "meta.observation.observation_number": observation,
            "meta.observation.bkgdtarg": background,
            "meta.exposure.start_time": 60000.0 + days,
            "meta.exposure.mid_time": 60000.0 + days,
            "meta.exposure.end_time": 60000.0 + days,
            "meta.wcsinfo.ra_ref": 150.0,
            "meta.wcsinfo.dec_ref": 2.0 + arcsec / 3600,
            **{name.replace("__", "."): value for name, value in metadata.items()},
        },
    )


def content(path: Path) -> bytes:
    """Return a product's bytes, but for the time it was written at and its run.

    The time is in DATE, and in seconds in every gzipped tile of a compressed image.
    """
    dated = re.sub(rb"DATE    = '[^']*'", b"DATE", path.read_bytes(), count=1)
    dated = re.sub(rb"OFFRUN  = '[^']*'", b"OFFRUN", dated, count=1)
    return re.sub(rb"(\x1f\x8b\x08.)....", rb"\1", dated, flags=re.DOTALL)


def assert_same_as_single(output: Path, target: Path, backgrounds: Sequence[Path]) -> None:
    """Fail unless a product is, byte for byte, what `subtract_file` makes alone."""
    alone = output.parent / "alone"
    alone.mkdir(exist_ok=True)
    single = alone / output.name
    offsky.subtract_file(target, backgrounds, single, overwrite=True, threads=1)
    assert content(output) == content(single), output.name


def command(*arguments: object) -> list[str]:
    """Return the command line of offsky in another process."""
    return [sys.executable, "-W", "error::ResourceWarning", "-m", "offsky", *map(str, arguments)]


def offsky_command(*arguments: object, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run offsky in another process."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=120, **how
    )


def leftovers(folder: Path) -> list[str]:
    """Return what a run must not leave behind."""
    return sorted(path.name for path in folder.rglob("*.part*"))
