"""Files in, files out: `subtract_file`, `subtract_association` and `average_file`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack

from offsky.arguments import check_callable
from offsky.choices import Changes, choose_options
from offsky.combine.planes import count_threads
from offsky.engine.make import make
from offsky.engine.order import Limits, Order, Progress, Result
from offsky.errors import OffskyError, OutputError, ParameterError
from offsky.io.average_product import FileAverage
from offsky.io.mask_choice import masks_for, masks_of_products
from offsky.io.names import (
    as_file,
    as_path,
    as_paths,
    combined_name,
    is_asdf,
    is_same_place,
    product_root,
)
from offsky.io.product import FileProduct, named_by_shape
from offsky.options import Options
from offsky.outcome import Outcome, gaps
from offsky.reporting.wanted import observers_of
from offsky.selection.suitability import Policy
from offsky.sizes import as_bytes

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]


def subtract_file(
    target_path: StrPath,
    background_paths: Sequence[StrPath],
    output_path: StrPath | None = None,
    *,
    profile: str = "jwst",
    options: Options | None = None,
    overwrite: bool = False,
    force: bool = False,
    combined_path: StrPath | None = None,
    masks: Sequence[Any] | Mapping[str, Any] = (),
    mask_dir: StrPath | None = None,
    report: StrPath | bool = False,
    imprints: Sequence[StrPath] = (),
    memory: int | str | None = None,
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
    output_path : path-like or None
        The file to write; it appears whole or not at all, and never replaces an
        input. None for the target's name with ``_bsub`` (cubes: ``_bsubints``) in the current
        directory.
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
        Where to write the average itself, as ASDF where the name ends in ``.asdf``, else as
        FITS; None for nowhere.
    masks : sequence or dict
        Masks of backgrounds: one for each background in turn, or by the backgrounds' names.
        A mask is a FITS image or an array of the background's (ny, nx), not zero where
        samples are left out; None is no mask.
    mask_dir : path-like or None
        A folder in which the mask of ``<root>_rate.fits`` is ``<root>_mask.fits``.
    report : path-like or bool
        Where to write a page that shows the product and judges it: ``.html``, a folder, or True
        for beside the output. See docs/report.md.
    imprints : sequence of path-like
        NIRSpec imprints (leakcals), to be subtracted from the target and from each
        background first: a single one from all; of several the one that fits the exposure
        by BKGDTARG, OBSERVTN and PATT_NUM, as the JWST pipeline chooses.
    memory : int, str or None
        Most memory of the process, in bytes or as "250M" (M is 2**20); None for no limit.
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
        The backgrounds used, the samples rejected and the files written.

    Raises
    ------
    ParameterError
        For parameters out of range, or a memory limit that does not suffice.
    ExposureError
        For an input that is missing, damaged or does not fit.
    OutputError
        For an output that may not or cannot be written.
    """
    started = time.perf_counter()
    check_callable("progress", progress)
    chosen = choose_options(profile, options, changes)
    target = as_path(target_path, "target_path")
    backgrounds = as_paths(background_paths, "background_paths")
    output = None if output_path is None else as_file(output_path, "output_path")
    combined = None if combined_path is None else as_file(combined_path, "combined_path")
    if combined is not None and output is not None and is_same_place(combined, output):
        raise OutputError(
            f"{output}: is named for the result and for the average; choose another name for one"
        )
    name_of = named_by_shape(Path(), product_root(target), target)
    order = Order(
        target=target,
        backgrounds=tuple(backgrounds),
        product=FileProduct(output, overwrite=overwrite, name_of=name_of),
        combined=None if combined is None else FileAverage(combined, overwrite=overwrite),
        masks=masks_for(backgrounds, masks, mask_dir),
        imprint_choice=tuple(as_paths(imprints, "imprints")),
        policy=Policy(force=force),
        observers=observers_of(report, output, overwrite=overwrite),
    )
    return _made(order, chosen, _limits(threads, memory), progress, started)


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
    masks: Mapping[str, Any] | None = None,
    mask_dir: StrPath | None = None,
    report: StrPath | bool = False,
    imprints: Literal["use", "ignore"] = "use",
    memory: int | str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    **changes: Unpack[Changes],
) -> Iterator[Outcome | OffskyError]:
    """Subtract backgrounds for every product of a level-2 association.

    An average that products share is made once; products of the same exposures read
    them together.

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
    masks : dict or None
        Masks by the names of their backgrounds.
    report : path-like or bool
        A folder for a page on each product and an index of them; True for beside the outputs.
    imprints : str
        "use" to subtract imprint members from the target and from each background first, as
        the JWST pipeline does; "ignore" for exposures as they are.
    profile, options, overwrite, force, mask_dir, memory, threads, progress, changes
        As for `subtract_file`.

    Yields
    ------
    Outcome or OffskyError
        For each product in turn its outcome, or what stopped it: a missing or broken member
        stops the products that need it and no other.

    Raises
    ------
    AssociationError, MissingFileError
        If the association cannot be followed.
    """
    from offsky.io.association import read_association
    from offsky.selection.imprints import uses_imprints

    check_callable("progress", progress)
    chosen = choose_options(profile, options, changes)
    limits = _limits(threads, memory)
    folder = as_path(output_directory, "output_directory")
    association = as_path(association_path, "association_path")
    products = read_association(association, allow_outside=allow_outside)
    of_products = masks_of_products(
        [each.backgrounds for each in products], {} if masks is None else masks, mask_dir
    )
    orders = []
    for product, own_masks in zip(products, of_products, strict=True):
        saved = folder / combined_name(product.name, asdf=is_asdf(product.target))
        name_of = named_by_shape(folder, product.name, product.target)
        orders.append(
            Order(
                name=product.name,
                target=product.target,
                backgrounds=tuple(product.backgrounds),
                product=FileProduct(None, overwrite=overwrite, name_of=name_of),
                combined=FileAverage(saved, overwrite=overwrite) if save_combined else None,
                masks=own_masks,
                imprint_choice=product.imprints if uses_imprints(imprints) else (),
                policy=Policy(force=force),
                observers=observers_of(report, overwrite=overwrite, thumbnails=True),
            )
        )
    made = _in_turn(orders, chosen, limits, progress)
    if report is False:
        return made
    return _indexed(made, orders, folder if report is True else as_path(report, "report"))


def _in_turn(
    orders: Sequence[Order], options: Options, limits: Limits, progress: Progress | None
) -> Iterator[Outcome | OffskyError]:
    """Yield the outcome of each order in turn, whatever is finished first."""
    waiting = {id(order): i for i, order in enumerate(orders)}
    done: dict[int, Result] = {}
    following = 0
    for result in make(orders, options=options, limits=limits, progress=progress):
        done[waiting[id(result.order)]] = result
        while following in done:
            yield _answer(done.pop(following))
            following += 1


def _indexed(
    made: Iterator[Outcome | OffskyError], orders: Sequence[Order], folder: Path
) -> Iterator[Outcome | OffskyError]:
    """Pass outcomes on; then write the index of their pages."""
    from offsky.reporting.indexing import failed_entry, write_index

    entries = []
    for order, each in zip(orders, made, strict=True):
        entry = getattr(order.observers[0], "entry", None)
        if entry is None:
            entry = failed_entry(order.name, str(each))
        entries.append(entry)
        yield each
    write_index(folder, entries)


def _answer(result: Result) -> Outcome | OffskyError:
    """Return the outcome of a product, or the error that stopped it with its name."""
    error = result.error
    if error is None:
        return _warned(result.succeeded())
    if not isinstance(error, OffskyError):
        raise error
    if result.order.name and result.order.name not in str(error):
        return type(error)(f"{result.order.name}: {error}")
    return error


def average_file(
    background_paths: Sequence[StrPath],
    output_path: StrPath,
    *,
    profile: str = "jwst",
    options: Options | None = None,
    overwrite: bool = False,
    force: bool = False,
    masks: Sequence[Any] | Mapping[str, Any] = (),
    mask_dir: StrPath | None = None,
    imprints: Sequence[StrPath] = (),
    memory: int | str | None = None,
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
        The file to write, ASDF where its name ends in ``.asdf``, else FITS, with SCI, ERR and
        DQ of shape (ny, nx). A pixel without any sample is NaN in SCI and ERR.
    profile, options, overwrite, force, masks, mask_dir, imprints, memory, threads
        As for `subtract_file`.
    progress, changes
        As for `subtract_file`.

    Returns
    -------
    Outcome
        The backgrounds used, the samples rejected and the file written.

    Raises
    ------
    ParameterError, ExposureError, OutputError
        As for `subtract_file`.
    """
    started = time.perf_counter()
    check_callable("progress", progress)
    chosen = choose_options(profile, options, changes, subtracts=False)
    backgrounds = as_paths(background_paths, "background_paths")
    if not backgrounds:
        raise ParameterError("no backgrounds to average; name at least one file")
    order = Order(
        backgrounds=tuple(backgrounds),
        combined=FileAverage(as_file(output_path, "output_path"), overwrite=overwrite),
        masks=masks_for(backgrounds, masks, mask_dir),
        imprint_choice=tuple(as_paths(imprints, "imprints")),
        policy=Policy(force=force),
    )
    return _made(order, chosen, _limits(threads, memory), progress, started)


def _limits(threads: int | None, memory: int | str | None) -> Limits:
    return Limits(count_threads(threads), None if memory is None else as_bytes(memory))


def _made(
    order: Order, options: Options, limits: Limits, progress: Progress | None, started: float
) -> Outcome:
    """Make one order; raise what stopped it."""
    (result,) = make([order], options=options, limits=limits, progress=progress)
    return _warned(replace(result.succeeded(), elapsed_s=time.perf_counter() - started))


def _warned(outcome: Outcome) -> Outcome:
    for warning in gaps(outcome):
        log.warning("%s", warning)
    return outcome
