"""Rows of exposures as images, and the average of these."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array
from offsky.combine.planes import average_planes
from offsky.options import Options
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows


def combine_rows(
    exposures: Sequence[Rows],
    options: Options,
    weights: NDArray[np.float64] | None = None,
    *,
    errors: bool = True,
    room: Mapping[str, Array] | None = None,
) -> ClippedMean:
    """Average the same rows of several exposures, in the calling thread.

    Parameters
    ----------
    exposures : sequence of Rows
        (n_rows, nx) or (nints, n_rows, nx) each. Cubes are first averaged along
        their integrations, clipped in the same way.
    options : Options
        How to average.
    weights : ndarray, shape (n_exposures,), or None
        Of each exposure in the mean, above zero; None for equal ones.
    errors : bool
        Whether to make ERR of the average.
    room : mapping of str to ndarray, or None
        Where to put parts of the result, by the names of `ClippedMean`: contiguous, of
        their shapes and types. The others get arrays of their own.

    Returns
    -------
    ClippedMean
        Arrays of shape (n_rows, nx), with ERR and DQ; ``n_rejected`` counts
        rejected integrations too. Variances where they are to be propagated and every
        exposure that reaches these rows has them.
    """
    images = [reduce_rows(rows, options) for rows in exposures]
    return combine_images(images, options, weights, errors=errors, room=room)


class Image(NamedTuple):
    """Rows of one exposure as an image, and what making it of integrations told."""

    rows: Rows
    n_rejected: int = 0
    n_err_estimated: int = 0
    n_samples: int = 0


def reduce_rows(rows: Rows, options: Options) -> Image:
    """Average the integrations of a cube's rows; those of an image stay as they are.

    Integrations are rejected as exposures are, and their flags combined so. But they
    count alike, their average is the mean, and `bad_fraction` is one of exposures.
    """
    if rows.sci.ndim == 2:
        return Image(rows)
    image = average_planes(
        list(rows.sci),
        None if rows.err is None else list(rows.err),
        None if rows.dq is None else list(rows.dq),
        dq_flips=[rows.dq_flip] * len(rows.sci),
        options=options.changed(combine="mean", weight="equal", bad_fraction=None),
        wide=True,
        variances=[
            None if var is None else list(var) for var in (rows.var_poisson, rows.var_rnoise)
        ],
    )
    return Image(
        Rows(
            image.sci,
            image.err,
            image.dq,
            var_poisson=image.var_poisson,
            var_rnoise=image.var_rnoise,
            covers=rows.covers,
        ),
        int(image.n_rejected.sum()),
        image.n_err_estimated,
        image.n_samples,
    )


def combine_images(
    images: Sequence[Image],
    options: Options,
    weights: NDArray[np.float64] | None = None,
    *,
    errors: bool = True,
    room: Mapping[str, Array] | None = None,
) -> ClippedMean:
    """Average the same rows of several exposures that are images by now.

    Parameters
    ----------
    images : sequence of Image
        As `reduce_rows` makes them.
    options, weights, errors, room
        As for `combine_rows`.

    Returns
    -------
    ClippedMean
        As of `combine_rows`.
    """
    rows = [image.rows for image in images]
    average = average_planes(
        [each.sci for each in rows],
        [each.err for each in rows] if errors else None,
        [each.dq for each in rows],
        dq_flips=[each.dq_flip for each in rows],
        options=options,
        weights=weights,
        variances=[
            _of_all_that_reach(rows, [each.var_poisson for each in rows]),
            _of_all_that_reach(rows, [each.var_rnoise for each in rows]),
        ],
        covers=[each.covers for each in rows],
        room=room,
    )
    return replace(
        average,
        n_rejected=average.n_rejected
        + np.array([image.n_rejected for image in images], dtype=np.int64),
        n_err_estimated=average.n_err_estimated + sum(image.n_err_estimated for image in images),
        n_samples=average.n_samples + sum(image.n_samples for image in images),
    )


def _of_all_that_reach(
    rows: Sequence[Rows], planes: list[Array | None]
) -> list[Array | None] | None:
    """Return planes; None where one is missing of an exposure that reaches these rows."""
    for each, plane in zip(rows, planes, strict=True):
        if plane is None and (each.covers is None or each.covers.any()):
            return None
    return planes
