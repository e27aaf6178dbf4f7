"""Rows of exposures as images of one frame, and the average of these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offsky.arrays import Array, Float64s, Mask
from offsky.combine.planes import amend_planes, average_planes
from offsky.kernel.contract import Marks
from offsky.options import Options
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows


class Cut(NamedTuple):
    """Which part of an exposure's rows lies in a block of a frame.

    Attributes
    ----------
    shape : tuple of int
        (n_rows, nx) of the block of the frame.
    rows_from, columns_from : slice
        The part, in the rows of the exposure.
    rows_to, columns_to : slice
        Where it lies in the block.
    """

    shape: tuple[int, int]
    rows_from: slice
    columns_from: slice
    rows_to: slice
    columns_to: slice

    @property
    def fills(self) -> bool:
        """Whether the part is the whole block."""
        whole = slice(0, self.shape[0]), slice(0, self.shape[1])
        return (self.rows_to, self.columns_to) == whole


class Image(NamedTuple):
    """Rows of one exposure as an image of a frame.

    Attributes
    ----------
    rows : Rows
        (n_rows, nx) of the frame; SCI, ERR and variances are NaN and DQ is 0 where the
        exposure does not reach.
    covers : ndarray of bool or None
        Where the exposure reaches; None for everywhere.
    skip : ndarray of bool or None
        Where its samples are left out; None for nowhere.
    n_rejected, n_masked, n_samples : int
        Of a cube the integrations' samples that were rejected, left out by a mask, and
        finite without those; 0 for an image, whose samples the average counts.
    n_reduced : int
        Pixels of a cube that have a sample once the integrations are averaged.
    n_err_estimated : int
        Pixels of a cube at which the ERR of an integration was estimated.
    """

    rows: Rows
    covers: Mask | None = None
    skip: Mask | None = None
    n_rejected: int = 0
    n_masked: int = 0
    n_samples: int = 0
    n_reduced: int = 0
    n_err_estimated: int = 0


@dataclass(frozen=True, slots=True)
class Adjustments:
    """What is done to the samples of each exposure before they are averaged.

    Attributes
    ----------
    offsets, scales : ndarray of float64, shape (n_exposures,)
        SCI is multiplied by its scale, then its offset is added; ERR is multiplied by the
        scale, variances by its square.
    """

    offsets: Float64s
    scales: Float64s


def make_image(
    rows: Rows, options: Options, *, cut: Cut | None = None, skip: Mask | None = None
) -> Image:
    """Make an image of a frame from rows of an exposure.

    Parameters
    ----------
    rows : Rows
        Rows of an image, or of every integration of a cube; not modified.
    options : Options
        How integrations are averaged.
    cut : Cut or None
        The part that lies in the frame; None where these rows are the frame's.
    skip : ndarray of bool, shape (n_rows, nx) of the exposure, or None
        True where samples are left out.

    Returns
    -------
    Image
        A cube's in float64.
    """
    if cut is not None:
        part = (..., cut.rows_from, cut.columns_from)
        rows = rows._replace(
            **{name: array[part] for name in _PLANES if (array := getattr(rows, name)) is not None}
        )
        skip = None if skip is None else skip[part]
    image = Image(rows, skip=skip) if rows.sci.ndim == 2 else _reduced(rows, options, skip)
    return image if cut is None or cut.fills else _padded(image, cut)


_PLANES = ("sci", "err", "dq", "var_poisson", "var_rnoise")


def _reduced(rows: Rows, options: Options, skip: Mask | None) -> Image:
    """Average the integrations of a cube.

    Integrations are rejected as exposures are, and their flags combined so. But they
    count alike, their average is the mean, and `bad_fraction` is one of exposures.
    """
    n = len(rows.sci)
    average = average_planes(
        list(rows.sci),
        None if rows.err is None else list(rows.err),
        None if rows.dq is None else list(rows.dq),
        dq_flips=[rows.dq_flip] * n,
        options=options.changed(combine="mean", weight="equal", bad_fraction=None),
        wide=True,
        variances=[
            None if var is None else list(var) for var in (rows.var_poisson, rows.var_rnoise)
        ],
        skip=None if skip is None else [skip] * n,
    )
    reduced = Rows(
        average.sci,
        average.err,
        average.dq,
        var_poisson=average.var_poisson,
        var_rnoise=average.var_rnoise,
    )
    return Image(
        reduced,
        n_rejected=int(average.n_rejected.sum()),
        n_masked=int(average.n_masked.sum()),
        n_samples=average.n_samples,
        n_reduced=int(np.count_nonzero(average.n_kept)),
        n_err_estimated=average.n_err_estimated,
    )


def _padded(image: Image, cut: Cut) -> Image:
    """Put an image where it lies in the frame; what it does not reach is missing."""

    def fit(array: Array | None, missing: float) -> Array | None:
        if array is None:
            return None
        fitted = np.full(cut.shape, missing, dtype=array.dtype)
        fitted[cut.rows_to, cut.columns_to] = array
        return fitted

    rows = image.rows
    covers = np.zeros(cut.shape, dtype=np.bool_)
    covers[cut.rows_to, cut.columns_to] = True
    sci = np.full(cut.shape, np.nan, dtype=rows.sci.dtype)
    sci[cut.rows_to, cut.columns_to] = rows.sci
    return image._replace(
        rows=Rows(
            sci,
            fit(rows.err, np.nan),
            # What is stored is XORed with dq_flip, no flags too.
            fit(rows.dq, rows.dq_flip),
            rows.dq_flip,
            fit(rows.var_poisson, np.nan),
            fit(rows.var_rnoise, np.nan),
        ),
        covers=covers,
        skip=fit(image.skip, False),
    )


def absent_image(shape: tuple[int, int]) -> Image:
    """Return the image of an exposure that does not reach a block of a frame at all."""
    nothing = np.full(shape, np.nan, dtype=np.float32)
    return Image(Rows(nothing, None, None), covers=np.zeros(shape, dtype=np.bool_))


def combine_images(
    images: Sequence[Image],
    options: Options,
    *,
    weights: Float64s | None = None,
    adjustments: Adjustments | None = None,
    depths: Float64s | None = None,
    errors: bool = True,
    groups: Sequence[int] | None = None,
    room: Mapping[str, Array] | None = None,
    marks: Marks | None = None,
) -> ClippedMean:
    """Average the same rows of several exposures, in the calling thread.

    Parameters
    ----------
    images : sequence of Image
        All of one shape (n_rows, nx).
    options : Options
        How to average.
    weights : ndarray, shape (n_exposures,), or None
        Weight of each exposure in the mean, above zero; None for equal ones.
    adjustments : Adjustments or None
        What is done to the samples first.
    depths : ndarray, shape (2, n_exposures), or None
        How rejection by "error" compares exposures, see `average_planes`.
    errors : bool
        Whether to make ERR of the average.
    groups : sequence of int, or None
        The number of each exposure's group, -1 for none, where the share of each group in
        the mean is wanted.
    room : mapping of str to ndarray, or None
        Where to put parts of the result, by the names of `ClippedMean` (shares: share0,
        share1, ...): contiguous, of their shapes and types. The others get arrays of their
        own.
    marks : Marks or None
        Where to mark what is rejected.

    Returns
    -------
    ClippedMean
        Arrays of shape (n_rows, nx), with ERR and DQ. ``n_rejected``, ``n_masked`` and
        ``n_samples`` count integrations of cubes too. Variances where they are to be
        propagated and every exposure that reaches these rows has them.
    """
    average = average_planes(
        **_given(images, adjustments, errors=errors),
        options=options,
        weights=weights,
        depths=depths,
        groups=groups,
        room=room,
        marks=marks,
    )
    return replace(
        average,
        n_rejected=average.n_rejected + _of_each([image.n_rejected for image in images]),
        n_masked=average.n_masked + _of_each([image.n_masked for image in images]),
        n_samples=average.n_samples + sum(image.n_samples - image.n_reduced for image in images),
        n_err_estimated=average.n_err_estimated + sum(image.n_err_estimated for image in images),
    )


def _given(
    images: Sequence[Image], adjustments: Adjustments | None, *, errors: bool
) -> dict[str, Any]:
    """Return the planes of images, and what is done to them, as `average_planes` takes them."""
    rows = [image.rows for image in images]
    return {
        "sci": [each.sci for each in rows],
        "err": [each.err for each in rows] if errors else None,
        "dq": [each.dq for each in rows],
        "dq_flips": [each.dq_flip for each in rows],
        "variances": [
            _of_all_that_reach(images, [each.var_poisson for each in rows]),
            _of_all_that_reach(images, [each.var_rnoise for each in rows]),
        ],
        "covers": [image.covers for image in images],
        "skip": None
        if all(image.skip is None for image in images)
        else [image.skip for image in images],
        "offsets": None if adjustments is None else adjustments.offsets,
        "scales": None if adjustments is None else adjustments.scales,
    }


class Combination(NamedTuple):
    """How rows of some exposures are combined.

    Attributes
    ----------
    options : Options
        How samples are rejected and combined.
    weights : ndarray, shape (n_exposures,), or None
        Of each exposure in the mean.
    adjustments : Adjustments or None
        What is done to the samples of each exposure first.
    depths : ndarray, shape (2, n_exposures), or None
        How exposures compare in rejection, see `offsky.combine.planes.average_planes`.
    errors : bool
        Whether to make ERR of the average.
    groups : sequence of int, or None
        The number of each exposure's group, where their shares are wanted.
    """

    options: Options
    weights: Float64s | None = None
    adjustments: Adjustments | None = None
    depths: Float64s | None = None
    errors: bool = True
    groups: Sequence[int] | None = None

    def average(self, images: Sequence[Image], **given: Any) -> ClippedMean:
        """Average images, by `combine_images`."""
        return combine_images(
            images,
            self.options,
            weights=self.weights,
            adjustments=self.adjustments,
            depths=self.depths,
            errors=self.errors,
            groups=self.groups,
            **given,
        )

    def amend(
        self, average: ClippedMean, images: Sequence[Image], marks: Marks
    ) -> tuple[NDArray[np.int64], int]:
        """Average pixels again that growing has changed, by `amend_planes`."""
        return amend_planes(
            average,
            marks,
            **_given(images, self.adjustments, errors=self.errors),
            options=self.options,
            weights=self.weights,
            depths=self.depths,
            groups=self.groups,
        )


def _of_each(numbers: list[int]) -> NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


def _of_all_that_reach(
    images: Sequence[Image], planes: list[Array | None]
) -> list[Array | None] | None:
    """Return planes; None where one is missing of an exposure that reaches these rows."""
    for image, plane in zip(images, planes, strict=True):
        if plane is None and (image.covers is None or image.covers.any()):
            return None
    return planes
