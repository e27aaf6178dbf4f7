"""Subtracted exposures and averages as JWST data models, in memory or in files."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offsky.arrays import Array
from offsky.errors import OutputError
from offsky.io.cards import InputRecord, Provenance
from offsky.io.fits_average import INPUTS_EXTENSION, KEPT_EXTENSION, inputs_table
from offsky.io.imprinted import ImprintedExposure, bare
from offsky.io.models import model_exposure, open_model
from offsky.io.output import Part, writing_told
from offsky.io.writer import SavedAverage, Writer
from offsky.outcome import COMPLETE, SKIPPED
from offsky.subtraction import Subtracted, Subtraction, TargetRows, subtract_rows
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure, Rows
from offsky.values.metadata import MODEL_PATHS, Metadata


class ModelProduct:
    """A subtracted exposure that becomes a data model.

    Parameters
    ----------
    model : JwstDataModel
        The target.
    in_place : bool
        Change this model itself, once all has gone well; else a copy.
    check : callable or None
        Raises ExposureError if the file that it was opened from has changed since.
    """

    def __init__(
        self, model: Any, *, in_place: bool = False, check: Callable[[], None] | None = None
    ) -> None:
        self._model = model
        self._in_place = in_place
        self._check = check

    def check(self, inputs: Sequence[Path]) -> None:
        """Raise nothing: a model in memory is in nobody's way."""

    def held_bytes(self, target: Exposure, how: Subtraction) -> int:
        """Return the memory of its new arrays."""
        return sum(each.nbytes for each in _changing(self._model, how).values())

    def begin(self, target: Exposure, how: Subtraction, provenance: Provenance | None) -> Writer:
        """Begin new arrays, as of `offsky.io.writer.Product`."""
        return _ModelWriter(
            self._model,
            how,
            in_place=self._in_place,
            check=self._check,
            from_rows=isinstance(target, ImprintedExposure),
        )


class _ModelWriter:
    """New arrays of a model, which get into it at the very end."""

    def __init__(
        self,
        model: Any,
        how: Subtraction,
        *,
        in_place: bool,
        check: Callable[[], None] | None = None,
        from_rows: bool = False,
    ) -> None:
        self._from_rows = from_rows
        self._model = model
        self._check = check
        self._how = how
        self._in_place = in_place
        self._before = _changing(model, how)
        self._after: dict[str, Array] = {}
        self._provenance: Provenance | None = None

    def copy_rest(self) -> None:
        """Make room for the new arrays."""
        self._after = {name: np.empty_like(each) for name, each in self._before.items()}

    def subtract(
        self, first: int, last: int, average: ClippedMean, rows: Rows | None
    ) -> Subtracted:
        """Subtract rows [first, last), as of `offsky.io.writer.Writer`."""
        part = (..., slice(first, last), slice(None))
        before = {name: each[part] for name, each in self._before.items()}
        if self._from_rows and rows is not None and rows.dq is not None:
            # Minus an imprint, which the model is not.
            before["SCI"] = rows.sci.astype(before["SCI"].dtype)
            before["DQ"] = rows.dq ^ np.uint32(rows.dq_flip)
        if not self._after:
            self.copy_rest()
        after = {name: each[part] for name, each in self._after.items()}
        return subtract_rows(TargetRows.of(before), average, self._how, out=TargetRows.of(after))

    def finish(self, provenance: Provenance | None) -> None:
        """Keep what the model will record."""
        if self._check is not None:
            self._check()
        self._provenance = provenance

    def publish(self) -> Any:
        """Return the model with its new arrays."""
        result = self._model if self._in_place else self._model.copy()
        if self._provenance is None:
            result.meta.cal_step.bkg_subtract = SKIPPED
            return result
        for name, array in self._after.items():
            result[_MODEL_NAMES.get(name, name.lower())] = array
        record(result, self._provenance)
        result.meta.cal_step.bkg_subtract = COMPLETE
        if self._provenance.had_imprint:
            result.meta.cal_step.imprint = COMPLETE
        return result

    def abandon(self) -> None:
        """Let go of the arrays."""
        self._after = {}


class ModelFileWriter:
    """A subtracted exposure that `stdatamodels` writes to a file.

    Parameters
    ----------
    target : Exposure
        The target, with a ``path`` that is opened as a model once more.
    part : Part
        The file to fill; the ending of its name tells the format.
    how : Subtraction
        What is done to the errors.
    """

    def __init__(self, target: Any, part: Part, how: Subtraction) -> None:
        kind = Path(part.path.name.removesuffix(".gz")).suffix.lower()
        if kind not in (".asdf", ".fits"):
            raise OutputError(
                f"{part.path}: the name does not tell the format; end it in .asdf or .fits"
            )
        self._part = part
        own: Any = bare(target)
        self._model = open_model(own.path)
        from_rows = isinstance(target, ImprintedExposure)
        self._writer = _ModelWriter(self._model, how, in_place=True, from_rows=from_rows)

    @staticmethod
    def held_bytes(target: Exposure) -> int:
        """Return the memory of the model and its new arrays: SCI, ERR, DQ and VAR_*."""
        return 2 * 24 * int(np.prod(target.shape))

    def copy_rest(self) -> None:
        """Make room for the new arrays."""
        self._writer.copy_rest()

    def subtract(
        self, first: int, last: int, average: ClippedMean, rows: Rows | None
    ) -> Subtracted:
        """Subtract rows [first, last), as of `offsky.io.writer.Writer`."""
        return self._writer.subtract(first, last, average, rows)

    def finish(self, provenance: Provenance | None) -> None:
        """Write the file, still under another name."""
        self._writer.finish(provenance)
        save_model(self._writer.publish(), self._part)
        self._part.seal()

    def publish(self) -> Path:
        """Give the file its name."""
        self._model.close()
        return self._part.publish()

    def abandon(self) -> None:
        """Remove the file."""
        self._model.close()
        self._part.abandon()


def save_model(model: Any, part: Part) -> None:
    """Fill a file with a data model.

    `stdatamodels` tells the format by the name, and writes the name into the file: it is
    saved under the final one, in a folder beside.
    """
    with writing_told(part.path):
        part.folder.mkdir()
        try:
            saved = part.folder / part.path.name.removesuffix(".gz")
            model.save(os.fspath(saved))
            part.adopt(saved)
        finally:
            shutil.rmtree(part.folder, ignore_errors=True)


class ModelAverage:
    """An average that becomes a data model.

    Parameters
    ----------
    template : JwstDataModel or None
        The target, for its metadata; not changed.
    """

    def __init__(self, template: Any = None) -> None:
        self._template = template

    def check(self, inputs: Sequence[Path]) -> None:
        """Raise nothing: a model in memory is in nobody's way."""

    def begin(self, saved: SavedAverage) -> "_AverageModel":
        """Make the model."""
        return _AverageModel(average_model(saved, self._template))


class _AverageModel:
    def __init__(self, model: Any) -> None:
        self._model = model

    def publish(self) -> Any:
        """Return the model."""
        return self._model

    def abandon(self) -> None:
        """Close the model."""
        self._model.close()


def average_model(saved: SavedAverage, template: Any) -> Any:
    """Return an average as an exposure in its own right.

    Parameters
    ----------
    saved : SavedAverage
        The average.
    template : JwstDataModel or None
        The target, for its metadata; not changed.

    Returns
    -------
    ImageModel
        ``data``, ``err`` and ``dq``; the number of samples kept and the table of
        inputs in ``extra_fits``.
    """
    from stdatamodels.jwst import datamodels

    average = saved.average
    model = datamodels.ImageModel(average.sci)
    if template is not None:
        model.update(template)
    model.err = average.err
    if average.var_poisson is not None:
        model.var_poisson = average.var_poisson
        model.var_rnoise = average.var_rnoise
    model.dq = average.dq
    for name, path in MODEL_PATHS.items():
        model[f"meta.{path}"] = getattr(saved.metadata, name)
    _describe(model, saved.metadata)
    record(model, saved.provenance)
    extra = model.instance["extra_fits"]
    extra[KEPT_EXTENSION] = {"data": average.n_kept.astype(np.int32)}
    extra[INPUTS_EXTENSION] = {"data": _table(saved.records)}
    return model


def _describe(model: Any, metadata: Metadata) -> None:
    model.meta.bunit_err = metadata.unit
    model.meta.exposure.nints = 1
    model.meta.observation.date = model.meta.observation.time = None


def _table(records: Sequence[InputRecord]) -> np.ndarray:
    return np.asarray(inputs_table(records).data)


def record(model: Any, provenance: Provenance) -> None:
    """Write provenance into a model, as keywords of its primary header."""
    cards = {key: (value, comment) for key, value, comment in provenance.cards()}
    extra = model.instance.setdefault("extra_fits", {}).setdefault("PRIMARY", {})
    kept = [card for card in extra.get("header", []) if card[0] not in cards]
    extra["header"] = [*kept, *([key, value, comment] for key, (value, comment) in cards.items())]
    for line in provenance.history():
        model.add_history_entry(line)


# What the arrays of a model are called, where that is not the extension's name.
_MODEL_NAMES = {"SCI": "data"}


def _changing(model: Any, how: Subtraction) -> dict[str, Array]:
    """Return what a subtraction changes, by the extensions' names."""
    return model_exposure(model, variances=how.changes_errors).images(
        with_errors=how.changes_errors
    )
