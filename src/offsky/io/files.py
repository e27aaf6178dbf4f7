"""Open an input as an exposure, whatever it is."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from offsky.errors import ExposureError, MissingFileError, reason_of
from offsky.io.fits import FitsExposure
from offsky.io.models import model_exposure, open_model
from offsky.io.names import is_asdf
from offsky.io.regular import check_regular
from offsky.io.source import check_stamp, stamp_of
from offsky.values.exposure import Exposure


class Reader(Protocol):
    """One kind of input: tells its own, and opens it.

    Attributes
    ----------
    endings : tuple of str
        Of the names of its files, to find exposures in a folder; none for what is no file.
    """

    endings: tuple[str, ...]

    def accepts(self, given: Any) -> bool:
        """Tell whether this input is of its kind."""

    def open(self, given: Any, *, variances: bool) -> Exposure:
        """Open the input.

        Parameters
        ----------
        given : path or data model
            The input.
        variances : bool
            Whether VAR_* are wanted, where arrays are held in memory.

        Raises
        ------
        ExposureError
            If it is missing, damaged, or no exposure.
        """


class _Fits:
    """A FITS file, read by rows."""

    endings: tuple[str, ...] = (".fits", ".fits.gz", ".fits.fz", ".fit", ".fit.gz")

    def accepts(self, given: Any) -> bool:
        return isinstance(given, str | os.PathLike)

    def open(self, given: Any, *, variances: bool) -> Exposure:
        return FitsExposure(given)


class _Asdf:
    """An ASDF file, as arrays in memory."""

    endings: tuple[str, ...] = (".asdf",)

    def accepts(self, given: Any) -> bool:
        return isinstance(given, str | os.PathLike) and is_asdf(given)

    def open(self, given: Any, *, variances: bool) -> Exposure:
        path = Path(given)
        check = unchanged(path)
        with open_model(path) as model:
            exposure = model_exposure(model, path.name, variances=variances)
            return exposure.in_memory(path, path.resolve(), check)


class _Model:
    """A data model in memory, as it is."""

    endings: tuple[str, ...] = ()

    def accepts(self, given: Any) -> bool:
        return hasattr(given, "instance")

    def open(self, given: Any, *, variances: bool) -> Exposure:
        return model_exposure(given, variances=variances)


READERS: list[Reader] = [_Asdf(), _Fits(), _Model()]
"""The kinds of inputs; the first that accepts one opens it."""


def exposure_endings() -> tuple[str, ...]:
    """Return the endings of all files that some reader takes."""
    return tuple(ending for reader in READERS for ending in reader.endings)


def open_exposure(given: Any, *, variances: bool = False) -> Exposure:
    """Open an input as an exposure.

    Parameters
    ----------
    given : path or data model
        FITS is read by rows; ASDF becomes arrays in memory; a model is looked at as it is.
    variances : bool
        Whether VAR_* are wanted, where arrays are held in memory.

    Raises
    ------
    ExposureError
        If it is missing, damaged, or no exposure.
    """
    for reader in READERS:
        if reader.accepts(given):
            return reader.open(given, variances=variances)
    raise ExposureError(
        f"{type(given).__name__}: no kind of exposure; expected a file or a JWST data model"
    )


def unchanged(path: Path) -> Callable[[], None]:
    """Return what raises ExposureError once a file is no longer what it is now."""
    try:
        check_regular(path)
        stamp = stamp_of(path.stat())
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file; check the name") from error
    except (OSError, ValueError) as error:
        raise ExposureError(
            f"{path}: cannot be read ({reason_of(error)}); expected a file"
        ) from error

    return lambda: check_stamp(path, stamp, f"{path}:")
