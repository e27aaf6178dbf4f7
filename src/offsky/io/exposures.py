"""Open a file as an exposure, whatever its format."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from offsky.exposure import ArrayExposure, Exposure
from offsky.io.fits import FitsExposure
from offsky.io.models import is_asdf, model_exposure, open_model


def open_exposure(path: Path) -> FitsExposure | ArrayExposure:
    """Open a FITS file to be read by rows, an ASDF file as arrays in memory."""
    if not is_asdf(path):
        return FitsExposure(path)
    with open_model(path) as model:
        return model_exposure(model, path.name).in_memory(path.resolve())


@contextmanager
def opened(paths: Sequence[Path]) -> Iterator[list[Exposure]]:
    """Open exposures for the time of a block.

    Parameters
    ----------
    paths : sequence of Path
        The files.

    Yields
    ------
    list of Exposure
        In the order of `paths`.
    """
    exposures: list[Exposure] = []
    try:
        for path in paths:
            exposures.append(open_exposure(path))  # noqa: PERF401 (closed below if one fails)
        yield exposures
    finally:
        for exposure in exposures:
            exposure.close()
