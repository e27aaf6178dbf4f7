"""Data models in, a data model out: `subtract` and `average`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import EllipsisType
from typing import Any, Unpack

from offsky.arguments import check_callable, list_of
from offsky.choices import FurtherChanges, choose_options
from offsky.combine.planes import count_threads
from offsky.engine.make import make
from offsky.engine.order import Limits, Order, Progress, Result
from offsky.errors import ParameterError
from offsky.io.average_product import FileAverage
from offsky.io.files import unchanged
from offsky.io.mask_choice import masks_for
from offsky.io.model_product import ModelAverage, ModelProduct
from offsky.io.models import open_model
from offsky.io.names import as_file
from offsky.options import Options
from offsky.outcome import Outcome, gaps
from offsky.reporting.wanted import observers_of
from offsky.selection.suitability import Policy
from offsky.sizes import as_bytes

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
    masks: Sequence[Any] | Mapping[str, Any] = (),
    mask_dir: StrPath | None = None,
    imprints: Sequence[Any] = (),
    combined_path: StrPath | None = None,
    report: StrPath | bool = False,
    overwrite: bool = False,
    memory: int | str | None = None,
    progress: Progress | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
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
    masks : sequence or dict
        Masks of backgrounds: one for each background in turn, or by the backgrounds' names.
        A mask is a FITS image or an array of the background's (ny, nx), not zero where
        samples are left out; None is no mask.
    mask_dir : path-like or None
        A folder in which the mask of ``<root>_rate.fits`` is ``<root>_mask.fits``.
    imprints : sequence of JwstDataModel or path-like
        NIRSpec imprints (leakcals), to be subtracted from the target and from each
        background first: a single one from all; of several the one that fits the exposure
        by BKGDTARG, OBSERVTN and PATT_NUM, as the JWST pipeline chooses. Not changed.
    combined_path : path-like or None
        Where to write the average itself, as ASDF where the name ends in ``.asdf``, else as
        FITS; None for nowhere.
    report : path-like or bool
        Where to write a page that shows the result: a name (``.html``), a folder, or True for
        the current directory. Where nothing was subtracted there is none. See docs/report.md.
    overwrite : bool
        Whether the average, or the page, may replace an existing file that is no report.
    memory : int, str or None
        Most memory of the process beside the models, in bytes or as "250M" (M is 2**20);
        None for no limit.
    progress : callable or None
        Called with the number of rows just done and that of all.
    on_outcome : callable or None
        Called with the `Outcome`: the backgrounds used, the samples rejected, and so on.
    **changes
        Options by name, such as ``errors="propagate"``, which win over those: the
        fields of `Options`.

    Returns
    -------
    JwstDataModel
        A new model of the target's own type: ``data`` minus the average in every
        plane, ``dq`` OR the average's, ``err`` as it was (unless options say
        otherwise); ``meta.cal_step.bkg_subtract`` COMPLETE. Where no background has
        a sample left, ``data`` stays as it is, or is NaN; the number of such pixels is the
        keyword OFFNUNCV in ``extra_fits``.

    Raises
    ------
    ParameterError
        For parameters out of range, or a memory limit that does not suffice.
    ExposureError
        For an input that is missing, damaged or does not fit.
    OutputError
        For an average that cannot be written.
    """
    members = list_of("backgrounds", backgrounds)
    check_callable("progress", progress)
    check_callable("on_outcome", on_outcome)
    chosen = choose_options(profile, options, changes, sigma=sigma, maxiters=maxiters)
    with _opened_model(target) as (model, check):
        combined = None
        if combined_path is not None:
            combined = FileAverage(as_file(combined_path, "combined_path"), overwrite=overwrite)
        order = Order(
            target=model,
            backgrounds=tuple(members),
            product=ModelProduct(model, check=check),
            combined=combined,
            masks=masks_for(members, masks, mask_dir),
            imprint_choice=tuple(list_of("imprints", imprints)),
            policy=Policy(force=force),
            observers=observers_of(report, overwrite=overwrite),
        )
        return made(order, chosen, threads, memory, progress, on_outcome).product


def average(
    backgrounds: Sequence[Any],
    sigma: float | None = None,
    maxiters: int | EllipsisType | None = ...,
    threads: int | None = None,
    force: bool = False,
    *,
    profile: str = "jwst",
    options: Options | None = None,
    masks: Sequence[Any] | Mapping[str, Any] = (),
    mask_dir: StrPath | None = None,
    imprints: Sequence[Any] = (),
    memory: int | str | None = None,
    progress: Progress | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    **changes: Unpack[FurtherChanges],
) -> Any:
    """Average background exposures, rejecting outliers pixel by pixel.

    Parameters
    ----------
    backgrounds : sequence of JwstDataModel or path-like
        At least one; images and cubes in any mixture. Not changed.
    sigma, maxiters, threads, force, profile, options, masks, mask_dir, imprints, memory
        As for `subtract`.
    progress, on_outcome, changes
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
    members = list_of("backgrounds", backgrounds)
    check_callable("progress", progress)
    check_callable("on_outcome", on_outcome)
    if not members:
        raise ParameterError("no backgrounds to average; give at least one")
    order = Order(
        backgrounds=tuple(members),
        combined=ModelAverage(),
        masks=masks_for(members, masks, mask_dir),
        imprint_choice=tuple(list_of("imprints", imprints)),
        policy=Policy(force=force),
    )
    return made(order, chosen, threads, memory, progress, on_outcome).combined


def made(
    order: Order,
    options: Options,
    threads: int | None,
    memory: int | str | None,
    progress: Progress | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> Result:
    """Make one order; raise what stopped it.

    Parameters
    ----------
    order : Order
        The order.
    options : Options
        How it is made.
    threads, memory, progress, on_outcome
        As for `subtract`.
    """
    limits = Limits(count_threads(threads), None if memory is None else as_bytes(memory))
    (result,) = make([order], options=options, limits=limits, progress=progress)
    outcome = result.succeeded()
    for warning in gaps(outcome):
        log.warning("%s", warning)
    if on_outcome is not None:
        on_outcome(outcome)
    return result


@contextmanager
def _opened_model(target: Any) -> Iterator[tuple[Any, Callable[[], None] | None]]:
    """Open a model by its path, and give what checks that; leave one passed in open."""
    if not isinstance(target, str | os.PathLike):
        yield target, None
        return
    check = unchanged(Path(target))
    with open_model(target) as model:
        yield model, check
