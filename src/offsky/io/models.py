"""JWST data models as exposures, and files that only `stdatamodels` can read."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from offsky.errors import ExposureError, MissingFileError, ParameterError, reason_of
from offsky.given import plain_numbers
from offsky.io.fits import FitsExposure
from offsky.io.names import is_asdf
from offsky.io.regular import check_regular
from offsky.values.in_memory import ArrayExposure
from offsky.values.metadata import MODEL_PATHS, Metadata, metadata_of

_ARRAYS = ("data", "err", "dq")


def open_model(path: str | os.PathLike[str]) -> Any:
    """Open a file as the data model it says it is.

    Parameters
    ----------
    path : path-like
        ``.fits`` or ``.asdf``.

    Returns
    -------
    JwstDataModel
        To be closed by the caller.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ExposureError
        If it cannot be opened.
    """
    from stdatamodels.jwst import datamodels

    try:
        check_regular(path)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file; check the name") from error
    except (OSError, ValueError) as error:
        raise ExposureError(
            f"{path}: cannot be opened ({reason_of(error)}); "
            "expected an exposure such as _rate.fits"
        ) from error
    if not is_asdf(path):
        # A file cut short is only a warning to astropy, and to the models.
        FitsExposure(path).close()
    model = None
    try:
        model = datamodels.open(os.fspath(path))
        for key in _ARRAYS:
            # Damaged pixels show when they are first looked at.
            np.asarray(model.instance.get(key))
        return model
    except Exception as error:
        # Whatever asdf and the schemas raise for a damaged file.
        if model is not None:
            model.close()
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ExposureError(
            f"{path}: cannot be opened as a JWST data model ({reason}); "
            "expected an exposure such as _rate.fits"
        ) from error


def model_exposure(
    model: Any, name: str | None = None, *, variances: bool = False
) -> ArrayExposure:
    """Look at a data model as an exposure, without changing it.

    Arrays are taken as the model holds them: reading an attribute such as
    ``model.err`` could create a default in the caller's model.

    Parameters
    ----------
    model : JwstDataModel
        With ``data``, and with ``err`` and ``dq`` where it has them.
    name : str or None
        What messages call it; None for its file name.
    variances : bool
        Look for VAR_* too.

    Returns
    -------
    ArrayExposure

    Raises
    ------
    ExposureError
        If it has no image to work on.
    """
    name = name or model_name(model)
    arrays: dict[str, np.ndarray] = {}
    for key in _ARRAYS:
        value = model.instance.get(key)
        if value is not None and (key == "data" or np.size(value)):
            arrays[key] = _numbers(name, key, value)
    sci = arrays.get("data")
    if sci is None or sci.ndim not in (2, 3) or 0 in sci.shape:
        what = "no data" if sci is None else f"data of shape {sci.shape}"
        raise ExposureError(
            f"{name}: {type(model).__name__} with {what}; expected (rows, columns) or "
            "(integrations, rows, columns), such as a rate product"
        )
    for key in ("err", "dq"):
        if key in arrays and arrays[key].shape != sci.shape:
            raise ExposureError(
                f"{name}: {key} has the shape {arrays[key].shape}, data {sci.shape}; "
                "expected the same"
            )
    return ArrayExposure(
        name,
        sci,
        arrays.get("err"),
        arrays.get("dq"),
        _metadata(model),
        id(model),
        _variances(model, sci.shape) if variances else None,
    )


def _variances(model: Any, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return VAR_* of a model by the extensions' names, those that it has in this shape."""
    arrays = {}
    for key in ("var_poisson", "var_rnoise", "var_flat"):
        value = model.instance.get(key)
        if value is not None and np.shape(value) == shape:
            arrays[key.upper()] = _numbers(model_name(model), key, value)
    return arrays


def _numbers(name: str, key: str, value: Any) -> np.ndarray:
    """Return an array of a model; raise ExposureError for one with a mask or a unit."""
    try:
        return plain_numbers(key, value)
    except ParameterError as error:
        raise ExposureError(f"{name}: {error}") from error


def model_name(model: Any) -> str:
    """Return a model's file name, or its type where it has none."""
    return str(_metadata(model).filename or type(model).__name__)


def _metadata(model: Any) -> Metadata:
    """Read what offsky looks at, by the tree: attributes would create empty nodes."""

    def read(name: str) -> Any:
        node: Any = model.instance.get("meta", {})
        for key in MODEL_PATHS[name].split("."):
            node = node.get(key) if isinstance(node, Mapping) else None
        return node

    return metadata_of(read)
