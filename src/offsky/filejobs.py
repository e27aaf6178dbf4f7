"""Files in, a file out, in bounded memory: `subtract_file` and `average_file`."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from offsky.assemble import assemble
from offsky.checks import check_target, choose_backgrounds, warn_of_gaps
from offsky.combine import count_threads
from offsky.errors import OffskyError, OutputError, ParameterError
from offsky.io.association import read_association
from offsky.io.average_file import set_cards, write_average
from offsky.io.exposures import opened
from offsky.io.fits import FitsExposure
from offsky.io.fits_copy import FitsCopy
from offsky.io.models import is_asdf
from offsky.io.output import atomic_output, check_output
from offsky.io.product import new_header, start_copy
from offsky.names import combined_name, output_name
from offsky.options import Options
from offsky.outcome import Outcome, completed, skipped
from offsky.provenance import (
    Provenance,
    average_metadata,
    input_records,
)
from offsky.stream import Progress
from offsky.suitability import Policy

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]


def subtract_file(
    target_path: StrPath,
    background_paths: Sequence[StrPath],
    output_path: StrPath,
    *,
    sigma: float = 3.0,
    maxiters: int | None = None,
    overwrite: bool = False,
    force: bool = False,
    combined_path: StrPath | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Subtract the average of background files from a target file.

    The files are read by blocks of rows, each byte once; memory does not grow with
    the number of backgrounds. The output is the target's file but for SCI, DQ and a
    few keywords of the primary header; the inputs are not changed.

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
    sigma : float
        Clipping threshold in standard deviations, above zero.
    maxiters : int or None
        Most clipping passes; None repeats until nothing is rejected, 0 clips
        nothing.
    overwrite : bool
        Whether output files may replace existing ones.
    force : bool
        Go on, with a warning, where backgrounds are of another configuration, are
        given twice, or the target has been subtracted before.
    combined_path : path-like or None
        Where to write the average itself; None for nowhere.
    threads : int or None
        Threads to use; None for one a core. The result does not depend on it.
    progress : callable or None
        Called with the number of rows just done and that of all.

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
    options = Options(sigma=sigma, maxiters=maxiters)
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
        from offsky.modeljobs import subtract_model_file

        outcome = subtract_model_file(
            target_file,
            background_files,
            output,
            options=options,
            overwrite=overwrite,
            policy=Policy(force=force),
            combined=combined,
            threads=n_threads,
            progress=progress,
        )
        return replace(outcome, elapsed_s=time.perf_counter() - started)

    with FitsExposure(target_file) as target, opened(background_files) as backgrounds:
        check_target(target)
        choice = choose_backgrounds(
            target, backgrounds, policy=Policy(force=force), options=options
        )
        provenance = Provenance(choice.names, options)
        with atomic_output(output, overwrite=overwrite) as part:
            header = new_header(target, output, provenance if choice.exposures else None)
            if not choice.exposures:
                log.warning("%s: no background to subtract; the output is a copy", target.name)
                with closing(FitsCopy(target, part, header, unchanged=True)) as copy:
                    copy.copy_rest()
                    copy.finish()
                return skipped(
                    target.name, choice.dropped, str(output), time.perf_counter() - started
                )

            with closing(start_copy(target, part, header)) as copy:
                assembled = assemble(
                    choice.exposures,
                    options=options,
                    threads=n_threads,
                    whole=combined is not None,
                    consume=copy.subtract,
                    alongside=[copy.copy_rest],
                    progress=progress,
                )
                provenance = provenance.with_results(assembled)
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
                        header=target.header,
                        metadata=average_metadata(target.metadata, choice.metadata),
                    )
    warn_of_gaps(assembled.n_uncovered, assembled.average.n_err_estimated)
    return completed(
        assembled,
        target=target.name,
        backgrounds=choice.names,
        dropped=choice.dropped,
        output=str(output),
        combined=None if combined is None else str(combined),
        unit=target.metadata.unit or choice.exposures[0].metadata.unit,
        elapsed_s=time.perf_counter() - started,
    )


def subtract_association(
    association_path: StrPath,
    output_directory: StrPath = ".",
    *,
    sigma: float = 3.0,
    maxiters: int | None = None,
    overwrite: bool = False,
    force: bool = False,
    save_combined: bool = False,
    allow_outside: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
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
    sigma, maxiters, overwrite, force, threads, progress
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
    folder = Path(output_directory)
    products = read_association(Path(association_path), allow_outside=allow_outside)
    for product in products:
        try:
            outcome: Outcome | OffskyError = subtract_file(
                product.target,
                product.backgrounds,
                folder / output_name(product.target, root=product.name),
                sigma=sigma,
                maxiters=maxiters,
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
    sigma: float = 3.0,
    maxiters: int | None = None,
    overwrite: bool = False,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Average background files into one that can be a background itself.

    Parameters
    ----------
    background_paths : sequence of path-like
        The exposures to average, at least one.
    output_path : path-like
        The FITS file to write, with SCI, ERR and DQ of shape (ny, nx). A pixel
        without any sample is NaN in SCI and ERR.
    sigma, maxiters, overwrite, force, threads, progress
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
    options = Options(sigma=sigma, maxiters=maxiters)
    n_threads = count_threads(threads)
    output = Path(output_path)
    files = [Path(path) for path in background_paths]
    if not files:
        raise ParameterError("no backgrounds to average; name at least one file")
    if is_asdf(output):
        raise ParameterError(f"{output}: an average is written as FITS; name it .fits")
    check_output(output, inputs=files, overwrite=overwrite)
    with opened(files) as backgrounds:
        choice = choose_backgrounds(None, backgrounds, policy=Policy(force=force), options=options)
        assembled = assemble(
            choice.exposures,
            options=options,
            threads=n_threads,
            whole=True,
            progress=progress,
        )
        first = backgrounds[0]
        with atomic_output(output, overwrite=overwrite) as part:
            write_average(
                part,
                output.name,
                assembled.average,
                Provenance(choice.names, options).with_results(assembled),
                input_records(choice.verdicts, assembled),
                header=first.header if isinstance(first, FitsExposure) else None,
                metadata=average_metadata(first.metadata, choice.metadata),
            )
    warn_of_gaps(assembled.n_uncovered, assembled.average.n_err_estimated)
    return completed(
        assembled,
        target=None,
        backgrounds=choice.names,
        dropped=choice.dropped,
        output=str(output),
        combined=None,
        unit=first.metadata.unit,
        elapsed_s=time.perf_counter() - started,
    )
