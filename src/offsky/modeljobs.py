"""Data models in, a data model out: `subtract` and `average`."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from offsky.assemble import Assembled, assemble
from offsky.checks import Choice, check_target, choose_backgrounds, warn_of_gaps
from offsky.clip import ClippedMean
from offsky.combine import count_threads
from offsky.difference import subtract_rows
from offsky.errors import OutputError, ParameterError
from offsky.exposure import Exposure
from offsky.io.average_file import INPUTS_EXTENSION, KEPT_EXTENSION, inputs_table
from offsky.io.exposures import open_exposure
from offsky.io.models import model_exposure, model_name, open_model
from offsky.io.output import atomic_output
from offsky.metadata import MODEL_PATHS, Metadata
from offsky.options import Options
from offsky.outcome import COMPLETE, SKIPPED, Outcome, completed, skipped
from offsky.provenance import Provenance, average_metadata, input_records
from offsky.stream import Progress
from offsky.suitability import Policy

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]


def subtract(
    target: Any,
    backgrounds: Sequence[Any],
    sigma: float = 3.0,
    maxiters: int | None = None,
    threads: int | None = None,
    force: bool = False,
) -> Any:
    """Subtract the average of background exposures from a target exposure.

    Parameters
    ----------
    target : JwstDataModel or path-like
        The exposure to subtract from, ``data`` of shape (ny, nx) or (nints, ny, nx).
        A model passed in is not changed.
    backgrounds : sequence of JwstDataModel or path-like
        The exposures to average, images and cubes in any mixture; not changed. With
        none, the result is a copy with the status SKIPPED.
    sigma : float
        Clipping threshold in standard deviations, above zero.
    maxiters : int or None
        Most clipping passes; None repeats until nothing is rejected, 0 clips
        nothing.
    threads : int or None
        Threads to use; None for one a core. The result does not depend on it.
    force : bool
        Go on, with a warning, where backgrounds are of another configuration, are
        given twice, or the target has been subtracted before.

    Returns
    -------
    JwstDataModel
        A new model of the target's own type: ``data`` minus the average in every
        plane, ``dq`` OR the average's, ``err`` as it was;
        ``meta.cal_step.bkg_subtract`` COMPLETE. Where no background has a sample
        left, ``data`` stays as it is; the number of such pixels is the keyword
        OFFNUNCV in ``extra_fits``.

    Raises
    ------
    ParameterError
        For parameters out of range.
    ExposureError
        For an input that is missing, damaged or does not fit.
    """
    options = Options(sigma=sigma, maxiters=maxiters)
    with _opened_model(target) as model:
        return subtract_model(
            model,
            backgrounds,
            options=options,
            threads=count_threads(threads),
            policy=Policy(force=force),
        ).model


def average(
    backgrounds: Sequence[Any],
    sigma: float = 3.0,
    maxiters: int | None = None,
    threads: int | None = None,
    force: bool = False,
) -> Any:
    """Average background exposures, rejecting outliers pixel by pixel.

    Parameters
    ----------
    backgrounds : sequence of JwstDataModel or path-like
        At least one; images and cubes in any mixture. Not changed.
    sigma, maxiters, threads, force
        As for `subtract`.

    Returns
    -------
    ImageModel
        ``data``, ``err`` and ``dq`` of shape (ny, nx); ``data`` and ``err`` are NaN
        where no sample was left.

    Raises
    ------
    ParameterError
        For parameters out of range, or an empty list.
    ExposureError
        For an input that is missing, damaged or does not fit.

    Notes
    -----
    See `offsky.clipped_mean` for the formulas. A cube is first averaged along its
    integrations in the same way.
    """
    options = Options(sigma=sigma, maxiters=maxiters)
    if not backgrounds:
        raise ParameterError("no backgrounds to average; give at least one")
    with _opened(backgrounds) as exposures:
        choice = choose_backgrounds(None, exposures, policy=Policy(force=force), options=options)
        assembled = assemble(
            choice.exposures,
            options=options,
            threads=count_threads(threads),
            whole=True,
        )
        warn_of_gaps(assembled.n_uncovered, assembled.average.n_err_estimated)
        provenance = Provenance(choice.names, options)
        first = exposures[0].metadata
        return _new_average(
            None,
            average_metadata(first, choice.metadata),
            assembled,
            provenance.with_results(assembled),
            choice,
        )


def average_model(subtracted: "SubtractedModel", template: Any) -> Any:
    """Return the average that was subtracted as an exposure in its own right.

    Parameters
    ----------
    subtracted : SubtractedModel
        Made with ``whole=True``.
    template : JwstDataModel
        The target, for its metadata; not changed.

    Returns
    -------
    ImageModel
        ``data``, ``err`` and ``dq``; the number of samples kept and the table of
        inputs in ``extra_fits``.
    """
    assert subtracted.assembled is not None
    metadata = model_exposure(template).metadata
    return _new_average(
        template,
        average_metadata(metadata, subtracted.choice.metadata),
        subtracted.assembled,
        subtracted.provenance,
        subtracted.choice,
    )


def subtract_model_file(
    target: Path,
    backgrounds: Sequence[Path],
    output: Path,
    *,
    options: Options,
    overwrite: bool,
    policy: Policy,
    combined: Path | None,
    threads: int,
    progress: Progress | None,
) -> Outcome:
    """Do the work of `subtract_file` where the target or the output is ASDF."""
    if combined is not None:
        raise ParameterError("the average of an ASDF target is not saved; use offsky average")
    kind = Path(output.name.removesuffix(".gz")).suffix.lower()
    if kind not in (".asdf", ".fits"):
        raise OutputError(f"{output}: the format is told by the name; end it in .asdf or .fits")
    with open_model(target) as model, atomic_output(output, overwrite=overwrite) as part:
        subtracted = subtract_model(
            model,
            backgrounds,
            options=options,
            threads=threads,
            policy=policy,
            progress=progress,
        )
        # stdatamodels chooses the format by the name, and writes the name into the
        # file: save under the final one, in a folder beside.
        folder = TemporaryDirectory(dir=output.parent, prefix=".offsky")
        with closing(subtracted.model), folder as name:
            saved = Path(name) / output.name.removesuffix(".gz")
            subtracted.model.save(os.fspath(saved))
            saved.replace(part)
    dropped = subtracted.choice.dropped
    if subtracted.assembled is None:
        return skipped(target.name, dropped, str(output), 0.0)
    return completed(
        subtracted.assembled,
        target=target.name,
        backgrounds=subtracted.choice.names,
        dropped=dropped,
        output=str(output),
        combined=None,
        unit=subtracted.choice.exposures[0].metadata.unit,
        elapsed_s=0.0,
    )


@dataclass(frozen=True, slots=True, eq=False)
class SubtractedModel:
    """A subtracted copy of a data model, and what it was made with.

    Attributes
    ----------
    model : JwstDataModel
        The copy.
    choice : Choice
        The backgrounds and their fate.
    assembled : Assembled or None
        The average; None where nothing was subtracted.
    provenance : Provenance
        What the products record.
    """

    model: Any
    choice: Choice
    assembled: Assembled | None
    provenance: Provenance


def subtract_model(
    target: Any,
    backgrounds: Sequence[Any],
    *,
    options: Options,
    threads: int,
    policy: Policy,
    whole: bool = False,
    in_place: bool = False,
    progress: Progress | None = None,
) -> SubtractedModel:
    """Do the work of `subtract` on an open model.

    Parameters
    ----------
    target, backgrounds, threads
        As for `subtract`.
    options : Options
        How to average.
    policy : Policy
        How strict to be with the backgrounds.
    whole : bool
        Keep ERR and DQ of the average too.
    in_place : bool
        Change the target itself, for whom a copy has been made already.
    progress : callable or None
        Called with the number of rows just done and that of all.

    Returns
    -------
    SubtractedModel
    """
    exposure = model_exposure(target)
    check_target(exposure)
    with _opened(backgrounds) as exposures:
        choice = choose_backgrounds(exposure, exposures, policy=policy, options=options)
        provenance = Provenance(choice.names, options)
        result = target if in_place else target.copy()
        if not choice.exposures:
            log.warning("%s: no background to subtract", exposure.name)
            result.meta.cal_step.bkg_subtract = SKIPPED
            return SubtractedModel(result, choice, None, provenance)
        result.data, result.dq = np.array(result.data), np.array(result.dq)
        sci, dq = result.data, result.dq

        def consume(first: int, last: int, block: ClippedMean) -> None:
            rows = (..., slice(first, last), slice(None))
            subtracted = subtract_rows(sci[rows], dq[rows], 0, block)
            sci[rows], dq[rows] = subtracted.sci, subtracted.dq

        assembled = assemble(
            choice.exposures,
            options=options,
            threads=threads,
            whole=whole,
            consume=consume,
            progress=progress,
        )
    warn_of_gaps(assembled.n_uncovered, assembled.average.n_err_estimated)
    provenance = provenance.with_results(assembled)
    _record(result, provenance)
    result.meta.cal_step.bkg_subtract = COMPLETE
    return SubtractedModel(result, choice, assembled, provenance)


def _new_average(
    template: Any,
    metadata: Metadata,
    assembled: Assembled,
    provenance: Provenance,
    choice: Choice,
) -> Any:
    """Make the model of an average."""
    from stdatamodels.jwst import datamodels

    model = datamodels.ImageModel(assembled.average.sci)
    if template is not None:
        model.update(template)
    model.err = assembled.average.err
    model.dq = assembled.average.dq
    for name, path in MODEL_PATHS.items():
        model[f"meta.{path}"] = getattr(metadata, name)
    model.meta.bunit_err = metadata.unit
    model.meta.exposure.nints = 1
    model.meta.observation.date = model.meta.observation.time = None
    _record(model, provenance)
    extra = model.instance["extra_fits"]
    extra[KEPT_EXTENSION] = {"data": assembled.average.n_kept.astype(np.int32)}
    table = inputs_table(input_records(choice.verdicts, assembled))
    extra[INPUTS_EXTENSION] = {"data": np.asarray(table.data)}
    return model


def _record(model: Any, provenance: Provenance) -> None:
    """Write provenance into a model, as keywords of its primary header."""
    cards = {key: (value, comment) for key, value, comment in provenance.cards()}
    extra = model.instance.setdefault("extra_fits", {}).setdefault("PRIMARY", {})
    kept = [card for card in extra.get("header", []) if card[0] not in cards]
    extra["header"] = [*kept, *([key, value, comment] for key, (value, comment) in cards.items())]
    for line in provenance.history():
        model.add_history_entry(line)


@contextmanager
def _opened_model(target: Any) -> Iterator[Any]:
    """Open a model by its path; leave one passed in open."""
    if not isinstance(target, str | os.PathLike):
        yield target
        return
    with open_model(target) as model:
        yield model


@contextmanager
def _opened(backgrounds: Sequence[Any]) -> Iterator[list[Exposure]]:
    """Open the paths among the backgrounds; look at models as they are."""
    exposures: list[Exposure] = []
    try:
        for background in backgrounds:
            if isinstance(background, str | os.PathLike):
                exposures.append(open_exposure(Path(background)))
            else:
                exposures.append(model_exposure(background, model_name(background)))
        yield exposures
    finally:
        for exposure in exposures:
            exposure.close()
