"""Exposures lie where their keywords say: pixels encode detector coordinates."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from averages import assemble
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plain import expose, pixels, rows_of

import offsky
from offsky.combine.whole import Finished
from offsky.options import Options
from offsky.selection.choose import Selection, choose_backgrounds
from offsky.selection.suitability import Policy
from offsky.values.in_memory import ArrayExposure
from offsky.values.metadata import Metadata

NY, NX = 22, 26  # rows and columns of a detector in small
MEAN = Options(maxiters=0)


class Place(NamedTuple):
    """A window as headers have it, 1-based."""

    xstart: int
    ystart: int
    xsize: int
    ysize: int

    @property
    def keywords(self) -> dict[str, int]:
        names = ("SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2")
        return dict(zip(names, self, strict=True))

    @property
    def on_detector(self) -> tuple[slice, slice]:
        x, y = self.xstart - 1, self.ystart - 1
        return slice(y, y + self.ysize), slice(x, x + self.xsize)


FULL = Place(1, 1, NX, NY)


@st.composite
def places(draw: Any) -> Place:
    """Draw the full frame or a subarray."""
    if draw(st.integers(0, 4)) == 0:
        return FULL
    xstart, ystart = draw(st.integers(1, NX)), draw(st.integers(1, NY))
    # Small ones too, so that some do not meet.
    return Place(
        xstart,
        ystart,
        draw(st.integers(1, NX - xstart + 1)),
        draw(st.integers(1, NY - ystart + 1)),
    )


some_nints = st.sampled_from([None, None, 1, 3])


def pixels_at(i: int, place: Place, nints: int | None) -> np.ndarray:
    """Make an exposure whose pixels tell its number, integration and detector coordinates."""
    y, x = np.mgrid[:NY, :NX][:, *place.on_detector]
    image = 1000.0 * i + 32.0 * y + x
    if nints is None:
        return image.astype(np.float32)
    return np.stack([image + 0.25 * k for k in range(nints)]).astype(np.float32)


def average_on_detector(
    target: Place, backgrounds: list[tuple[Place, int | None]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average in float64 on the whole detector, cut out the target: SCI, DQ, samples kept."""
    stack = np.full((len(backgrounds), NY, NX), np.nan)
    flags = np.zeros((NY, NX), dtype=np.uint32)
    for i, (place, nints) in enumerate(backgrounds):
        sci = pixels_at(i + 1, place, nints).astype(float)
        stack[i][place.on_detector] = sci if nints is None else sci.mean(axis=0)
        flags[place.on_detector] |= np.uint32(2 << i)
    n_kept = np.isfinite(stack).sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.nansum(stack, axis=0) / n_kept
    cut = target.on_detector
    return mean[cut], flags[cut], n_kept[cut]


def overlaps(a: Place, b: Place) -> bool:
    on_detector = np.zeros((2, NY, NX), dtype=bool)
    on_detector[0][a.on_detector] = on_detector[1][b.on_detector] = True
    return bool(on_detector.all(axis=0).any())


def in_memory(i: int, place: Place, nints: int | None) -> ArrayExposure:
    sci = pixels_at(i, place, nints)
    metadata = Metadata(
        xstart=place.xstart, ystart=place.ystart, xsize=place.xsize, ysize=place.ysize
    )
    flags = np.full(sci.shape, 1 << i, dtype=np.uint32)
    return ArrayExposure(f"e{i}", sci, np.full_like(sci, 0.5), flags, metadata)


def averaged(
    backgrounds: list[ArrayExposure], selection: Selection, rows_per_block: int, threads: int
) -> Finished:
    used = [backgrounds[i] for i in selection.used]
    windows = [selection.verdicts[i].window for i in selection.used]
    assert selection.frame is not None
    return assemble(used, windows, selection.frame, MEAN, height=rows_per_block, threads=threads)


@settings(max_examples=200)
@given(
    target=st.tuples(places(), some_nints),
    backgrounds=st.lists(st.tuples(places(), some_nints), min_size=1, max_size=4),
    rows_per_block=st.integers(1, NY),
    threads=st.integers(1, 2),
)
def test_every_background_counts_at_its_own_pixels_and_nowhere_else(
    target: Any, backgrounds: Any, rows_per_block: int, threads: int
) -> None:
    skies = [in_memory(i, *each) for i, each in enumerate(backgrounds, 1)]
    selection = choose_backgrounds(in_memory(0, *target), skies, policy=Policy(), options=MEAN)
    met = [overlaps(target[0], place) for place, _ in backgrounds]
    assert [verdict.fate == "used" for verdict in selection.verdicts] == met
    assert [reason for _, reason in selection.dropped if "does not overlap" not in reason] == []
    if not any(met):
        assert selection.used == ()
        return

    assembled = averaged(skies, selection, rows_per_block, threads)
    assert assembled.average is not None
    sci, dq, n_kept = average_on_detector(target[0], backgrounds)
    # Half a unit of float32 at 4000 is 0.0002; a pixel out of place is 1 off, and more.
    np.testing.assert_allclose(assembled.average.sci, sci, rtol=0, atol=3e-4)
    np.testing.assert_array_equal(assembled.average.n_kept, n_kept)
    np.testing.assert_array_equal(assembled.average.dq, dq)
    assert np.isnan(assembled.average.err).tolist() == (n_kept == 0).tolist()
    assert assembled.n_uncovered == np.count_nonzero(n_kept == 0)


@settings(max_examples=8)
@given(
    target=st.tuples(places(), some_nints),
    backgrounds=st.lists(st.tuples(places(), some_nints), min_size=1, max_size=4),
)
def test_files_and_models_are_subtracted_alike(
    tmp_path: Path, target: Any, backgrounds: Any
) -> None:
    from stdatamodels.jwst import datamodels

    assume(any(overlaps(target[0], place) for place, _ in backgrounds))
    paths = [
        expose(tmp_path / f"e{i}.fits", pixels_at(i, *each), dq=1 << i, keywords=each[0].keywords)
        for i, each in enumerate([target, *backgrounds])
    ]
    output = tmp_path / "result.fits"
    offsky.subtract_file(paths[0], paths[1:], output, maxiters=0, overwrite=True)

    level, dq, n_kept = average_on_detector(target[0], backgrounds)
    sci = pixels_at(0, *target)
    expected = np.where(n_kept, sci - level, sci)
    np.testing.assert_allclose(pixels(output), expected, rtol=0, atol=3e-4)
    np.testing.assert_array_equal(pixels(output, "DQ"), np.broadcast_to(dq | 1, sci.shape))
    with ExitStack() as stack:
        models = [stack.enter_context(datamodels.open(path)) for path in paths]
        result = stack.enter_context(offsky.subtract(models[0], models[1:], maxiters=0))
        np.testing.assert_array_equal(result.data, pixels(output))
        np.testing.assert_array_equal(result.dq, pixels(output, "DQ"))


TARGET = Place(9, 8, 10, 6)
RELATIONS = {
    "left": Place(1, 8, 12, 6),
    "right": Place(15, 8, 12, 6),
    "below": Place(9, 1, 10, 9),
    "above": Place(9, 12, 10, 11),
    "corner": Place(1, 1, 9, 8),  # one pixel
    "other corner": Place(18, 13, 9, 10),  # one pixel
    "inside": Place(11, 9, 3, 2),
    "around": Place(5, 3, 20, 18),
    "full": FULL,
    "same": TARGET,
    "a column": Place(12, 1, 1, NY),
    "a row": Place(1, 10, NX, 1),
}


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("nints", [None, 2])
def test_from_every_side_it_is_subtracted_where_it_covers(
    folder: Path, relation: str, nints: int | None
) -> None:
    place = RELATIONS[relation]
    target = expose(folder / "t.fits", pixels_at(0, TARGET, nints), keywords=TARGET.keywords)
    background = expose(
        folder / "b.fits", pixels_at(1, place, nints), dq=4, keywords=place.keywords
    )
    outcome = offsky.subtract_file(target, [background], "r.fits", combined_path="c.fits")

    common = np.zeros((NY, NX), dtype=bool)
    common[place.on_detector] = True
    common = common[TARGET.on_detector]
    # With itself as a background each pixel would leave 0; numbers differ by 1000.
    difference = pixels("r.fits") - pixels(target)
    integration = 0.0 if nints is None else 0.125
    coordinates = pixels_at(1, TARGET, None) + integration
    np.testing.assert_array_equal(
        np.broadcast_to(np.where(common, -coordinates, 0.0), difference.shape), difference
    )
    np.testing.assert_array_equal(pixels("r.fits", "DQ") == 4, difference != 0)
    assert outcome.n_uncovered == np.count_nonzero(~common)
    # The average has the target's window: missing is NaN, not 0.
    assert pixels("c.fits").shape == TARGET[:1:-1]
    np.testing.assert_array_equal(np.isnan(pixels("c.fits")), ~common)
    np.testing.assert_array_equal(np.isnan(pixels("c.fits", "ERR")), ~common)
    np.testing.assert_array_equal(pixels("c.fits", "N_KEPT"), common)


APART = {
    "left": Place(1, 8, 8, 6),
    "right": Place(19, 8, 5, 6),
    "below": Place(9, 1, 10, 7),
    "above": Place(9, 14, 10, 3),
}


def test_a_background_elsewhere_is_dropped_with_a_warning_and_the_others_count(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = expose(folder / "t.fits", 10, shape=(6, 10), keywords=TARGET.keywords)
    near = expose(folder / "near.fits", 1, shape=(6, 10), keywords=TARGET.keywords)
    far = [
        expose(folder / f"{name}.fits", 5, shape=place[:1:-1], keywords=place.keywords)
        for name, place in APART.items()
    ]
    outcome = offsky.subtract_file(target, [*far, near], "r.fits", combined_path="c.fits")

    assert outcome.status == "COMPLETE"
    assert outcome.backgrounds == ("near.fits",)
    assert (pixels("r.fits") == 9).all()
    warned = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    for (name, place), (dropped, reason) in zip(APART.items(), outcome.dropped, strict=True):
        last = (place.xstart + place.xsize - 1, place.ystart + place.ysize - 1)
        where = f"x {place.xstart}-{last[0]}, y {place.ystart}-{last[1]}"
        assert (dropped, reason) == (f"{name}.fits", f"does not overlap ({where})")
        assert sum(dropped in line and reason in line for line in warned) == 1
    assert [row["FATE"] for row in rows_of("c.fits")] == ["dropped"] * 4 + ["used"]


@pytest.mark.parametrize("side", APART)
def test_where_none_overlaps_the_target_is_skipped(folder: Path, side: str) -> None:
    from stdatamodels.jwst import datamodels

    place = APART[side]
    target = expose(folder / "t.fits", 10, shape=(6, 10), keywords=TARGET.keywords)
    far = expose(folder / "far.fits", 5, dq=4, shape=place[:1:-1], keywords=place.keywords)
    outcome = offsky.subtract_file(target, [far], "r.fits", combined_path="c.fits")
    assert outcome.status == "SKIPPED"
    assert outcome.dropped[0][0] == "far.fits"
    assert not Path("c.fits").exists()
    assert (pixels("r.fits") == 10).all()
    assert not pixels("r.fits", "DQ").any()
    with datamodels.open("r.fits") as saved, offsky.subtract(target, [far]) as model:
        assert saved.meta.cal_step.bkg_subtract == model.meta.cal_step.bkg_subtract == "SKIPPED"
        np.testing.assert_array_equal(model.data, 10)
