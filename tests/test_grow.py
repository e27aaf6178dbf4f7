"""Rejection grows to neighbours: kernel, twin and oracle agree, whatever the blocks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from oracle_rejection import grown, kept_of_images

from offsky import kernel as kernel_module
from offsky.combine import blocks, planes
from offsky.combine.blocks import LEAST_GROWN
from offsky.combine.grow import MARGIN, PASSES, Grower, Piece, rows_of_image
from offsky.combine.images import Adjustments, Combination, Image, make_image
from offsky.combine.stack import clipped_mean
from offsky.engine.band import chains
from offsky.errors import ParameterError
from offsky.files import average_file, subtract_file
from offsky.kernel import twin_average
from offsky.options import PROFILES, Options
from offsky.testing import write_exposure
from offsky.values.average import ClippedMean
from offsky.values.exposure import Rows

OPTIONS = Options(reject="error", sigma=3.5, sigma_lower=4.5, grow=1.5, dq="kept", bad_bits=1)


def scene(
    n: int, shape: tuple[int, int], *, seed: int = 1, dtype: str = "f4"
) -> tuple[np.ndarray, np.ndarray]:
    """Draw exposures of unequal depth with hits that have skirts, and gaps; and their ERR."""
    rng = np.random.default_rng([seed, n])
    sigmas = rng.uniform(0.7, 2.0, n)[:, None, None]
    sci = 5.0 + rng.normal(0.0, 1.0, (n, *shape)) * sigmas
    for i, y, x in np.argwhere(rng.random(sci.shape) < 0.02):
        sci[i, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] += rng.uniform(1.0, 5.0)
        sci[i, y, x] += rng.uniform(5.0, 60.0)
    sci[rng.random(sci.shape) < 0.03] = np.nan
    err = np.broadcast_to(sigmas, sci.shape) * rng.uniform(0.9, 1.1, sci.shape)
    err[rng.random(sci.shape) < 0.02] = np.nan
    return sci.astype(dtype), err.astype(dtype)


def rejected_of(
    images: list[Image],
    shape: tuple[int, int],
    heights: list[int],
    *,
    options: Options = OPTIONS,
    band: tuple[int, int] | None = None,
    adjustments: Adjustments | None = None,
    depths: np.ndarray | None = None,
) -> np.ndarray:
    """Return what is left out of rows of a band, worked on in blocks of some heights."""
    ny = shape[0]
    begin, end = band or (0, ny)
    combination = Combination(options, adjustments=adjustments, depths=depths)
    grower = Grower(combination, shape, begin, end)
    found, tails, i = [], [], 0
    row, stop = max(0, begin - PASSES), min(ny, end + PASSES)
    n_rejected = np.zeros(len(images), dtype=np.int64)
    while row < stop:
        # Rows beyond the band come in blocks of their own, and no block within is too low.
        edge = next(edge for edge in (begin, end, stop) if row < edge)
        last = min(row + heights[i % len(heights)], edge)
        last = edge if edge - last < MARGIN else last
        part = [rows_of_image(image, slice(row, last)) for image in images]
        blocks: list[ClippedMean] = []

        def average(marks: Any, part: Any = part, blocks: Any = blocks) -> ClippedMean:
            blocks.append(combination.average(part, marks=marks))
            return blocks[0]

        pieces = grower.push(row, last, part, tails, average)
        if begin <= row and last <= end:
            n_rejected += blocks[0].n_rejected
        for piece in pieces:
            assert piece.first == begin + sum(each.shape[1] for each in found)
            assert piece.rejected().shape[1] == piece.last - piece.first
            found.append(piece.rejected())
            n_rejected += piece.n_grown
            check_average(piece, combination)
        tails = [
            rows_of_image(own, slice(max(0, last - row - MARGIN), last - row)) for own in part
        ]
        row, i = last, i + 1
    whole = np.concatenate(found, axis=1)
    assert whole.shape[1] == end - begin
    np.testing.assert_array_equal(n_rejected, whole.sum(axis=(1, 2)))
    return whole


def check_average(piece: Piece, combination: Combination) -> None:
    """A piece is the average of its rows without what was rejected, bit for bit."""
    plain = combination._replace(options=combination.options.changed(reject="none"), depths=None)
    expected = plain.average(piece.kept())
    for name in ("sci", "err", "dq", "n_kept"):
        got, own = getattr(piece.average, name), getattr(expected, name)
        if own is not None:
            np.testing.assert_array_equal(got, own, err_msg=name)


def images_of(sci: np.ndarray, err: np.ndarray, **planes: Any) -> list[Image]:
    dq, skip = planes.get("dq"), planes.get("skip")
    return [
        make_image(
            Rows(sci[i], err[i], None if dq is None else dq[i]),
            OPTIONS,
            skip=None if skip is None else skip[i],
        )
        for i in range(len(sci))
    ]


def use_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Average and grow in NumPy."""
    monkeypatch.setattr(kernel_module, "grow", None)
    monkeypatch.setattr(kernel_module, "amend", None)
    monkeypatch.setattr(planes, "_engine", lambda: twin_average.average)


@pytest.fixture(params=["kernel", "twin"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kernel: Any) -> str:
    """Kernel and twin in turn."""
    if request.param == "twin":
        use_twin(monkeypatch)
    return str(request.param)


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_what_grows_is_what_the_formulas_say(either: str, n: int) -> None:
    shape = (14, 19)
    sci, err = scene(n, shape, dtype="f8")
    err[:] = np.nanmedian(err, axis=(1, 2), keepdims=True)
    typical = err[:, 0, 0]
    depths = np.stack([1 / typical, typical**-2.0])
    got = rejected_of(images_of(sci, err), shape, [14], depths=depths)
    # ERR of each exposure over its typical one is 1 everywhere.
    kept = kept_of_images(sci, err, 4.5, 3.5)
    expected = grown(sci, err, kept, 1.5, PASSES)
    np.testing.assert_array_equal(got, np.isfinite(sci) & ~expected)
    assert (kept & ~expected).sum() > 5


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 60])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("how", ["plain", "moved", "masked", "flagged", "deep", "mixed"])
def test_the_kernel_grows_as_its_twin_does(
    n: int, dtype: str, how: str, kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (11, 37)
    rng = np.random.default_rng(n)
    sci, err = scene(n, shape, dtype=dtype, seed=2)
    given: dict[str, Any] = {}
    more: dict[str, Any] = {}
    options = OPTIONS
    if how == "moved":
        given["adjustments"] = Adjustments(rng.normal(0, 1, n), rng.uniform(0.5, 2.0, n))
    if how == "masked":
        more["skip"] = rng.random(sci.shape) < 0.1
    if how == "flagged":
        more["dq"] = rng.choice([0, 0, 0, 1, 4], sci.shape).astype(">u4")
    if how == "deep":
        given["depths"] = rng.uniform(0.2, 3.0, (2, n))
        options = OPTIONS.changed(grow=0.0, min_keep=2)
    images = images_of(sci, err, **more)
    if how == "mixed":
        # As a cube among images, and one without ERR.
        other = "f4" if sci.dtype.itemsize == 8 else "f8"
        images[:1] = images_of(sci[:1].astype(other), err[:1].astype(other))
        images[-1] = images[-1]._replace(rows=images[-1].rows._replace(err=None))
    one = rejected_of(images, shape, [4], options=options, **given)
    use_twin(monkeypatch)
    other = rejected_of(images, shape, [11], options=options, **given)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("heights", [[4], [5], [7, 4], [40]])
@pytest.mark.parametrize("band", [(0, 23), (0, 9), (7, 15), (1, 23), (17, 22), (22, 23)])
def test_any_cut_into_blocks_and_bands_rejects_the_same(
    either: str, heights: list[int], band: tuple[int, int]
) -> None:
    shape = (23, 31)
    sci, err = scene(4, shape, seed=3)
    images = images_of(sci, err)
    whole = rejected_of(images, shape, [23])
    got = rejected_of(images, shape, heights, band=band)
    np.testing.assert_array_equal(got, whole[:, band[0] : band[1]])


def test_the_last_samples_stay(either: str) -> None:
    shape = (12, 12)
    rng = np.random.default_rng(3)
    sci = rng.normal(0.0, 1.0, (3, *shape)) + 30.0 * (rng.random((3, *shape)) < 0.3)
    for least in (1, 2):
        options = OPTIONS.changed(min_keep=least, grow=0.0)
        got = rejected_of(images_of(sci, np.ones_like(sci)), shape, [5], options=options)
        assert (~got).sum(axis=0).min() == least


def test_missing_and_flagged_samples_grow_nothing(either: str) -> None:
    # Bad pixels are the same in all exposures: growing them would cost good samples alone.
    shape = (9, 9)
    sci, err = np.zeros((3, *shape)), np.ones((3, *shape))
    dq = np.zeros((3, *shape), "u4")
    sci[1, 3, 3], sci[1, 3, 4], sci[1, 6, 7] = np.nan, 3.0, 3.0
    sci[1, 6, 6], dq[1, 6, 6] = 900.0, 1
    assert not rejected_of(images_of(sci, err, dq=dq), shape, [9])[:, 3:8].any()


@pytest.fixture
def exposures(tmp_path: Path) -> list[Path]:
    sci, err = scene(5, (150, 64), seed=5)
    return [
        write_exposure(tmp_path / f"off{i}_rate.fits", sci=x, err=e)
        for i, (x, e) in enumerate(zip(sci, err, strict=True))
    ]


def planes_of(path: Path) -> dict[str, Any]:
    with fits.open(path, memmap=False) as hdus:
        return {hdu.name: np.array(hdu.data) for hdu in hdus[1:]}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("most", [8, 11, 256])
def test_files_are_the_same_at_any_height_and_number_of_threads(
    exposures: list[Path],
    tmp_path: Path,
    threads: int,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = exposures[0]
    made = []
    for height, n in ((256, 1), (most, threads)):
        monkeypatch.setattr(blocks, "_MOST_ROWS", height)
        product, average = tmp_path / f"{height}{n}.fits", tmp_path / f"{height}{n}a.fits"
        # The target is a background as well: its rows come from the pass.
        outcome = subtract_file(
            target, exposures, product, options=PROFILES["offsky"], threads=n, force=True,
            combined_path=average, overwrite=True,
        )  # fmt: skip
        made.append((planes_of(product), planes_of(average), outcome))
    assert made[0][2].n_rejected == made[1][2].n_rejected
    assert made[0][2].n_samples == made[1][2].n_samples
    for one, other in zip(made[0][:2], made[1][:2], strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_growing_rejects_more_and_is_recorded(exposures: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "average.fits"
    counts = []
    for grow in (1.5, None, 3.0):
        options = PROFILES["offsky"].changed(grow=grow)
        outcome = average_file(exposures, path, options=options, overwrite=True)
        counts.append(sum(outcome.n_rejected))
        header = fits.getheader(path)
        assert header.get("OFFGROW", 1.5) == ("none" if grow is None else grow)
        assert header["OFFNREJ"] == counts[-1]
    assert counts[0] > counts[2] > counts[1]


@pytest.mark.parametrize("grow", [-0.1, float("nan"), "much"])
def test_grow_below_zero_is_refused_in_one_line(grow: Any) -> None:
    with pytest.raises(ParameterError, match=r"^grow is .*: give a number of errors, 0 or more"):
        Options(grow=grow)


def test_blocks_of_a_band_are_low_enough_and_high_enough() -> None:
    for n_rows in range(1, 90):
        for height in (LEAST_GROWN, 9, 31, 256):
            for chain in chains(3, 3 + n_rows, height, 2, lambda band: lambda *given: None):
                inside = [b for b in chain.blocks if chain.begin <= b[0] < b[1] <= chain.end]
                own = [last - first for first, last in inside]
                assert max(own) <= height
                assert min(own) >= MARGIN or len(own) == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_stacks_of_images_are_the_same_at_any_height_and_number_of_threads(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = [scene(4, (70, 33), seed=seed) for seed in range(3)]
    sci, err = (np.stack([each[i] for each in drawn], axis=1) for i in (0, 1))
    dq = (np.random.default_rng(3).random(sci.shape) < 0.01).astype(np.uint32)
    others = {"err": err, "dq": dq, "var_poisson": err**2, "var_rnoise": 2 * err**2}
    options = OPTIONS.changed(errors="propagate")
    made = []
    for height, n in ((256, 1), (11, threads)):
        monkeypatch.setattr(blocks, "_MOST_ROWS", height)
        made.append(clipped_mean(sci, **others, options=options, threads=n))
    whole, cut = made
    np.testing.assert_array_equal(whole.n_rejected, cut.n_rejected)
    assert (whole.n_samples, whole.n_err_estimated) == (cut.n_samples, cut.n_err_estimated)
    for name in ("sci", "err", "dq", "n_kept", "var_poisson", "var_rnoise"):
        assert getattr(whole, name).shape == (3, 70, 33)
        np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name), err_msg=name)
    without = clipped_mean(sci, **others, options=options.changed(grow=None))
    assert (whole.n_rejected > without.n_rejected).all()
