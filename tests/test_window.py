"""Windows of detector pixels: pure arithmetic, and how a place is told from a header."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offsky.errors import ExposureMismatchError
from offsky.selection.placing import Placement, place
from offsky.values.metadata import Metadata
from offsky.values.window import Window

DETECTOR = 24  # rows and columns that random windows lie in

starts, sizes = st.integers(0, 12), st.integers(1, 12)
windows = st.builds(Window, x0=starts, y0=starts, nx=sizes, ny=sizes)


def covered(window: Window | None) -> np.ndarray:
    """Return which pixels of a detector a window covers, pixel by pixel."""
    y, x = np.mgrid[:DETECTOR, :DETECTOR]
    if window is None:
        return np.zeros(y.shape, dtype=bool)
    rows = (window.y0 <= y) & (y < window.y0 + window.ny)
    return rows & (window.x0 <= x) & (x < window.x0 + window.nx)


@given(windows, windows)
def test_an_overlap_is_the_pixels_that_both_cover(a: Window, b: Window) -> None:
    np.testing.assert_array_equal(covered(a.overlap(b)), covered(a) & covered(b))
    assert (a.overlap(b) is None) == (not (covered(a) & covered(b)).any())


@given(windows, windows, windows)
def test_overlaps_do_not_depend_on_the_order(a: Window, b: Window, c: Window) -> None:
    results = set()
    for first, second, third in permutations((a, b, c)):
        both = first.overlap(second)
        results.add(None if both is None else both.overlap(third))
    assert len(results) == 1
    assert a.overlap(a) == a


@given(windows, windows)
def test_slices_cut_the_very_pixels_of_the_overlap(a: Window, b: Window) -> None:
    y, x = np.mgrid[:DETECTOR, :DETECTOR]
    detector = 100 * y + x
    overlap = a.overlap(b)
    if overlap is None:
        return
    for outer in (a, b):
        whole = detector[outer.y0 : outer.y0 + outer.ny, outer.x0 : outer.x0 + outer.nx]
        cut = whole[overlap.slices_within(outer)]
        assert cut.shape == (overlap.ny, overlap.nx)
        np.testing.assert_array_equal(cut.ravel(), detector[covered(overlap)])


@given(windows, windows, st.integers(-50, 50), st.integers(-50, 50))
def test_overlaps_move_with_the_windows(a: Window, b: Window, dx: int, dy: int) -> None:
    def moved(window: Window) -> Window:
        return Window(window.x0 + dx, window.y0 + dy, window.nx, window.ny)

    overlap = a.overlap(b)
    assert moved(a).overlap(moved(b)) == (None if overlap is None else moved(overlap))


@given(windows)
def test_a_window_is_written_as_headers_count(window: Window) -> None:
    y, x = np.nonzero(covered(window))
    # 1-based, last pixel included.
    expected = f"x {x.min() + 1}-{x.max() + 1}, y {y.min() + 1}-{y.max() + 1}"
    assert str(window) == expected


# Where an exposure lies


def exposure(
    name: str, shape: tuple[int, int], window: Any = None, instrument: str | None = "MIRI"
) -> Placement:
    """Make a placement; `window` is SUBSTRT1, SUBSTRT2, SUBSIZE1, SUBSIZE2."""
    xstart, ystart, xsize, ysize = window or (None, None, None, None)
    metadata = Metadata(
        instrument=instrument, xstart=xstart, ystart=ystart, xsize=xsize, ysize=ysize
    )
    return Placement(name, shape, metadata)


@given(st.lists(windows, min_size=1, max_size=5))
def test_keywords_that_fit_their_arrays_are_followed(chosen: list[Window]) -> None:
    exposures = [
        exposure(f"e{i}", (w.ny, w.nx), (w.x0 + 1, w.y0 + 1, w.nx, w.ny))
        for i, w in enumerate(chosen)
    ]
    assert place(exposures) == (chosen, None)


FULL = [
    ("MIRI", (1024, 1032)),
    ("miri", (1024, 1032)),
    ("NIRCAM", (2048, 2048)),
    ("NIRSPEC", (2048, 2048)),
    ("NIRISS", (2048, 2048)),
    (None, (2048, 2048)),
]


@pytest.mark.parametrize(("instrument", "shape"), FULL)
def test_a_full_frame_needs_no_keywords(instrument: str | None, shape: tuple[int, int]) -> None:
    full = exposure("full", shape, None, instrument)
    sub = exposure("sub", (32, 64), (101, 201, 64, 32), instrument)
    frame = Window(0, 0, shape[1], shape[0])
    assert place([full, full]) == ([frame, frame], None)
    assert place([sub, full]) == ([Window(100, 200, 64, 32), frame], None)
    assert place([full, sub]) == ([frame, Window(100, 200, 64, 32)], None)


@pytest.mark.parametrize(
    ("instrument", "shape"),
    [
        ("MIRI", (2048, 2048)),
        ("MIRI", (1032, 1024)),
        ("NIRCAM", (1024, 1032)),
        (None, (1024, 1032)),
        ("NIRSPEC", (2048, 2047)),
    ],
)
def test_the_full_frame_of_another_instrument_is_none(
    instrument: str | None, shape: tuple[int, int]
) -> None:
    nowhere = exposure("nowhere.fits", shape, None, instrument)
    sub = exposure("sub.fits", (32, 64), (101, 201, 64, 32), instrument)
    for exposures in ([nowhere, sub], [sub, nowhere]):
        with pytest.raises(ExposureMismatchError, match=r"^nowhere\.fits: without SUBSTRT") as e:
            place(exposures)
        assert f"{shape[0]} rows by {shape[1]} columns" in str(e.value)


def test_arrays_of_one_shape_without_keywords_share_a_window() -> None:
    alike = [exposure(f"e{i}", (7, 9)) for i in range(4)]
    found, warning = place(alike)
    assert warning is None
    assert len(set(found)) == 1
    assert (found[0].ny, found[0].nx) == (7, 9)


def test_arrays_of_other_shapes_without_keywords_are_refused() -> None:
    with pytest.raises(ExposureMismatchError, match=r"^a: .* 7 rows by 9 columns"):
        place([exposure("a", (7, 9)), exposure("b", (9, 7))])


@pytest.mark.parametrize("order", [1, -1])
def test_one_without_keywords_lies_where_all_others_of_its_shape_lie(order: int) -> None:
    known = exposure("known", (7, 9), (11, 21, 9, 7))
    unknown = exposure("unknown", (7, 9))
    found, warning = place([known, unknown, known][::order])
    assert found == [Window(10, 20, 9, 7)] * 3
    assert warning is not None
    assert "unknown" in warning


def test_one_without_keywords_is_refused_where_the_others_disagree() -> None:
    here, there = exposure("here", (7, 9), (1, 1, 9, 7)), exposure("there", (7, 9), (2, 1, 9, 7))
    with pytest.raises(ExposureMismatchError, match=r"^unknown: without SUBSTRT1/2"):
        place([here, there, exposure("unknown", (7, 9))])


def test_a_start_without_a_size_is_followed() -> None:
    # Of one shape, but not of one place: sharing a window would shift one of them.
    def at(xstart: int) -> Placement:
        return exposure(f"at{xstart}", (7, 9), (xstart, 1, None, None))

    assert place([at(1), at(5)])[0] == [Window(0, 0, 9, 7), Window(4, 0, 9, 7)]


CROPPED = (1, 1, 288, 224)  # of an array of 210 rows by 215 columns


def test_keywords_that_contradict_arrays_alike_give_one_window_and_one_warning() -> None:
    cropped = [exposure(f"e{i}.fits", (210, 215), CROPPED) for i in range(4)]
    found, warning = place(cropped)
    assert found == [Window(0, 0, 215, 210)] * 4
    assert warning is not None
    assert warning.startswith("e0.fits: 210 rows by 215 columns where SUBSIZE2 and SUBSIZE1 say")
    assert "224 by 288" in warning


@pytest.mark.parametrize(
    "other",
    [
        exposure("other.fits", (224, 288), CROPPED),
        exposure("other.fits", (210, 215), (1, 1, 215, 210)),
        exposure("other.fits", (210, 215), (5, 1, 288, 224)),
        exposure("other.fits", (210, 215)),
        exposure("other.fits", (1024, 1032)),
    ],
    ids=["whole", "keywords mended", "another start", "no keywords", "full frame"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_any_other_contradiction_names_both(other: Placement, order: int) -> None:
    cropped = exposure("cropped.fits", (210, 215), CROPPED)
    with pytest.raises(ExposureMismatchError) as error:
        place([cropped, other, cropped][::order])
    message = str(error.value)
    assert "cropped.fits: 210 rows by 215 columns where SUBSIZE2 and SUBSIZE1 say" in message
    assert f"other.fits: {other.shape[0]} rows by {other.shape[1]} columns" in message
    assert "\n" not in message
