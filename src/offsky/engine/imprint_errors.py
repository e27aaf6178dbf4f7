"""The errors of imprints in a product: those of one do not average out (decision 0023)."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from threading import local

import numpy as np

from offsky.arrays import Array, Float64s
from offsky.engine.framing import columns_of
from offsky.engine.passes import group_imprints
from offsky.io.imprinted import imprints_of
from offsky.values.average import ClippedMean
from offsky.values.exposure import Exposure, Scratch, Wanted
from offsky.values.window import Window

_ERRORS = Wanted(err=True, variances=True)
# Rows of a whole average that are worked on at a time.
_ROWS = 64


class _Own(local):
    """Memory of each thread for rows of an imprint."""

    def __init__(self) -> None:
        self.scratch = Scratch()


_own = _Own()


class ImprintErrors:
    """What the imprints of one product add to the variance of what is subtracted.

    Parameters
    ----------
    target : Exposure or None
        The target.
    members : sequence of Exposure
        The exposures of the average.
    windows : sequence of Window
        Where they lie on the detector.
    frame : Window
        The window of the average.

    Notes
    -----
    An imprint enters the product with the coefficient (the average's factor times its share
    in the average) minus (its share in the target), and its variance with the square of that.
    """

    def __init__(
        self,
        target: Exposure | None,
        members: Sequence[Exposure],
        windows: Sequence[Window],
        frame: Window,
    ) -> None:
        self._frame = frame
        self._of_target = _keys_of(target)
        _, self._groups = group_imprints([_keys_of(each) for each in members])
        self._imprints: dict[Hashable, tuple[Exposure, Window]] = {}
        for exposure, window in [(target, frame), *zip(members, windows, strict=True)]:
            for imprint in imprints_of(exposure):
                self._imprints[imprint.same_as] = imprint, window

    def in_product(
        self, first: int, last: int, level: ClippedMean, shares: Sequence[Array], factor: float
    ) -> ClippedMean:
        """Return rows of what is subtracted with the imprints' variances in its own.

        Parameters
        ----------
        first, last : int
            The rows of the frame.
        level : ClippedMean
            These rows of the average times the factor on it.
        shares : sequence of ndarray
            The share of each group of exposures in the average.
        factor : float
            The factor.
        """
        return self._added(first, last, level, shares, factor, self._of_target)

    def in_average(self, average: ClippedMean) -> ClippedMean:
        """Return a whole average, to be saved, with the imprints' variances in its own."""
        names = ("err", "var_poisson", "var_rnoise")
        new = {
            name: np.empty_like(plane)
            for name in names
            if (plane := getattr(average, name)) is not None
        }
        for first in range(0, len(average.sci), _ROWS):
            rows = slice(first, min(first + _ROWS, len(average.sci)))
            part = {name: getattr(average, name)[rows] for name in new}
            level = replace(average, sci=average.sci[rows], **part)
            shares = [share[rows] for share in average.shares]
            done = self._added(rows.start, rows.stop, level, shares, 1.0, ())
            for name, plane in new.items():
                plane[rows] = getattr(done, name)
        return replace(average, **new)

    def _added(
        self,
        first: int,
        last: int,
        level: ClippedMean,
        shares: Sequence[Array],
        factor: float,
        of_target: Sequence[Hashable],
    ) -> ClippedMean:
        if level.err is None:
            return level
        poisson, rnoise = np.zeros((2, *level.sci.shape))
        for key, (imprint, window) in self._imprints.items():
            coefficient = np.zeros(level.sci.shape)
            for share, group in zip(shares, self._groups, strict=True):
                if key in group:
                    coefficient += factor * (group.count(key) / len(group)) * share
            if key in of_target:
                coefficient -= of_target.count(key) / len(of_target)
            counts = coefficient != 0
            if not counts.any():
                continue
            square = coefficient * coefficient
            for total, variance in zip(
                (poisson, rnoise), self._variances(imprint, window, first, last), strict=True
            ):
                with np.errstate(over="ignore", invalid="ignore"):
                    total += np.where(counts, square * variance, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            err = np.sqrt(level.err.astype(np.float64) ** 2 + (poisson + rnoise))
            if level.var_poisson is None or level.var_rnoise is None:
                return replace(level, err=err)
            return replace(
                level,
                err=err,
                var_poisson=level.var_poisson.astype(np.float64) + poisson,
                var_rnoise=level.var_rnoise.astype(np.float64) + rnoise,
            )

    def _variances(
        self, imprint: Exposure, window: Window, first: int, last: int
    ) -> tuple[Float64s, Float64s]:
        """Return the variances of an imprint in rows of the frame, NaN where none is known.

        Where it has no VAR_*, its ERR counts as read noise, as that of an average does.
        """
        frame = self._frame
        poisson, rnoise = np.full((2, last - first, frame.nx), np.nan)
        shift = frame.y0 - window.y0
        begin, end = max(first, -shift), min(last, window.ny - shift)
        columns = columns_of(window, frame)
        if begin >= end or columns is None:
            return poisson, rnoise
        _own.scratch.clear()
        rows = imprint.read_rows(begin + shift, end + shift, _own.scratch, _ERRORS)
        part = slice(begin - first, end - first), columns[1]
        with np.errstate(over="ignore", invalid="ignore"):
            if rows.err is not None:
                rnoise[part] = rows.err[:, columns[0]].astype(np.float64) ** 2
                poisson[part] = 0.0
            if rows.var_poisson is not None and rows.var_rnoise is not None:
                one, other = (
                    each[:, columns[0]].astype(np.float64)
                    for each in (rows.var_poisson, rows.var_rnoise)
                )
                known = np.isfinite(one + other)
                poisson[part] = np.where(known, one, poisson[part])
                rnoise[part] = np.where(known, other, rnoise[part])
        return poisson, rnoise


def _keys_of(exposure: Exposure | None) -> tuple[Hashable, ...]:
    return tuple(imprint.same_as for imprint in imprints_of(exposure))
