"""Data models in, a data model out: `subtract` and `average`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import EllipsisType
from typing import Any, Unpack

import numpy as np

from offsky.choices import FurtherChanges, choose_options
from offsky.combine.blocks import Progress
from offsky.combine.planes import count_threads
from offsky.combine.whole import Assembled, assemble
from offsky.engine.prepare import find_scale, fits_scale, prepare
from offsky.errors import OutputError, ParameterError
from offsky.io.cards import Provenance, average_metadata, input_records
from offsky.io.files import open_exposure
from offsky.io.fits_average import INPUTS_EXTENSION, KEPT_EXTENSION, inputs_table
from offsky.io.mask import apply_masks
from offsky.io.models import error_arrays, model_exposure, model_name, open_model
from offsky.io.output import atomic_output
from offsky.measure.weights import weigh
from offsky.options import Options
from offsky.outcome import COMPLETE, SKIPPED, Outcome, completed, skipped
from offsky.selection.choose import Choice, check_target, choose_backgrounds, warn_of_gaps
from offsky.selection.suitability import Policy
from offsky.subtraction import (
    Subtraction,
    TargetRows,
    TargetScale,
    count_unknown_errors,
    subtract_rows,
)
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure
from offsky.values.metadata import MODEL_PATHS, Metadata

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]


def subtract(
    target: Any,
    backgrounds: Sequence[Any],
    sigma: float | None = None,
    maxiters: int | EllipsisType | None = ...,
    threads: int | None = None,
    force: bool = False,
    *,
    profile: str = "jwst",
    options: Options | None = None,
    masks: Sequence[Any] = (),
    **changes: Unpack[FurtherChanges],
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
        Clipping threshold, above zero; if not given, the profile's.
    maxiters : int or None
        Most clipping passes; None repeats until nothing is rejected, 0 clips
        nothing. If not given (``...``), the profile's.
    threads : int or None
        Threads to use; None for one a core. The result does not depend on it.
    force : bool
        Go on, with a warning, where backgrounds are of another configuration, are
        given twice, or the target has been subtracted before.
    profile : str
        The set of options to begin with: "jwst" or "offsky".
    options : Options or None
        Options to begin with instead.
    masks : sequence of (path-like, array_like or None)
        For each background in turn an image of its (ny, nx), or a FITS file with one,
        not zero where it is to be left out; or None. Empty for no masks.
    **changes
        Options by name, such as ``errors="propagate"``, which win over those: the
        fields of `Options`.

    Returns
    -------
    JwstDataModel
        A new model of the target's own type: ``data`` minus the average in every
        plane, ``dq`` OR the average's, ``err`` as it was (unless options say
        otherwise); ``meta.cal_step.bkg_subtract`` COMPLETE. Where no background has
        a sample left, ``data`` stays as it is, or is NaN; the number of such pixels is the keyword
        OFFNUNCV in ``extra_fits``.

    Raises
    ------
    ParameterError
        For parameters out of range.
    ExposureError
        For an input that is missing, damaged or does not fit.
    """
    chosen = choose_options(profile, options, changes, sigma=sigma, maxiters=maxiters)
    with _opened_model(target) as model:
        return subtract_model(
            model,
            backgrounds,
            options=chosen,
            threads=count_threads(threads),
            policy=Policy(force=force),
            masks=masks,
        ).model


def average(
    backgrounds: Sequence[Any],
    sigma: float | None = None,
    maxiters: int | EllipsisType | None = ...,
    threads: int | None = None,
    force: bool = False,
    *,
    profile: str = "jwst",
    options: Options | None = None,
    masks: Sequence[Any] = (),
    **changes: Unpack[FurtherChanges],
) -> Any:
    """Average background exposures, rejecting outliers pixel by pixel.

    Parameters
    ----------
    backgrounds : sequence of JwstDataModel or path-like
        At least one; images and cubes in any mixture. Not changed.
    sigma, maxiters, threads, force, profile, options, masks, changes
        As for `subtract`.

    Returns
    -------
    ImageModel
        ``data``, ``err`` and ``dq`` of shape (ny, nx); ``data`` and ``err`` are NaN
        where no sample was left. With ``errors="propagate"`` also ``var_poisson`` and
        ``var_rnoise``, where all backgrounds have them.

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
    chosen = choose_options(
        profile, options, changes, sigma=sigma, maxiters=maxiters, subtracts=False
    )
    n_threads = count_threads(threads)
    if not backgrounds:
        raise ParameterError("no backgrounds to average; give at least one")
    with _opened(backgrounds, variances=chosen.errors == "propagate") as exposures:
        choice = choose_backgrounds(
            None, apply_masks(exposures, masks), policy=Policy(force=force), options=chosen
        )
        prepared = prepare(choice.exposures, chosen, threads=n_threads)
        assembled = assemble(
            prepared,
            options=chosen,
            threads=n_threads,
            whole=True,
            weights=weigh(prepared, chosen, n_threads),
        )
        warn_of_gaps(assembled, chosen, target=False)
        provenance = Provenance(choice.names, chosen, run=choice.run)
        first = exposures[0].metadata
        return _new_average(
            None,
            average_metadata(first, choice.metadata),
            assembled,
            provenance.with_results(assembled),
            choice,
        )


def average_model(subtracted: SubtractedModel, template: Any) -> Any:
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
    masks: Sequence[StrPath | None] = (),
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
            masks=masks,
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
        return skipped(target.name, dropped, str(output), 0.0, options)
    return completed(
        subtracted.assembled,
        target=target.name,
        backgrounds=subtracted.choice.names,
        dropped=dropped,
        output=str(output),
        combined=None,
        unit=subtracted.choice.exposures[0].metadata.unit,
        elapsed_s=0.0,
        options=options,
        n_err_unknown=subtracted.n_err_unknown,
        scale=subtracted.scale,
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
    n_err_unknown : int
        Pixels whose average has no known error, where errors are propagated.
    scale : TargetScale
        The factor on the average.
    """

    model: Any
    choice: Choice
    assembled: Assembled | None
    provenance: Provenance
    n_err_unknown: int = 0
    scale: TargetScale = TargetScale(1.0)  # noqa: RUF009 (frozen)


def subtract_model(
    target: Any,
    backgrounds: Sequence[Any],
    *,
    options: Options,
    threads: int,
    policy: Policy,
    whole: bool = False,
    in_place: bool = False,
    masks: Sequence[Any] = (),
    progress: Progress | None = None,
) -> SubtractedModel:
    """Do the work of `subtract` on an open model.

    Parameters
    ----------
    target, backgrounds, threads
        As for `subtract`.
    options : Options
        How to average and subtract.
    policy : Policy
        How strict to be with the backgrounds.
    whole : bool
        Keep the whole average, to be saved.
    in_place : bool
        Change the target itself, for whom a copy has been made already.
    masks : sequence
        As for `subtract`.
    progress : callable or None
        Called with the number of rows just done and that of all.

    Returns
    -------
    SubtractedModel
    """
    how = Subtraction.of(options)
    exposure = model_exposure(target, variances=how.propagate)
    check_target(exposure)
    with _opened(backgrounds, variances=how.propagate) as exposures:
        choice = choose_backgrounds(
            exposure, apply_masks(exposures, masks), policy=policy, options=options
        )
        provenance = Provenance(choice.names, options, run=choice.run)
        result = target if in_place else target.copy()
        if not choice.exposures:
            log.warning("%s: no background to subtract", exposure.name)
            result.meta.cal_step.bkg_subtract = SKIPPED
            return SubtractedModel(result, choice, None, provenance)
        images = _own_images(result, with_errors=how.changes_errors)
        n_unknown: list[int] = []

        def consume(first: int, last: int, block: ClippedMean) -> None:
            rows = (..., slice(first, last), slice(None))
            before = TargetRows.of({name: image[rows] for name, image in images.items()})
            after = subtract_rows(before, block, how)
            for name, image in images.items():
                image[rows] = after.image(name)
            if how.propagate:
                n_unknown.append(count_unknown_errors(block))

        prepared = prepare(choice.exposures, options, threads=threads)
        assembled = assemble(
            prepared,
            options=options,
            threads=threads,
            whole=whole or fits_scale(options),
            weights=weigh(prepared, options, threads),
            consume=None if fits_scale(options) else consume,
            progress=progress,
        )
        scale = find_scale(exposure, assembled.average, options)
        if fits_scale(options):
            how = replace(how, scale=scale.factor)
            consume(0, exposure.shape[-2], assembled.average)
    warn_of_gaps(assembled, options, sum(n_unknown))
    provenance = provenance.with_results(assembled, scale)
    _record(result, provenance)
    result.meta.cal_step.bkg_subtract = COMPLETE
    return SubtractedModel(result, choice, assembled, provenance, sum(n_unknown), scale)


def _own_images(model: Any, *, with_errors: bool) -> dict[str, np.ndarray]:
    """Give a model arrays that may be written to; return what is subtracted from, by name."""
    model.data, model.dq = np.array(model.data), np.array(model.dq)
    images = {"sci": model.data, "dq": model.dq}
    for name in error_arrays(model, model.data.shape) if with_errors else ():
        model[name] = np.array(model[name])
        images[name] = model[name]
    return images


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
    if assembled.average.var_poisson is not None:
        model.var_poisson = assembled.average.var_poisson
        model.var_rnoise = assembled.average.var_rnoise
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
def _opened(backgrounds: Sequence[Any], *, variances: bool) -> Iterator[list[Exposure]]:
    """Open the paths among the backgrounds; look at models as they are."""
    exposures: list[Exposure] = []
    try:
        for background in backgrounds:
            if isinstance(background, str | os.PathLike):
                exposures.append(open_exposure(Path(background), variances=variances))
            else:
                name = model_name(background)
                exposures.append(model_exposure(background, name, variances=variances))
        yield exposures
    finally:
        for exposure in exposures:
            exposure.close()
