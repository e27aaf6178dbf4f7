"""Open a file as an exposure, whatever its format."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from offsky.io.fits import FitsExposure
from offsky.io.models import is_asdf, model_exposure, open_model
from offsky.values.exposure import Exposure
from offsky.values.in_memory import ArrayExposure


def open_exposure(path: Path, *, variances: bool = False) -> FitsExposure | ArrayExposure:
    """Open a FITS file to be read by rows, an ASDF file as arrays in memory.

    Parameters
    ----------
    path : Path
        The file.
    variances : bool
        Hold VAR_POISSON and VAR_RNOISE too, where arrays are held in memory.
    """
    if not is_asdf(path):
        return FitsExposure(path)
    with open_model(path) as model:
        exposure = model_exposure(model, path.name, variances=variances)
        return exposure.in_memory(path.resolve())


@contextmanager
def opened(paths: Sequence[Path], *, variances: bool = False) -> Iterator[list[Exposure]]:
    """Open exposures for the time of a block.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    variances : bool
        As for `open_exposure`.

    Yields
    ------
    list of Exposure
        In the order of `paths`.
    """
    exposures: list[Exposure] = []
    try:
        for path in paths:
            # One by one: those opened are closed below if the next fails.
            exposures.append(open_exposure(path, variances=variances))  # noqa: PERF401
        yield exposures
    finally:
        for exposure in exposures:
            exposure.close()
