"""Background subtraction for JWST exposures.

Names are imported when first used: ``import offsky`` costs nothing, and working
on FITS files never imports the JWST data models.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offsky.combine.stack import clipped_mean
    from offsky.errors import (
        AssociationError,
        ExposureError,
        ExposureMismatchError,
        MissingFileError,
        OffskyError,
        OutputError,
        OutputExistsError,
        ParameterError,
        UnknownOptionError,
    )
    from offsky.files import average_file, subtract_association, subtract_file
    from offsky.models import average, subtract
    from offsky.options import PROFILES, Options
    from offsky.outcome import Outcome
    from offsky.values.average import ClippedMean

__all__ = [
    "PROFILES",
    "AssociationError",
    "ClippedMean",
    "ExposureError",
    "ExposureMismatchError",
    "MissingFileError",
    "OffskyError",
    "Options",
    "Outcome",
    "OutputError",
    "OutputExistsError",
    "ParameterError",
    "UnknownOptionError",
    "average",
    "average_file",
    "clipped_mean",
    "subtract",
    "subtract_association",
    "subtract_file",
]

_HOMES = {
    "PROFILES": "options",
    "ClippedMean": "values.average",
    "Options": "options",
    "Outcome": "outcome",
    "average": "models",
    "average_file": "files",
    "clipped_mean": "combine.stack",
    "subtract": "models",
    "subtract_association": "files",
    "subtract_file": "files",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("offsky")
    if name not in __all__:
        raise AttributeError(f"module 'offsky' has no attribute {name!r}")
    return getattr(import_module(f"offsky.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
