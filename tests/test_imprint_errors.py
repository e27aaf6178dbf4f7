"""Errors of imprints: one that several exposures share cancels, or adds up, as it should."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from plain import NIRSPEC, expose, pixels

import offsky

SHAPE = (300, 400)
PATTERN = np.sin(np.arange(SHAPE[1]) / 5)[None, :] * np.ones((SHAPE[0], 1))
Made = tuple[Path, list[Path], list[Path]]


class Observatory:
    """Writes exposures of a sky with an imprint, each with noise of its own."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._rng = np.random.default_rng([12, seed])
        # The background that is hit at each pixel: one of a few, or none.
        self._hit = self._rng.integers(0, 9, SHAPE)
        self._n_hit = 0

    def expose(
        self,
        name: str,
        sky: float,
        *,
        place: int,
        background: bool = False,
        noise: float = 1.0,
        nints: int | None = None,
        outliers: bool = False,
        variances: bool = True,
        imprint: bool = False,
    ) -> Path:
        """Write an exposure at a position of a pattern; noise is half Poisson, half read noise."""
        shape = SHAPE if nints is None else (nints, *SHAPE)
        sci = sky + PATTERN + noise * self._rng.normal(size=shape)
        if outliers:
            sci[..., self._hit == self._n_hit] += 1000.0
            self._n_hit += 1
        path = expose(
            self._folder / f"{name}_rate.fits",
            sci,
            err=noise,
            keywords={**NIRSPEC, "BKGDTARG": background, "PATT_NUM": place, "IS_IMPRT": imprint},
        )
        if variances:
            with fits.open(path, memmap=False) as hdus:
                for kind, share in (("VAR_POISSON", 0.25), ("VAR_RNOISE", 0.75)):
                    plane = np.full(shape, share * noise**2, "f4")
                    hdus.append(fits.ImageHDU(plane, name=kind))
                hdus.writeto(path, overwrite=True)
        return path

    def imprint(self, name: str, **how: Any) -> Path:
        return self.expose(name, 0.0, imprint=True, **{"noise": 0.7, **how})


def share_one(sky: Observatory, **how: Any) -> Made:
    backgrounds = [sky.expose(f"b{i}", 5.0, place=i, background=True, **how) for i in range(4)]
    return sky.expose("t", 9.0, place=1), backgrounds, [sky.imprint("l", place=1)]


def one_of_each_side(sky: Observatory, **how: Any) -> Made:
    target, backgrounds, _ = share_one(sky, **how)
    ours = sky.imprint("lt", place=1)
    return target, backgrounds, [ours, sky.imprint("lb", place=7, background=True, noise=1.1)]


def one_of_each_exposure(sky: Observatory, **how: Any) -> Made:
    backgrounds = [sky.expose(f"b{i}", 5.0, place=i, **how) for i in range(2, 7)]
    imprints = [sky.imprint(f"l{i}", place=i, noise=1.0 + 0.1 * i) for i in range(1, 7)]
    return sky.expose("t", 9.0, place=1), backgrounds, imprints


def some_share(sky: Observatory, **how: Any) -> Made:
    places = (1, 1, 2, 2, 2, 3)
    backgrounds = [sky.expose(f"b{i}", 5.0, place=p, **how) for i, p in enumerate(places)]
    imprints = [sky.imprint(f"l{p}", place=p, noise=1.5) for p in (1, 2, 3)]
    # Two of one position: their mean is subtracted.
    imprints.append(sky.imprint("l2b", place=2, noise=0.9))
    return sky.expose("t", 9.0, place=1), backgrounds, imprints


CASES = [share_one, one_of_each_side, one_of_each_exposure, some_share]
# Nothing but the outliers is rejected, so that noise stays Gaussian.
REJECTING = {"reject": "error", "sigma": 30.0}


def scatter_over_err(made: Path, factor: float = 1.0) -> float:
    error = pixels(made, "ERR").astype("f8")
    residual = pixels(made).astype("f8") - (9.0 - factor * 5.0)
    both = np.isfinite(residual) & np.isfinite(error)
    assert both.mean() > 0.99
    of_sum = np.sqrt(pixels(made, "VAR_POISSON") + pixels(made, "VAR_RNOISE"))
    np.testing.assert_allclose(error[both], of_sum[both], rtol=1e-6)
    return float(np.sqrt(np.mean((residual[both] / error[both]) ** 2)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("outliers", [False, True], ids=["all kept", "some rejected"])
def test_scatter_is_what_err_says_to_a_hundredth(case: Any, outliers: bool, folder: Path) -> None:
    target, backgrounds, imprints = case(Observatory(folder, 1), outliers=outliers)
    output = folder / "out.fits"
    offsky.subtract_file(
        target, backgrounds, output, imprints=imprints, errors="propagate", **REJECTING
    )
    assert scatter_over_err(output) == pytest.approx(1.0, abs=0.01)
    # Without the imprints' errors, or with those of the target's alone, it would not be.
    bare = np.sqrt(1.0 + 1.0 / len(backgrounds))
    residual = pixels(output) - 4.0
    if case is not share_one:
        assert np.std(residual[np.isfinite(residual)]) > 1.05 * bare


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": "integrations"},
        {"target_scale": 0.6},
        {"weight": "integrations", "target_scale": 1.3},
    ],
    ids=str,
)
def test_weights_and_a_factor_count_too(changes: dict[str, Any], folder: Path) -> None:
    sky = Observatory(folder, 2)
    target, backgrounds, imprints = some_share(sky, outliers=True)
    cube = sky.expose("cube", 5.0, place=3, nints=4)
    output = folder / "out.fits"
    offsky.subtract_file(
        target, [*backgrounds, cube], output, imprints=imprints, errors="propagate",
        **REJECTING, **changes,
    )  # fmt: skip
    factor = float(changes.get("target_scale", 1.0))
    assert scatter_over_err(output, factor) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("case", CASES)
def test_the_error_of_a_saved_average_has_its_imprints_in_it(case: Any, folder: Path) -> None:
    target, backgrounds, imprints = case(Observatory(folder, 3), outliers=True)
    alone, beside = folder / "average.fits", folder / "beside.fits"
    how: dict[str, Any] = {"imprints": imprints, "errors": "propagate", **REJECTING}
    offsky.average_file(backgrounds, alone, **how)
    offsky.subtract_file(target, backgrounds, folder / "o.fits", combined_path=beside, **how)
    for path in (alone, beside):
        residual = (pixels(path) - 5.0) / pixels(path, "ERR")
        assert np.nanstd(residual) == pytest.approx(1.0, abs=0.01)
        total = pixels(path, "VAR_POISSON") + pixels(path, "VAR_RNOISE")
        known = np.isfinite(total)
        np.testing.assert_allclose(pixels(path, "ERR")[known] ** 2, total[known], rtol=1e-5)


def test_an_imprint_without_variances_adds_its_err_as_read_noise(folder: Path) -> None:
    sky = Observatory(folder, 4)
    target, backgrounds, _ = share_one(sky)
    imprints = [
        sky.imprint("lt", place=1, variances=False, noise=2.0),
        sky.imprint("lb", place=7, background=True, variances=False, noise=3.0),
    ]
    output = folder / "out.fits"
    offsky.subtract_file(target, backgrounds, output, imprints=imprints, errors="propagate")
    n = len(backgrounds)
    np.testing.assert_allclose(pixels(output, "VAR_POISSON"), 0.25 * (1 + 1 / n), rtol=1e-6)
    expected = 0.75 * (1 + 1 / n) + 2.0**2 + 3.0**2
    np.testing.assert_allclose(pixels(output, "VAR_RNOISE"), expected, rtol=1e-6)


def test_where_the_error_of_an_imprint_is_not_known_the_targets_stays(folder: Path) -> None:
    sky = Observatory(folder, 5)
    target, backgrounds, (_, lb) = one_of_each_side(sky)
    with fits.open(lb, mode="update") as hdus:
        for name in ("ERR", "VAR_POISSON", "VAR_RNOISE"):
            hdus[name].data[3, 4:6] = np.nan
    lt = folder / "lt_rate.fits"
    output = folder / "out.fits"
    outcome = offsky.subtract_file(
        target, backgrounds, output, imprints=[lt, lb], errors="propagate"
    )
    assert outcome.n_err_unknown == 2
    np.testing.assert_array_equal(pixels(output, "ERR")[3, 4:6], [1, 1])
    assert pixels(output, "ERR")[3, 6] > 1.2


def test_errors_stay_as_they_were_unless_they_are_propagated(folder: Path) -> None:
    target, backgrounds, imprints = one_of_each_side(Observatory(folder, 6))
    output = folder / "out.fits"
    offsky.subtract_file(target, backgrounds, output, imprints=imprints)
    for name in ("ERR", "VAR_POISSON", "VAR_RNOISE"):
        np.testing.assert_array_equal(pixels(output, name), pixels(target, name))


def shared_window(paths: Sequence[Path], columns: slice, x: int) -> list[Path]:
    """Cut exposures to some columns, and say so."""
    cut = []
    for path in paths:
        with fits.open(path, memmap=False) as hdus:
            for hdu in hdus[1:]:
                hdu.data = hdu.data[:, columns]
            hdus[0].header.update({"SUBSTRT1": x, "SUBSIZE1": hdus["SCI"].data.shape[1]})
            hdus.writeto(path, overwrite=True)
        cut.append(path)
    return cut


def test_backgrounds_of_another_window_bring_their_imprints_errors_where_they_reach(
    folder: Path,
) -> None:
    sky = Observatory(folder, 7)
    target, backgrounds, imprints = one_of_each_side(sky)
    half = slice(0, SHAPE[1] // 2)
    output = folder / "out.fits"
    offsky.subtract_file(target, backgrounds, output, imprints=imprints, errors="propagate")
    wanted = pixels(output, "ERR")
    # The backgrounds and their imprint reach over half of the target's columns.
    lt, lb = imprints
    shared_window([*backgrounds, lb], half, 1)
    offsky.subtract_file(
        target, backgrounds, output, imprints=[lt, lb], errors="propagate", overwrite=True
    )
    np.testing.assert_array_equal(pixels(output, "ERR")[:, half], wanted[:, half])
    np.testing.assert_array_equal(pixels(output, "ERR")[:, SHAPE[1] // 2 :], 1.0)
