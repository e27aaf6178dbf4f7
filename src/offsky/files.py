"""Files in, a file out, in bounded memory: `subtract_file` and `average_file`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from offsky.choices import Changes, choose_options
from offsky.combine.blocks import Progress
from offsky.combine.planes import count_threads
from offsky.combine.whole import assemble
from offsky.engine.prepare import find_scale, fits_scale, prepare
from offsky.errors import OffskyError, OutputError, ParameterError
from offsky.io.cards import Provenance, average_metadata, input_records
from offsky.io.files import opened
from offsky.io.fits import FitsExposure
from offsky.io.fits_average import set_cards, write_average
from offsky.io.fits_copy import FitsCopy
from offsky.io.mask import apply_masks
from offsky.io.models import is_asdf
from offsky.io.names import combined_name, output_name
from offsky.io.output import atomic_output, check_output
from offsky.io.product import new_header, start_copy, subtract_whole
from offsky.measure.weights import weigh
from offsky.options import Options
from offsky.outcome import Outcome, completed, skipped
from offsky.selection.choose import check_target, choose_backgrounds, warn_of_gaps
from offsky.selection.suitability import Policy
from offsky.subtraction import Subtraction

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]


def subtract_file(
    target_path: StrPath,
    background_paths: Sequence[StrPath],
    output_path: StrPath,
    *,
    profile: str = "jwst",
    options: Options | None = None,
    overwrite: bool = False,
    force: bool = False,
    combined_path: StrPath | None = None,
    masks: Sequence[StrPath | None] = (),
    threads: int | None = None,
    progress: Progress | None = None,
    **changes: Unpack[Changes],
) -> Outcome:
    """Subtract the average of background files from a target file.

    The files are read by blocks of rows, each byte once; memory does not grow with
    the number of backgrounds. The output is the target's file but for SCI, DQ and a
    few keywords of the primary header (and ERR and VAR_*, where options say so); the
    inputs are not changed.

    Parameters
    ----------
    target_path : path-like
        The exposure to subtract from: FITS (also gzipped or tile-compressed) or
        ASDF, with SCI and DQ of shape (ny, nx) or (nints, ny, nx).
    background_paths : sequence of path-like
        The exposures to average. With none, the output is a copy with the status
        SKIPPED.
    output_path : path-like
        The file to write; it appears whole or not at all, and never replaces an
        input.
    profile : str
        The set of options to begin with: "jwst" or "offsky".
    options : Options or None
        Options to begin with instead.
    overwrite : bool
        Whether output files may replace existing ones.
    force : bool
        Go on, with a warning, where backgrounds are of another configuration, are
        given twice, or the target has been subtracted before.
    combined_path : path-like or None
        Where to write the average itself; None for nowhere.
    masks : sequence of (path-like or None)
        For each background in turn a FITS image of its shape, not zero where it is to
        be left out, or None. Empty for no masks.
    threads : int or None
        Threads to use; None for one a core. The result does not depend on it.
    progress : callable or None
        Called with the number of rows just done and that of all.
    **changes
        Options by name, such as ``sigma=2.5`` or ``errors="propagate"``, which win over
        those: the fields of `Options`.

    Returns
    -------
    Outcome
        What was used, rejected and written.

    Raises
    ------
    ParameterError
        For parameters out of range.
    ExposureError
        For an input that is missing, damaged or does not fit.
    OutputError
        For an output that may not or cannot be written.
    """
    started = time.perf_counter()
    chosen = choose_options(profile, options, changes)
    n_threads = count_threads(threads)
    target_file, output = Path(target_path), Path(output_path)
    background_files = [Path(path) for path in background_paths]
    combined = None if combined_path is None else Path(combined_path)
    for path in (output, combined):
        if path is not None:
            check_output(path, inputs=[target_file, *background_files], overwrite=overwrite)
    if combined is not None and combined.resolve() == output.resolve():
        raise OutputError(
            f"{output}: is named for the result and for the average; choose another name for one"
        )

    if is_asdf(target_file) or is_asdf(output):
        from offsky.models import subtract_model_file

        outcome = subtract_model_file(
            target_file,
            background_files,
            output,
            options=chosen,
            overwrite=overwrite,
            policy=Policy(force=force),
            combined=combined,
            masks=masks,
            threads=n_threads,
            progress=progress,
        )
        return replace(outcome, elapsed_s=time.perf_counter() - started)

    propagate = chosen.errors == "propagate"
    with (
        FitsExposure(target_file) as target,
        opened(background_files, variances=propagate) as backgrounds,
    ):
        check_target(target)
        choice = choose_backgrounds(
            target, apply_masks(backgrounds, masks), policy=Policy(force=force), options=chosen
        )
        provenance = Provenance(choice.names, chosen, run=choice.run)
        with atomic_output(output, overwrite=overwrite) as part:
            header = new_header(target, output, provenance if choice.exposures else None)
            if not choice.exposures:
                log.warning("%s: no background to subtract; the output is a copy", target.name)
                with closing(FitsCopy(target, part, header, None)) as unchanged:
                    unchanged.copy_rest()
                    unchanged.finish()
                elapsed = time.perf_counter() - started
                return skipped(target.name, choice.dropped, str(output), elapsed, chosen)

            exposures = prepare(choice.exposures, chosen, threads=n_threads)
            with closing(start_copy(target, part, header, Subtraction.of(chosen))) as copy:
                assembled = assemble(
                    exposures,
                    options=chosen,
                    threads=n_threads,
                    whole=combined is not None or fits_scale(chosen),
                    weights=weigh(exposures, chosen, n_threads),
                    consume=None if fits_scale(chosen) else copy.subtract,
                    alongside=[copy.copy_rest],
                    progress=progress,
                )
                scale = find_scale(target, assembled.average, chosen)
                if fits_scale(chosen):
                    copy.scale = scale.factor
                    subtract_whole(copy, target.shape[-2], assembled.average)
                provenance = provenance.with_results(assembled, scale)
                set_cards(header, provenance)
                copy.finish()
            if combined is not None:
                with atomic_output(combined, overwrite=overwrite) as combined_part:
                    write_average(
                        combined_part,
                        combined.name,
                        assembled.average,
                        provenance,
                        input_records(choice.verdicts, assembled),
                        like=target,
                        metadata=average_metadata(target.metadata, choice.metadata),
                    )
    warn_of_gaps(assembled, chosen, copy.n_err_unknown)
    return completed(
        assembled,
        target=target.name,
        backgrounds=choice.names,
        dropped=choice.dropped,
        output=str(output),
        combined=None if combined is None else str(combined),
        unit=target.metadata.unit or choice.exposures[0].metadata.unit,
        elapsed_s=time.perf_counter() - started,
        options=chosen,
        n_err_unknown=copy.n_err_unknown,
        scale=scale,
    )


def subtract_association(
    association_path: StrPath,
    output_directory: StrPath = ".",
    *,
    profile: str = "jwst",
    options: Options | None = None,
    overwrite: bool = False,
    force: bool = False,
    save_combined: bool = False,
    allow_outside: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    **changes: Unpack[Changes],
) -> Iterator[Outcome | OffskyError]:
    """Subtract backgrounds for every product of a level-2 association.

    Parameters
    ----------
    association_path : path-like
        The association (JSON). Members are relative to its folder.
    output_directory : path-like
        Where to write ``<product name>_bsub.fits`` (cubes: ``_bsubints``).
    save_combined : bool
        Also write each average, as ``<product name>_combinedbackground.fits``.
    allow_outside : bool
        Whether members may lie outside the association's folder.
    profile, options, overwrite, force, threads, progress, changes
        As for `subtract_file`.

    Yields
    ------
    Outcome or OffskyError
        For each product in turn what came of it. The association itself and the names
        of the outputs are checked before the first is begun.

    Raises
    ------
    AssociationError, MissingFileError
        If the association cannot be followed.
    """
    from offsky.io.association import read_association

    chosen = choose_options(profile, options, changes)
    folder = Path(output_directory)
    products = read_association(Path(association_path), allow_outside=allow_outside)
    for product in products:
        try:
            outcome: Outcome | OffskyError = subtract_file(
                product.target,
                product.backgrounds,
                folder / output_name(product.target, root=product.name),
                options=chosen,
                overwrite=overwrite,
                force=force,
                combined_path=folder / combined_name(product.name) if save_combined else None,
                threads=threads,
                progress=progress,
            )
        except OffskyError as error:
            outcome = error
        yield outcome


def average_file(
    background_paths: Sequence[StrPath],
    output_path: StrPath,
    *,
    profile: str = "jwst",
    options: Options | None = None,
    overwrite: bool = False,
    force: bool = False,
    masks: Sequence[StrPath | None] = (),
    threads: int | None = None,
    progress: Progress | None = None,
    **changes: Unpack[Changes],
) -> Outcome:
    """Average background files into one that can be a background itself.

    Parameters
    ----------
    background_paths : sequence of path-like
        The exposures to average, at least one.
    output_path : path-like
        The FITS file to write, with SCI, ERR and DQ of shape (ny, nx). A pixel
        without any sample is NaN in SCI and ERR.
    profile, options, overwrite, force, masks, threads, progress, changes
        As for `subtract_file`.

    Returns
    -------
    Outcome
        What was used, rejected and written.

    Raises
    ------
    ParameterError, ExposureError, OutputError
        As for `subtract_file`.
    """
    started = time.perf_counter()
    chosen = choose_options(profile, options, changes, subtracts=False)
    n_threads = count_threads(threads)
    output = Path(output_path)
    files = [Path(path) for path in background_paths]
    if not files:
        raise ParameterError("no backgrounds to average; name at least one file")
    if is_asdf(output):
        raise ParameterError(f"{output}: an average is written as FITS; name it .fits")
    check_output(output, inputs=files, overwrite=overwrite)
    with opened(files, variances=chosen.errors == "propagate") as backgrounds:
        choice = choose_backgrounds(
            None, apply_masks(backgrounds, masks), policy=Policy(force=force), options=chosen
        )
        exposures = prepare(choice.exposures, chosen, threads=n_threads)
        assembled = assemble(
            exposures,
            options=chosen,
            threads=n_threads,
            whole=True,
            weights=weigh(exposures, chosen, n_threads),
            progress=progress,
        )
        first = backgrounds[0]
        with atomic_output(output, overwrite=overwrite) as part:
            write_average(
                part,
                output.name,
                assembled.average,
                Provenance(choice.names, chosen, run=choice.run).with_results(assembled),
                input_records(choice.verdicts, assembled),
                like=first if isinstance(first, FitsExposure) else None,
                metadata=average_metadata(first.metadata, choice.metadata),
            )
    warn_of_gaps(assembled, chosen, target=False)
    return completed(
        assembled,
        target=None,
        backgrounds=choice.names,
        dropped=choice.dropped,
        output=str(output),
        combined=None,
        unit=first.metadata.unit,
        elapsed_s=time.perf_counter() - started,
        options=chosen,
    )
